"""Bookings are written here and nowhere else.

A time is given only if `availability.offer` still offers it, asked again inside the writing transaction. Before asking,
the transaction takes the row locks of the specialists on PostgreSQL (on SQLite it holds the only write lock), so the
answer stays true until the commit; the exclusion constraint stands behind that for whatever else may write.

All functions run in the caller's `Database.write()` transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import allocation, clients, idempotency, links, services
from consult.booking.models import BLOCKING_STATUSES, Booking, Consultation, Participant, Service
from consult.booking.requests import BookingRequest, check_request, check_start
from consult.db import new_id
from consult.errors import Conflict, Invalid, NotFound, Problem
from consult.notify import reminders
from consult.people.contact import clean_zone
from consult.privacy.vault import Vault

# the field's address in the vault
ANSWERS = "booking.answers"
ANY_SPECIALIST = "any"
HOLD_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes a booking. A client came by the manage link of that very booking; a specialist may change their own
    bookings; an admin all of the practice."""

    role: Literal["client", "specialist", "admin"]
    person_id: str | None = None

    @property
    def is_staff(self) -> bool:
        return self.role != "client"

    def may_change(self, booking: Booking) -> bool:
        return self.role != "specialist" or booking.specialist_id == self.person_id


CLIENT = Actor("client")


@dataclass(frozen=True, slots=True)
class Booked:
    """A booking as its maker is told. The tokens are made into URLs by `booking.links`."""

    id: str
    practice_id: str
    service_id: str
    specialist_id: str
    status: str
    start: datetime
    end: datetime
    zone: str
    sequence: int
    consultation_id: str
    client_participant_id: str
    change_deadline: datetime  # until then the client may cancel or reschedule
    repeated: bool = False  # answered from an Idempotency-Key


@dataclass(frozen=True, slots=True)
class Held:
    """A slot kept free while the client types. `token` goes into BookingRequest.hold."""

    token: str
    start: datetime
    end: datetime
    specialist_id: str
    held_until: datetime


async def book(
    session: AsyncSession, vault: Vault, request: BookingRequest, now: datetime, *, by: Actor = CLIENT
) -> Booked:
    """Make a booking with its consultation, its two seats, and its messages.

    Raises Invalid (pointers as in the REST body), SlotTaken with the three nearest free slots, or Conflict
    `idempotency_mismatch`. Staff bypass the minimum notice; their bookings mail in the client's zone and language too.
    """
    checked, problems = check_request(request, now)
    service = await services.find_service(session, request.practice_id, request.service)
    candidates = _candidates(service, request.specialist, problems)
    if problems or checked is None or service is None:
        raise Invalid(problems)

    key = None
    if request.idempotency_key is not None:
        claimed = await idempotency.claim(session, vault, request, now)
        if isinstance(claimed, str):
            return await _booked_before(session, claimed)
        key = claimed

    rules = services.rules_of(service.service)
    await allocation.lock(session, candidates)
    held = await _own_hold(session, vault, request, service.service.id, checked.start, now)
    specialist_id, end = await allocation.take(
        session,
        request.practice_id,
        rules,
        candidates,
        checked.start,
        now,
        ignore_booking=held.id if held is not None else None,
        bypass_notice=by.is_staff or held is not None,
        preferred=held.specialist_id if held is not None else None,
    )
    client_id, keyring = await clients.find_or_add_client(session, vault, request, checked, specialist_id, now)
    booking = held if held is not None else Booking(id=new_id(), practice_id=request.practice_id, created_at=now)
    booking.service_id = service.service.id
    booking.specialist_id = specialist_id
    booking.client_id = client_id
    booking.status = "confirmed"
    booking.starts_at, booking.ends_at = checked.start, end
    booking.blocks_from, booking.blocks_until = rules.blocked(checked.start)
    booking.held_until = None
    booking.zone, booking.language = checked.zone, checked.language
    booking.sequence = 0
    booking.consented_at = now
    booking.changed_at = now
    if any(checked.answers.values()):
        answers = json.dumps(checked.answers, ensure_ascii=False)
        booking.reason_sealed = keyring.seal(ANSWERS, booking.id, client_id, answers)
    await allocation.write(session, booking, rules, candidates, now, bypass_notice=by.is_staff)
    if key is not None:
        key.booking_id = booking.id
    consultation, seat = await clients.open_seats(session, keyring, booking, checked.name, now)
    await reminders.plan(session, booking, "confirmed", now)
    return _booked(booking, service.service, consultation.id, seat.id)


async def hold(
    session: AsyncSession,
    vault: Vault,
    practice_id: str,
    service: str,
    specialist: str | None,
    start: datetime | str,
    zone: str,
    now: datetime,
) -> Held:
    """Keep a slot for HOLD_FOR while the form is filled in. Raises as `book` does."""
    problems: list[Problem] = []
    moment = check_start(start, now, problems)
    clean_zone(zone, "/zone", problems)
    found = await services.find_service(session, practice_id, service)
    candidates = _candidates(found, specialist, problems)
    if problems or moment is None or found is None:
        raise Invalid(problems)
    rules = services.rules_of(found.service)
    specialist_id, end = await allocation.take(session, practice_id, rules, candidates, moment, now)
    blocks_from, blocks_until = rules.blocked(moment)
    booking = Booking(
        id=new_id(),
        practice_id=practice_id,
        service_id=found.service.id,
        specialist_id=specialist_id,
        client_id=None,
        status="held",
        starts_at=moment,
        ends_at=end,
        blocks_from=blocks_from,
        blocks_until=blocks_until,
        held_until=now + HOLD_FOR,
        zone=zone,
        language="en",
        sequence=0,
        created_at=now,
        changed_at=now,
    )
    await allocation.write(session, booking, rules, candidates, now)
    return Held(vault.token(links.HOLD, booking.id), moment, end, specialist_id, now + HOLD_FOR)


async def release(session: AsyncSession, vault: Vault, token: str, now: datetime) -> None:
    """Give a held slot back. A token that holds nothing any more is no error."""
    booking_id = vault.token_id(links.HOLD, token)
    if booking_id is not None:
        await session.execute(
            update(Booking)
            .where(Booking.id == booking_id, Booking.status == "held")
            .values(status="expired", changed_at=now)
        )


async def cancel(session: AsyncSession, practice_id: str, booking_id: str, by: Actor, now: datetime) -> Booking:
    """Raises NotFound, or Conflict: already_cancelled, over, too_late (a client after the deadline)."""
    booking, _ = await _changeable(session, practice_id, booking_id, by, now)
    booking.status = "cancelled"
    booking.cancelled_by = by.role
    booking.sequence += 1
    booking.changed_at = now
    await session.execute(update(Consultation).where(Consultation.booking_id == booking.id).values(status="cancelled"))
    await session.flush()
    await reminders.plan(session, booking, "cancelled", now)
    return booking


async def reschedule(
    session: AsyncSession,
    practice_id: str,
    booking_id: str,
    new_start: datetime | str,
    by: Actor,
    now: datetime,
) -> Booking:
    """Move a booking to another free time of the same specialist; its own time does not stand in its way.

    Staff bypass the minimum notice. Raises NotFound, Invalid at /start, SlotTaken, Conflict as `cancel`."""
    problems: list[Problem] = []
    moment = check_start(new_start, now, problems)
    if moment is None:
        raise Invalid(problems)
    booking, service = await _changeable(session, practice_id, booking_id, by, now)
    if moment == booking.starts_at:
        return booking
    # the length and the buffers agreed on when it was booked may have changed since: the service's present ones count
    rules = services.rules_of(service)
    candidates = (booking.specialist_id,)
    _, end = await allocation.take(
        session,
        practice_id,
        rules,
        candidates,
        moment,
        now,
        ignore_booking=booking.id,
        bypass_notice=by.is_staff,
    )
    booking.starts_at, booking.ends_at = moment, end
    booking.blocks_from, booking.blocks_until = rules.blocked(moment)
    booking.sequence += 1
    booking.changed_at = now
    await allocation.write(session, booking, rules, candidates, now, bypass_notice=by.is_staff)
    await session.execute(
        update(Consultation)
        .where(Consultation.booking_id == booking.id)
        .values(opens_at=moment - clients.JOIN_BEFORE, closes_at=end + clients.JOIN_AFTER)
    )
    await reminders.plan(session, booking, "rescheduled", now)
    return booking


async def mark(
    session: AsyncSession,
    practice_id: str,
    booking_id: str,
    outcome: Literal["completed", "no_show"],
    by: Actor,
    now: datetime,
) -> Booking:
    """Say how it went; staff may correct it later. Raises NotFound, Conflict `not_started` or `already_cancelled`."""
    booking, _ = await _locked(session, practice_id, booking_id, by)
    if not by.is_staff or booking.status not in {"confirmed", "completed", "no_show"}:
        raise Conflict("This appointment was cancelled.", code="already_cancelled")
    if now < booking.starts_at:
        raise Conflict("This appointment has not begun yet.", code="not_started")
    booking.status = outcome
    booking.changed_at = now
    await session.flush()
    await reminders.withdraw_reminders(session, booking.id)
    return booking


async def complete_finished(session: AsyncSession, booking_id: str, now: datetime) -> None:
    """The specialist ended the visit in the room: a booking that was confirmed is completed."""
    await session.execute(
        update(Booking)
        .where(Booking.id == booking_id, Booking.status == "confirmed", Booking.starts_at <= now + clients.JOIN_BEFORE)
        .values(status="completed", changed_at=now)
    )
    await reminders.withdraw_reminders(session, booking_id)


def change_deadline(service: Service, booking: Booking) -> datetime:
    return booking.starts_at - timedelta(minutes=service.change_deadline_minutes)


def _candidates(
    service: services.OfferedService | None, specialist: str | None, problems: list[Problem]
) -> tuple[str, ...]:
    """The specialists it may be with; adds a problem when there is none."""
    if service is None:
        problems.append(Problem("/service", "unknown", "Please choose one of the services offered."))
        return ()
    if specialist in {None, "", ANY_SPECIALIST}:
        if not service.specialist_ids:
            problems.append(Problem("/specialist", "unknown", "Nobody offers this service at the moment."))
        return service.specialist_ids
    if specialist not in service.specialist_ids:
        problems.append(Problem("/specialist", "unknown", "Please choose one of the specialists offered."))
        return ()
    return (specialist,)


async def _own_hold(
    session: AsyncSession, vault: Vault, request: BookingRequest, service_id: str, start: datetime, now: datetime
) -> Booking | None:
    """The live hold this request comes with, if it is for what is booked now. One for something else is given back."""
    booking_id = vault.token_id(links.HOLD, request.hold) if request.hold else None
    if booking_id is None:
        return None
    booking = await session.get(Booking, booking_id, with_for_update=True, populate_existing=True)
    if booking is None or booking.status != "held" or booking.practice_id != request.practice_id:
        return None
    fits = booking.service_id == service_id and booking.starts_at == start and booking.held_until is not None
    wanted = request.specialist
    fits = fits and (wanted in {None, "", ANY_SPECIALIST} or wanted == booking.specialist_id)
    if fits and booking.held_until is not None and booking.held_until > now:
        return booking
    booking.status = "expired"
    booking.changed_at = now
    await session.flush()
    return None


async def _booked_before(session: AsyncSession, booking_id: str) -> Booked:
    rows = await session.execute(
        select(Booking, Service, Consultation.id, Participant.id)
        .join(Service, Service.id == Booking.service_id)
        .join(Consultation, Consultation.booking_id == Booking.id)
        .join(Participant, (Participant.consultation_id == Consultation.id) & (Participant.role == "client"))
        .where(Booking.id == booking_id)
    )
    booking, service, consultation_id, participant_id = rows.one()
    return _booked(booking, service, consultation_id, participant_id, repeated=True)


async def _locked(session: AsyncSession, practice_id: str, booking_id: str, by: Actor) -> tuple[Booking, Service]:
    missing = NotFound("This appointment does not exist.")
    if not services.is_reference(booking_id):
        raise missing
    booking = await session.get(Booking, booking_id, with_for_update=True, populate_existing=True)
    if booking is None or booking.practice_id != practice_id or booking.status in {"held", "expired"}:
        raise missing
    if not by.may_change(booking):
        raise missing
    return booking, await session.get_one(Service, booking.service_id)


async def _changeable(
    session: AsyncSession, practice_id: str, booking_id: str, by: Actor, now: datetime
) -> tuple[Booking, Service]:
    if services.is_reference(booking_id):
        # the same order of locks as in `book`: specialist, then booking
        specialist_id = await session.scalar(select(Booking.specialist_id).where(Booking.id == booking_id))
        if specialist_id is not None:
            await allocation.lock(session, [specialist_id])
    booking, service = await _locked(session, practice_id, booking_id, by)
    if booking.status == "cancelled":
        raise Conflict("This appointment is already cancelled.", code="already_cancelled")
    if booking.status not in BLOCKING_STATUSES or now >= booking.ends_at:
        raise Conflict("This appointment is over.", code="over")
    if not by.is_staff and now > change_deadline(service, booking):
        raise Conflict(
            "It is too late to change this appointment online. Please contact the practice.", code="too_late"
        )
    return booking, service


def _booked(
    booking: Booking, service: Service, consultation_id: str, participant_id: str, *, repeated: bool = False
) -> Booked:
    return Booked(
        id=booking.id,
        practice_id=booking.practice_id,
        service_id=booking.service_id,
        specialist_id=booking.specialist_id,
        status=booking.status,
        start=booking.starts_at,
        end=booking.ends_at,
        zone=booking.zone,
        sequence=booking.sequence,
        consultation_id=consultation_id,
        client_participant_id=participant_id,
        change_deadline=change_deadline(service, booking),
        repeated=repeated,
    )
