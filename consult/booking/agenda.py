"""Bookings as people see them: the desk's day and week, the client's manage page, the admin's list."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from consult.booking import bookings, links
from consult.booking.clients import PARTICIPANT_NAME
from consult.booking.models import Booking, Consultation, Participant, Service
from consult.booking.services import is_reference
from consult.errors import NotFound
from consult.people import accounts
from consult.people.models import Person
from consult.privacy.vault import Keyring, Vault

# what a calendar shows; holds are not appointments yet
SHOWN_STATUSES = ("pending", "confirmed", "completed", "no_show", "cancelled")
MAX_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class BookingView:
    """A booking with its names opened. `client_name` is the one given with this booking; names of erased people are
    empty. `answers` are empty where the reader has no business with them (`with_answers`)."""

    id: str
    practice_id: str
    status: str
    start: datetime
    end: datetime
    zone: str  # the client's
    language: str
    sequence: int
    service_id: str
    service_name: str
    specialist_id: str
    specialist_name: str
    client_id: str | None
    client_name: str
    client_email: str
    answers: Mapping[str, str]
    consultation_id: str
    consultation_status: str
    opens_at: datetime
    closes_at: datetime
    client_participant_id: str
    specialist_participant_id: str
    change_deadline: datetime
    cancelled_by: str | None
    created_at: datetime
    changed_at: datetime

    def changeable_by_client(self, now: datetime) -> bool:
        return self.status in {"pending", "confirmed"} and now <= self.change_deadline

    @property
    def reason(self) -> str:
        return self.answers.get("reason", "")


_specialist = aliased(Person)
_client = aliased(Person)
_specialist_seat = aliased(Participant)
_client_seat = aliased(Participant)


def _query() -> Select[Booking, Service, Consultation, Person, Person, Participant, Participant]:
    return (
        select(Booking, Service, Consultation, _specialist, _client, _specialist_seat, _client_seat)
        .join(Service, Service.id == Booking.service_id)
        .join(Consultation, Consultation.booking_id == Booking.id)
        .join(_specialist, _specialist.id == Booking.specialist_id)
        .join(_client, _client.id == Booking.client_id)
        .join(
            _specialist_seat,
            (_specialist_seat.consultation_id == Consultation.id) & (_specialist_seat.role == "specialist"),
        )
        .join(_client_seat, (_client_seat.consultation_id == Consultation.id) & (_client_seat.role == "client"))
    )


async def find(session: AsyncSession, vault: Vault, practice_id: str, booking_id: str) -> BookingView:
    """One booking of the practice, for staff and the worker. Raises NotFound."""
    if not is_reference(booking_id):
        raise NotFound("This appointment does not exist.")
    found = await _views(
        session, vault, _query().where(Booking.id == booking_id, Booking.practice_id == practice_id), with_answers=True
    )
    if not found:
        raise NotFound("This appointment does not exist.")
    return found[0]


async def find_many(session: AsyncSession, vault: Vault, booking_ids: Collection[str]) -> dict[str, BookingView]:
    """Bookings by id, of any practice, without answers: for the worker."""
    if not booking_ids:
        return {}
    found = await _views(session, vault, _query().where(Booking.id.in_(booking_ids)), with_answers=False)
    return {view.id: view for view in found}


async def open_managed(session: AsyncSession, vault: Vault, token: str) -> BookingView:
    """The booking of a manage link's token. Raises NotFound for a token that proves nothing."""
    booking_id = vault.token_id(links.MANAGE, token)
    if booking_id is None:
        raise NotFound("This link does not open an appointment. Please check that it is complete.")
    found = await _views(session, vault, _query().where(Booking.id == booking_id), with_answers=True)
    if not found:
        raise NotFound("This link does not open an appointment. Please check that it is complete.")
    return found[0]


async def open_calendar_entry(session: AsyncSession, vault: Vault, booking_id: str, mac: str) -> BookingView:
    """The booking of an ICS link. Raises NotFound."""
    if not vault.check_capability(links.ICS, booking_id, mac):
        raise NotFound("This link does not open an appointment.")
    found = await _views(session, vault, _query().where(Booking.id == booking_id), with_answers=False)
    if not found:
        raise NotFound("This link does not open an appointment.")
    return found[0]


async def list_bookings(
    session: AsyncSession,
    vault: Vault,
    practice_id: str,
    *,
    specialist_id: str | None = None,
    window_from: datetime,
    window_until: datetime,
    statuses: Collection[str] = SHOWN_STATUSES,
    limit: int = MAX_ROWS,
) -> list[BookingView]:
    """What takes place in [window_from, window_until), by time: two queries however many there are.

    `specialist_id` None is the whole practice (admin)."""
    query = _query().where(
        Booking.practice_id == practice_id,
        Booking.starts_at < window_until,
        Booking.ends_at > window_from,
        Booking.status.in_(statuses),
    )
    if specialist_id is not None:
        query = query.where(Booking.specialist_id == specialist_id)
    query = query.order_by(Booking.starts_at, Booking.id).limit(min(limit, MAX_ROWS))
    return await _views(session, vault, query, with_answers=True)


async def next_booking(
    session: AsyncSession, vault: Vault, practice_id: str, specialist_id: str, now: datetime
) -> BookingView | None:
    """The one that runs now or comes next."""
    query = (
        _query()
        .where(
            Booking.practice_id == practice_id,
            Booking.specialist_id == specialist_id,
            Booking.status == "confirmed",
            Booking.ends_at > now,
        )
        .order_by(Booking.starts_at, Booking.id)
        .limit(1)
    )
    found = await _views(session, vault, query, with_answers=True)
    return found[0] if found else None


async def _views(
    session: AsyncSession,
    vault: Vault,
    query: Select[Booking, Service, Consultation, Person, Person, Participant, Participant],
    *,
    with_answers: bool,
) -> list[BookingView]:
    rows = (await session.execute(query)).all()
    people = {person.id for row in rows for person in (row[3], row[4])}
    keyring = await vault.keyring(session, people)
    return [_view(row, keyring, with_answers) for row in rows]


def _view(
    row: Row[Booking, Service, Consultation, Person, Person, Participant, Participant],
    keyring: Keyring,
    with_answers: bool,
) -> BookingView:
    booking, service, consultation, specialist, client, specialist_seat, client_seat = row
    answers: dict[str, str] = {}
    if with_answers and booking.reason_sealed is not None:
        answers = json.loads(keyring.open_or("{}", bookings.ANSWERS, booking.id, client.id, booking.reason_sealed))
    return BookingView(
        id=booking.id,
        practice_id=booking.practice_id,
        status=booking.status,
        start=booking.starts_at,
        end=booking.ends_at,
        zone=booking.zone,
        language=booking.language,
        sequence=booking.sequence,
        service_id=service.id,
        service_name=service.name,
        specialist_id=specialist.id,
        specialist_name=keyring.open_or("", accounts.NAME, specialist.id, specialist.id, specialist.name_sealed),
        client_id=client.id,
        client_name=keyring.open_or("", PARTICIPANT_NAME, client_seat.id, client.id, client_seat.name_sealed),
        client_email=keyring.open_or("", accounts.EMAIL, client.id, client.id, client.email_sealed),
        answers=answers,
        consultation_id=consultation.id,
        consultation_status=consultation.status,
        opens_at=consultation.opens_at,
        closes_at=consultation.closes_at,
        client_participant_id=client_seat.id,
        specialist_participant_id=specialist_seat.id,
        change_deadline=bookings.change_deadline(service, booking),
        cancelled_by=booking.cancelled_by,
        created_at=booking.created_at,
        changed_at=booking.changed_at,
    )
