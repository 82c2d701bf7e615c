"""One booking as its client sees it, on the confirmation and the manage page."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import agenda, links
from consult.booking.agenda import BookingView
from consult.booking.models import Service
from consult.errors import NotFound
from consult.people.models import Specialist
from web.booking.offers import Offer, Person, initials
from web.keys import CLOCK, PRACTICE, SETTINGS, VAULT


@dataclass(frozen=True, slots=True)
class Appointment:
    """Everything the client's pages show. The URLs carry secrets: for these pages only."""

    booking: BookingView
    offer: Offer
    join_url: str
    ics_url: str
    changeable: bool
    joinable: bool  # the join window is open

    @property
    def id(self) -> str:
        return self.booking.id

    @property
    def cancelled(self) -> bool:
        return self.booking.status == "cancelled"


async def load_appointment(request: web.Request, session: AsyncSession, booking_id: str) -> Appointment | None:
    """By id, for a caller whose capability was checked. None when this practice has no such booking."""
    vault = request.app[VAULT]
    try:
        booking = await agenda.find(session, vault, request.app[PRACTICE].id, booking_id)
    except NotFound:
        return None
    service = await session.get_one(Service, booking.service_id)
    specialist = await session.get_one(Specialist, booking.specialist_id)
    person = Person(
        id=specialist.id,
        slug=specialist.slug,
        name=booking.specialist_name,
        title=specialist.title,
        initials=initials(booking.specialist_name),
        url=f"/book/{service.slug}/{specialist.slug}",
    )
    now = request.app[CLOCK]()
    public_url = request.app[SETTINGS].public_url
    return Appointment(
        booking=booking,
        offer=Offer(service, (person,), person),
        join_url=links.join_url(public_url, vault, booking.consultation_id, booking.client_participant_id),
        ics_url=f"/manage/{booking.id}/appointment.ics",
        changeable=booking.changeable_by_client(now),
        joinable=booking.consultation_status == "open" and booking.opens_at <= now < booking.closes_at,
    )
