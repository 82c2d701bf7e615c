"""A login that ended: nothing that it opened before opens a consultation any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Consultation, JoinTicket, Participant

# long after its planned end a conversation may still go on (admission.OVERRUN, and the room's own patience)
STILL_RUNNING = timedelta(hours=12)


async def withdraw(session: AsyncSession, person_id: str, now: datetime) -> list[tuple[str, str]]:
    """Void the unused tickets of a specialist's seats. Returns (consultation, participant) of every seat that may be
    taken now: the caller closes those places."""
    places = [
        (consultation_id, participant_id)
        for consultation_id, participant_id in await session.execute(
            select(Participant.consultation_id, Participant.id)
            .join(Consultation, Consultation.id == Participant.consultation_id)
            .where(
                Participant.person_id == person_id,
                Consultation.opens_at <= now,
                Consultation.closes_at >= now - STILL_RUNNING,
            )
        )
    ]
    if places:
        await session.execute(
            delete(JoinTicket).where(JoinTicket.participant_id.in_([participant_id for _, participant_id in places]))
        )
    return places
