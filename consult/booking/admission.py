"""The way into a consultation: seats, join links, single-use tickets, and what the room is told.

A join link's token proves a seat (participant); a signed-in specialist proves theirs by the account. Either is
exchanged for a ticket, which opens one WebSocket within TICKET_LIFETIME. The database uses a ticket up: one UPDATE that
only the first of any number of racers matches.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import delete, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import bookings, links
from consult.booking.clients import PARTICIPANT_NAME
from consult.booking.models import Booking, Consultation, JoinTicket, Participant, Service
from consult.booking.services import is_reference
from consult.db import UtcDateTime, new_id
from consult.errors import Conflict, ConsultError, Invalid, NotFound, Problem
from consult.people import accounts
from consult.people.contact import clean_name
from consult.people.models import Person
from consult.privacy.vault import Vault

Encryption = Literal["end_to_end", "transport"]
Role = Literal["specialist", "client", "participant", "viewer"]
Phase = Literal["early", "open", "over", "cancelled"]

TICKET_LIFETIME = timedelta(minutes=2)
AD_HOC_OPEN_FOR = timedelta(hours=24)
# a visit that is under way may go on, and a reload must not lock anybody out of it
OVERRUN = timedelta(hours=2)
SEATS_MAX = 100

_NO_SUCH = "This link does not open a consultation. Please check that it is complete."


class TicketRefused(ConsultError):
    """`code`: bad_ticket (unknown, used, expired) or closed (over or cancelled)."""

    def __init__(self, code: Literal["bad_ticket", "closed"]) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who somebody is and what they may do in the room; the fields of signaling's Grant."""

    consultation: str
    participant: str
    role: Role
    name: str
    admitted: bool
    lobby: bool
    started_at: datetime | None
    encryption: Encryption
    opens_at: datetime
    closes_at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """A signed-in specialist."""

    person_id: str
    practice_id: str


@dataclass(frozen=True, slots=True)
class Seat:
    """Whose link or account this is."""

    participant_id: str
    consultation_id: str
    role: Role
    name: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """`ticket` is told once and kept as a hash."""

    ticket: str
    expires_at: datetime
    seat: Seat


@dataclass(frozen=True, slots=True)
class JoinPreview:
    """What the pre-join page says before anybody proved who they are: nothing about the client."""

    consultation_id: str
    practice_id: str
    encryption: Encryption
    phase: Phase
    opens_at: datetime
    closes_at: datetime
    specialist_name: str | None  # None for an ad-hoc consultation
    service_name: str | None
    start: datetime | None
    end: datetime | None
    zone: str | None  # the client's


async def join_preview(session: AsyncSession, vault: Vault, consultation_id: str, now: datetime) -> JoinPreview:
    """Raises NotFound."""
    if not is_reference(consultation_id):
        raise NotFound(_NO_SUCH)
    row = (
        await session.execute(
            select(Consultation, Booking, Service, Person)
            .outerjoin(Booking, Booking.id == Consultation.booking_id)
            .outerjoin(Service, Service.id == Booking.service_id)
            .outerjoin(Person, Person.id == Consultation.specialist_id)
            .where(Consultation.id == consultation_id)
        )
    ).one_or_none()
    if row is None:
        raise NotFound(_NO_SUCH)
    # an outer join gives None where there is nothing
    consultation, booking, service, specialist = cast(
        "tuple[Consultation, Booking | None, Service | None, Person | None]", tuple(row)
    )
    name = None
    if specialist is not None:
        keyring = await vault.keyring(session, [specialist.id])
        name = keyring.open_or("", accounts.NAME, specialist.id, specialist.id, specialist.name_sealed)
    return JoinPreview(
        consultation_id=consultation.id,
        practice_id=consultation.practice_id,
        encryption=_encryption(consultation),
        phase=phase_of(consultation, now),
        opens_at=consultation.opens_at,
        closes_at=closing(consultation),
        specialist_name=name,
        service_name=service.name if service is not None else None,
        start=booking.starts_at if booking is not None else None,
        end=booking.ends_at if booking is not None else None,
        zone=booking.zone if booking is not None else None,
    )


async def find_seat(
    session: AsyncSession, vault: Vault, consultation_id: str, proof: str | Account
) -> tuple[Seat, Consultation]:
    """The seat a join link's token or a specialist's account opens in this consultation. Raises NotFound."""
    query = select(Participant, Consultation).join(Consultation, Consultation.id == Participant.consultation_id)
    if isinstance(proof, Account):
        if not is_reference(consultation_id):
            raise NotFound(_NO_SUCH)
        query = query.where(
            Consultation.practice_id == proof.practice_id,
            Consultation.specialist_id == proof.person_id,
            Participant.person_id == proof.person_id,
            Participant.role == "specialist",
        )
    else:
        participant_id = vault.token_id(links.JOIN, proof)
        if participant_id is None:
            raise NotFound(_NO_SUCH)
        query = query.where(Participant.id == participant_id)
    row = (await session.execute(query.where(Consultation.id == consultation_id))).one_or_none()
    if row is None:
        raise NotFound(_NO_SUCH)
    participant, consultation = row
    if not await _may_sit(session, participant):
        raise NotFound(_NO_SUCH)
    return await _seat(session, vault, participant), consultation


async def issue_ticket(
    session: AsyncSession, vault: Vault, consultation_id: str, proof: str | Account, now: datetime
) -> Ticket:
    """Exchange a proof for a ticket. Raises NotFound, Conflict: too_early, over, cancelled."""
    seat, consultation = await find_seat(session, vault, consultation_id, proof)
    match phase_of(consultation, now):
        case "early":
            raise Conflict("It is too early to join. The room opens 10 minutes before the start.", code="too_early")
        case "over":
            raise Conflict("This consultation is over.", code="over")
        case "cancelled":
            raise Conflict("This appointment was cancelled.", code="cancelled")
        case "open":
            pass
    ticket = secrets.token_urlsafe(32)
    expires_at = now + TICKET_LIFETIME
    session.add(
        JoinTicket(token_hash=_digest(ticket), participant_id=seat.participant_id, expires_at=expires_at, used_at=None)
    )
    await session.flush()
    return Ticket(ticket, expires_at, seat)


async def redeem_ticket(session: AsyncSession, vault: Vault, ticket: str, now: datetime) -> Grant:
    """Use a ticket up. Raises TicketRefused; of any number of racers one gets the grant."""
    used = await session.execute(
        update(JoinTicket)
        .where(JoinTicket.token_hash == _digest(ticket), JoinTicket.used_at.is_(None), JoinTicket.expires_at > now)
        .values(used_at=now)
        .returning(JoinTicket.participant_id)
        .execution_options(synchronize_session=False)
    )
    participant_id = used.scalar_one_or_none()
    if participant_id is None:
        raise TicketRefused("bad_ticket")
    return await regrant(session, vault, participant_id, now)


async def regrant(session: AsyncSession, vault: Vault, participant_id: str, now: datetime) -> Grant:
    """The present grant of a participant. Raises TicketRefused: closed, or bad_ticket for an unknown one."""
    row = (
        await session.execute(
            select(Participant, Consultation)
            .join(Consultation, Consultation.id == Participant.consultation_id)
            .where(Participant.id == participant_id)
        )
    ).one_or_none()
    if row is None:
        raise TicketRefused("bad_ticket")
    participant, consultation = row
    if phase_of(consultation, now) != "open":
        raise TicketRefused("closed")
    if not await _may_sit(session, participant):
        raise TicketRefused("bad_ticket")
    return _grant(await _seat(session, vault, participant), participant, consultation)


async def grant_of_token(session: AsyncSession, vault: Vault, consultation_id: str, token: str, now: datetime) -> Grant:
    """For devices (WHIP, WHEP), which bring the join link's token with each request. Raises NotFound, TicketRefused."""
    seat, consultation = await find_seat(session, vault, consultation_id, token)
    if phase_of(consultation, now) != "open":
        raise TicketRefused("closed")
    participant = await session.get_one(Participant, seat.participant_id)
    return _grant(seat, participant, consultation)


async def admitted(session: AsyncSession, consultation_id: str, participant_id: str, now: datetime) -> None:
    """The specialist let them in; the first time is kept."""
    await session.execute(
        update(Participant)
        .where(Participant.id == participant_id, Participant.consultation_id == consultation_id)
        .values(admitted_at=func.coalesce(Participant.admitted_at, literal(now, UtcDateTime())), removed_at=None)
        .execution_options(synchronize_session=False)
    )


async def refused(session: AsyncSession, consultation_id: str, participant_id: str, now: datetime) -> None:
    """The specialist turned them away or took them out: next time they wait again."""
    await session.execute(
        update(Participant)
        .where(Participant.id == participant_id, Participant.consultation_id == consultation_id)
        .values(admitted_at=None, removed_at=now)
        .execution_options(synchronize_session=False)
    )


async def finished(session: AsyncSession, consultation_id: str, now: datetime) -> None:
    """The specialist ended it: no ticket opens it again, its booking is completed. Twice is as good as once."""
    ended = await session.execute(
        update(Consultation)
        .where(Consultation.id == consultation_id, Consultation.status == "open")
        .values(status="ended", ended_at=func.coalesce(Consultation.ended_at, literal(now, UtcDateTime())))
        .returning(Consultation.booking_id)
        .execution_options(synchronize_session=False)
    )
    booking_id = ended.scalar_one_or_none()
    if booking_id is not None:
        await bookings.complete_finished(session, booking_id, now)


async def create_consultation(session: AsyncSession, practice_id: str, encryption: str, now: datetime) -> Consultation:
    """An ad-hoc consultation, open from now on for AD_HOC_OPEN_FOR. Raises Invalid at /encryption."""
    if encryption not in {"end_to_end", "transport"}:
        raise Invalid([Problem("/encryption", "unknown", "Please give end_to_end or transport.")])
    consultation = Consultation(
        id=new_id(),
        practice_id=practice_id,
        encryption=encryption,
        status="open",
        opens_at=now,
        closes_at=now + AD_HOC_OPEN_FOR,
        created_at=now,
    )
    session.add(consultation)
    await session.flush()
    return consultation


async def add_participant(
    session: AsyncSession,
    vault: Vault,
    practice_id: str,
    consultation_id: str,
    role: str,
    name: str,
    now: datetime,
) -> tuple[Seat, str]:
    """A seat for a guest of the API (role participant or viewer), and its join token. The guest is a person of their
    own, so their name can be erased. Raises NotFound, Invalid at /role or /name, Conflict: over, cancelled, full."""
    consultation = await session.get(Consultation, consultation_id) if is_reference(consultation_id) else None
    if consultation is None or consultation.practice_id != practice_id:
        raise NotFound("There is no such consultation.")
    problems: list[Problem] = []
    if role not in {"participant", "viewer"}:
        problems.append(Problem("/role", "unknown", "Please give participant or viewer."))
    name = clean_name(name, "/name", problems)
    if problems:
        raise Invalid(problems)
    match phase_of(consultation, now):
        case "over":
            raise Conflict("This consultation is over.", code="over")
        case "cancelled":
            raise Conflict("This appointment was cancelled.", code="cancelled")
    seats = await session.scalar(
        select(func.count()).select_from(Participant).where(Participant.consultation_id == consultation_id)
    )
    if seats is not None and seats >= SEATS_MAX:
        raise Conflict("This consultation has no more seats.", code="full")
    person, keyring = await accounts.create_person(
        session, vault, practice_id=practice_id, name=name, email="", zone="UTC", language="en", now=now
    )
    # no address: an index that no address has
    person.email_index = vault.email_index(f"{person.id}@guest.invalid")
    participant = Participant(
        id=new_id(), consultation_id=consultation_id, person_id=person.id, role=role, name_sealed=b"", created_at=now
    )
    participant.name_sealed = keyring.seal(PARTICIPANT_NAME, participant.id, person.id, name)
    session.add(participant)
    await session.flush()
    seat = Seat(participant.id, consultation_id, cast("Role", role), name)
    return seat, links.join_token(vault, participant.id)


async def forget_tickets(session: AsyncSession, now: datetime) -> None:
    """Used or run out, a ticket opens nothing: it need not be kept."""
    await session.execute(delete(JoinTicket).where(JoinTicket.expires_at < now - TICKET_LIFETIME))


def phase_of(consultation: Consultation, now: datetime) -> Phase:
    if consultation.status == "cancelled":
        return "cancelled"
    if consultation.status != "open" or now >= closing(consultation):
        return "over"
    return "early" if now < consultation.opens_at else "open"


def closing(consultation: Consultation) -> datetime:
    """Until when it can be joined: 15 minutes after the end, OVERRUN later for one that has begun."""
    return consultation.closes_at + (OVERRUN if consultation.started_at is not None else timedelta())


async def _may_sit(session: AsyncSession, participant: Participant) -> bool:
    """A specialist's seat is open while the account is: a ticket or a link from before must not outlive it."""
    return participant.role != "specialist" or await accounts.is_enabled(session, participant.person_id)


async def _seat(session: AsyncSession, vault: Vault, participant: Participant) -> Seat:
    keyring = await vault.keyring(session, [participant.person_id])
    return Seat(
        participant_id=participant.id,
        consultation_id=participant.consultation_id,
        role=cast("Role", participant.role),
        name=keyring.open_or("", PARTICIPANT_NAME, participant.id, participant.person_id, participant.name_sealed),
    )


def _grant(seat: Seat, participant: Participant, consultation: Consultation) -> Grant:
    return Grant(
        consultation=consultation.id,
        participant=participant.id,
        role=seat.role,
        name=seat.name,
        admitted=participant.admitted_at is not None,
        # a booked visit has a host who lets people in; guests of an ad-hoc one have nobody to wait for
        lobby=consultation.booking_id is not None,
        started_at=consultation.started_at,
        encryption=_encryption(consultation),
        opens_at=consultation.opens_at,
        closes_at=closing(consultation),
    )


def _encryption(consultation: Consultation) -> Encryption:
    return "transport" if consultation.encryption == "transport" else "end_to_end"


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
