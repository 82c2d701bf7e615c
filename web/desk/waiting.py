"""Who waits at the desk's door now, from the rooms themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web
from sqlalchemy import select

from consult.booking import agenda
from consult.booking.models import Consultation
from web.keys import CLOCK, DATABASE, HUB, VAULT, Identity


@dataclass(frozen=True, slots=True)
class WaitingClient:
    consultation_id: str
    participant_id: str
    name: str
    since: datetime
    service_name: str
    start: datetime


async def waiting_clients(request: web.Request, person: Identity) -> list[WaitingClient]:
    """Those who wait in the specialist's open consultations, the longest first."""
    now = request.app[CLOCK]()
    async with request.app[DATABASE].read() as session:
        open_now = set(
            await session.scalars(
                select(Consultation.id).where(
                    Consultation.practice_id == person.practice_id,
                    Consultation.specialist_id == person.person_id,
                    Consultation.status == "open",
                    Consultation.opens_at <= now,
                    Consultation.closes_at >= now,
                )
            )
        )
        if not open_now:
            return []
        waiting = await request.app[HUB].waiting(open_now)
        if not waiting:
            return []
        listed = await agenda.list_bookings(
            session,
            request.app[VAULT],
            person.practice_id,
            specialist_id=person.person_id,
            window_from=now - timedelta(days=1),
            window_until=now + timedelta(days=1),
        )
    known = {item.consultation_id: item for item in listed}
    found = [
        WaitingClient(
            consultation_id=consultation_id,
            participant_id=participant_id,
            name=name,
            since=since,
            service_name=known[consultation_id].service_name if consultation_id in known else "",
            start=known[consultation_id].start if consultation_id in known else now,
        )
        for consultation_id, participants in waiting.items()
        for participant_id, name, since in participants
    ]
    return sorted(found, key=lambda item: (item.since, item.participant_id))
