"""The client of a booking as a person on file, and the consultation with its seats."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Booking, Consultation, Participant
from consult.booking.requests import BookingRequest, CheckedRequest
from consult.db import new_id
from consult.people import accounts
from consult.people.models import Person
from consult.privacy.vault import Keyring, Vault

PARTICIPANT_NAME = "participant.name"
# the join window of a booked consultation, before its start and after its end
JOIN_BEFORE = timedelta(minutes=10)
JOIN_AFTER = timedelta(minutes=15)


async def find_or_add_client(
    session: AsyncSession,
    vault: Vault,
    request: BookingRequest,
    checked: CheckedRequest,
    specialist_id: str,
    now: datetime,
) -> tuple[str, Keyring]:
    """The person of this e-mail address, or a new one, and a keyring with theirs and the specialist's key.

    A person found keeps the name and zone on file: whoever knows an address must not be able to rename its owner. The
    name given here stays with the booking, on its participant."""
    index = vault.email_index(checked.email)
    if session.get_bind().dialect.name == "postgresql":
        # two first bookings with one address make one person
        await session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(index[:8], "big", signed=True))))
    known = (
        await session.scalars(
            select(Person.id)
            .where(Person.practice_id == request.practice_id, Person.email_index == index)
            .order_by(Person.created_at, Person.id)
        )
    ).all()
    keyring = await vault.keyring(session, [specialist_id, *known])
    for person_id in known:
        if person_id in keyring:
            return person_id, keyring
    person, _ = await accounts.create_person(
        session,
        vault,
        practice_id=request.practice_id,
        name=checked.name,
        email=checked.email,
        zone=checked.zone,
        language=checked.language,
        now=now,
    )
    return person.id, await vault.keyring(session, [specialist_id, person.id])


async def open_seats(
    session: AsyncSession, keyring: Keyring, booking: Booking, client_name: str, now: datetime
) -> tuple[Consultation, Participant]:
    """The consultation and its two seats; returns it and the client's."""
    assert booking.client_id is not None
    consultation = Consultation(
        id=new_id(),
        practice_id=booking.practice_id,
        booking_id=booking.id,
        specialist_id=booking.specialist_id,
        encryption="end_to_end",
        status="open",
        opens_at=booking.starts_at - JOIN_BEFORE,
        closes_at=booking.ends_at + JOIN_AFTER,
        created_at=now,
    )
    session.add(consultation)
    specialist = await session.get_one(Person, booking.specialist_id)
    specialist_name = keyring.open(accounts.NAME, specialist.id, specialist.id, specialist.name_sealed)
    seats = []
    for role, person_id, name in (
        ("specialist", booking.specialist_id, specialist_name),
        ("client", booking.client_id, client_name),
    ):
        seat_id = new_id()
        seats.append(
            Participant(
                id=seat_id,
                consultation_id=consultation.id,
                person_id=person_id,
                role=role,
                name_sealed=keyring.seal(PARTICIPANT_NAME, seat_id, person_id, name),
                created_at=now,
            )
        )
    session.add_all(seats)
    await session.flush()
    return consultation, seats[1]
