"""The client of a booking as a person on file, and the consultation with its seats."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Booking, Consultation, Participant
from consult.booking.requests import BookingRequest, CheckedRequest
from consult.db import new_id
from consult.people.models import Person
from consult.privacy.vault import Keyring, Vault

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
    person_id = new_id()
    own = await vault.new_person_key(session, person_id, now)
    session.add(
        Person(
            id=person_id,
            practice_id=request.practice_id,
            name_sealed=own.seal("person.name_sealed", person_id, person_id, checked.name),
            email_sealed=own.seal("person.email_sealed", person_id, person_id, checked.email),
            email_index=index,
            zone=checked.zone,
            language=request.language,
            created_at=now,
        )
    )
    await session.flush()
    return person_id, await vault.keyring(session, [specialist_id, person_id])


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
    specialist_name = keyring.open("person.name_sealed", specialist.id, specialist.id, specialist.name_sealed)
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
                name_sealed=keyring.seal("participant.name_sealed", seat_id, person_id, name),
                created_at=now,
            )
        )
    session.add_all(seats)
    await session.flush()
    return consultation, seats[1]
