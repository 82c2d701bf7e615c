"""The way into a consultation, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import fields
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from consult.booking import admission, bookings, links
from consult.booking.admission import Account, Grant, TicketRefused
from consult.booking.bookings import CLIENT, Booked
from consult.booking.models import Booking, Consultation, JoinTicket
from consult.booking.withdrawal import withdraw
from consult.db import Database
from consult.errors import Conflict, Invalid, NotFound
from consult.people import accounts
from signaling.admission import Grant as RoomGrant
from tests.integration.clinic import NOW, TUESDAY_9, Clinic, hours, open_clinic

MINUTE = timedelta(minutes=1)
OPEN = TUESDAY_9 - 5 * MINUTE


@pytest.fixture
async def clinic(database: Database) -> Clinic:
    return await open_clinic(database)


@pytest.fixture
async def booked(clinic: Clinic) -> Booked:
    async with clinic.database.write() as session:
        return await bookings.book(session, clinic.vault, clinic.wish(), NOW)


def token(clinic: Clinic, booked: Booked) -> str:
    return links.join_token(clinic.vault, booked.client_participant_id)


async def ticket(clinic: Clinic, booked: Booked, proof: str | Account | None = None, now: object = OPEN) -> str:
    async with clinic.database.write() as session:
        issued = await admission.issue_ticket(
            session,
            clinic.vault,
            booked.consultation_id,
            proof or token(clinic, booked),
            now,  # type: ignore[arg-type]
        )
    return issued.ticket


async def redeem(clinic: Clinic, text: str, now: object = OPEN) -> Grant:
    async with clinic.database.write() as session:
        return await admission.redeem_ticket(session, clinic.vault, text, now)  # type: ignore[arg-type]


def test_the_grant_is_what_the_room_wants() -> None:
    assert {field.name for field in fields(Grant)} == set(RoomGrant.__struct_fields__)


async def test_a_client_enters_by_link_and_a_specialist_by_account(clinic: Clinic, booked: Booked) -> None:
    grant = await redeem(clinic, await ticket(clinic, booked))
    assert (grant.role, grant.name, grant.admitted, grant.lobby) == ("client", "Client 0", False, True)
    assert grant.encryption == "end_to_end"
    assert grant.closes_at == booked.end + 15 * MINUTE
    account = Account(clinic.specialist_ids[0], clinic.practice_id)
    grant = await redeem(clinic, await ticket(clinic, booked, account))
    assert (grant.role, grant.name) == ("specialist", "Dr. Ada Stone 0")


async def test_what_a_disabled_specialist_held_opens_nothing(clinic: Clinic, booked: Booked) -> None:
    specialist = clinic.specialist_ids[0]
    account = Account(specialist, clinic.practice_id)
    early = await ticket(clinic, booked, account)
    async with clinic.database.write() as session:
        seat, _ = await admission.find_seat(session, clinic.vault, booked.consultation_id, account)
        await accounts.disable_account(session, clinic.practice_id, specialist, OPEN)
    with pytest.raises(TicketRefused):
        await redeem(clinic, early)
    for proof in (account, links.join_token(clinic.vault, seat.participant_id)):
        with pytest.raises(NotFound):
            await ticket(clinic, booked, proof)


async def test_signing_out_voids_what_is_not_used_yet(clinic: Clinic, booked: Booked) -> None:
    account = Account(clinic.specialist_ids[0], clinic.practice_id)
    early, clients = await ticket(clinic, booked, account), await ticket(clinic, booked)
    async with clinic.database.write() as session:
        places = await withdraw(session, account.person_id, OPEN)
    assert [consultation for consultation, _ in places] == [booked.consultation_id]
    with pytest.raises(TicketRefused):
        await redeem(clinic, early)
    assert (await redeem(clinic, clients)).role == "client"
    assert (await redeem(clinic, await ticket(clinic, booked, account))).role == "specialist"
    # a visit that runs far over its time is still there to be left
    async with clinic.database.write() as session:
        assert await withdraw(session, account.person_id, booked.end + timedelta(hours=5)) == places
        assert await withdraw(session, account.person_id, booked.end + timedelta(days=2)) == []


async def test_of_fifty_racers_with_one_ticket_one_enters(clinic: Clinic, booked: Booked) -> None:
    text = await ticket(clinic, booked)
    results = await asyncio.gather(*(redeem(clinic, text) for _ in range(50)), return_exceptions=True)
    assert Counter(type(result).__name__ for result in results) == {"Grant": 1, "TicketRefused": 49}
    assert {result.code for result in results if isinstance(result, TicketRefused)} == {"bad_ticket"}


async def test_a_ticket_is_short_lived_and_kept_as_a_hash(clinic: Clinic, booked: Booked) -> None:
    assert timedelta(minutes=5) >= admission.TICKET_LIFETIME
    text = await ticket(clinic, booked)
    async with clinic.database.read() as session:
        (kept,) = (await session.scalars(select(JoinTicket.token_hash))).all()
    assert text.encode() not in kept
    for wrong in (text[:-1], "", text + "\ud800"):
        with pytest.raises(TicketRefused):
            await redeem(clinic, wrong)
    with pytest.raises(TicketRefused) as caught:
        await redeem(clinic, text, OPEN + admission.TICKET_LIFETIME)
    assert caught.value.code == "bad_ticket"
    async with clinic.database.write() as session:
        await admission.forget_tickets(session, OPEN + 3 * admission.TICKET_LIFETIME)
        assert (await session.scalars(select(JoinTicket.token_hash))).all() == []


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (-timedelta(minutes=10, seconds=1), "too_early"),
        (-timedelta(minutes=10), None),
        (timedelta(minutes=44, seconds=59), None),
        (timedelta(minutes=45), "over"),
    ],
)
async def test_the_window_is_ten_minutes_before_to_fifteen_after(
    clinic: Clinic, booked: Booked, offset: timedelta, code: str | None
) -> None:
    now = TUESDAY_9 + offset
    if code is None:
        assert (await redeem(clinic, await ticket(clinic, booked, now=now), now)).role == "client"
        return
    with pytest.raises(Conflict) as caught:
        await ticket(clinic, booked, now=now)
    assert caught.value.code == code


async def test_a_visit_under_way_lets_people_back_in(clinic: Clinic, booked: Booked) -> None:
    late = booked.end + 30 * MINUTE
    with pytest.raises(Conflict):
        await ticket(clinic, booked, now=late)
    async with clinic.database.write() as session:
        await session.execute(update(Consultation).values(started_at=TUESDAY_9))
    assert (await redeem(clinic, await ticket(clinic, booked, now=late), late)).started_at == TUESDAY_9


async def test_links_of_others_open_nothing(clinic: Clinic, booked: Booked) -> None:
    async with clinic.database.write() as session:
        other = await bookings.book(session, clinic.vault, clinic.wish(TUESDAY_9 + hours(1), 1), NOW)
    mac = token(clinic, booked).partition(".")[2]
    for proof in (
        token(clinic, other),
        f"{other.client_participant_id}.{mac}",
        booked.client_participant_id,
        links.manage_token(clinic.vault, booked.id),
        "\0",
        Account(clinic.specialist_ids[1], clinic.practice_id),
        Account(clinic.specialist_ids[0], "another practice"),
    ):
        with pytest.raises(NotFound):
            await ticket(clinic, booked, proof)
    for consultation in ("\0", "nothing", ""):
        async with clinic.database.read() as session:
            with pytest.raises(NotFound):
                await admission.join_preview(session, clinic.vault, consultation, NOW)


async def test_being_let_in_survives_and_being_turned_away_does_too(clinic: Clinic, booked: Booked) -> None:
    seat = booked.client_participant_id
    async with clinic.database.write() as session:
        await admission.admitted(session, booked.consultation_id, seat, OPEN)
        await admission.admitted(session, booked.consultation_id, seat, OPEN + MINUTE)
        assert (await admission.regrant(session, clinic.vault, seat, OPEN)).admitted
    async with clinic.database.write() as session:
        await admission.refused(session, booked.consultation_id, seat, OPEN)
        assert not (await admission.regrant(session, clinic.vault, seat, OPEN)).admitted
        # an id of another room changes nothing
        await admission.admitted(session, "elsewhere", seat, OPEN)
        assert not (await admission.regrant(session, clinic.vault, seat, OPEN)).admitted


async def test_what_is_finished_stays_finished_and_completes_the_booking(clinic: Clinic, booked: Booked) -> None:
    early = await ticket(clinic, booked)
    async with clinic.database.write() as session:
        await admission.finished(session, booked.consultation_id, OPEN)
        await admission.finished(session, booked.consultation_id, OPEN + MINUTE)
    with pytest.raises(TicketRefused) as refused:
        await redeem(clinic, early)
    assert refused.value.code == "closed"
    with pytest.raises(Conflict) as caught:
        await ticket(clinic, booked)
    assert caught.value.code == "over"
    async with clinic.database.read() as session:
        assert (await session.get_one(Consultation, booked.consultation_id)).ended_at == OPEN
        assert (await session.get_one(Booking, booked.id)).status == "completed"


async def test_a_cancelled_one_cannot_be_entered(clinic: Clinic, booked: Booked) -> None:
    async with clinic.database.write() as session:
        await bookings.cancel(session, clinic.practice_id, booked.id, CLIENT, NOW)
    with pytest.raises(Conflict) as caught:
        await ticket(clinic, booked)
    assert caught.value.code == "cancelled"


async def test_the_preview_says_when_and_with_whom_and_nothing_about_the_client(clinic: Clinic, booked: Booked) -> None:
    async with clinic.database.read() as session:
        preview = await admission.join_preview(session, clinic.vault, booked.consultation_id, NOW)
    assert (preview.specialist_name, preview.service_name) == ("Dr. Ada Stone 0", "First visit")
    assert (preview.start, preview.phase, preview.opens_at) == (TUESDAY_9, "early", TUESDAY_9 - 10 * MINUTE)
    assert "Client 0" not in repr(preview)


async def test_an_ad_hoc_consultation_is_open_now_for_guests(clinic: Clinic) -> None:
    async with clinic.database.write() as session:
        room = await admission.create_consultation(session, clinic.practice_id, "transport", NOW)
        seat, link = await admission.add_participant(
            session, clinic.vault, clinic.practice_id, room.id, "participant", "Jo Guest", NOW
        )
        await admission.add_participant(session, clinic.vault, clinic.practice_id, room.id, "viewer", "Screen", NOW)
        issued = await admission.issue_ticket(session, clinic.vault, room.id, link, NOW)
    grant = await redeem(clinic, issued.ticket, NOW)
    assert (grant.name, grant.role, grant.lobby, grant.encryption) == ("Jo Guest", "participant", False, "transport")
    async with clinic.database.read() as session:
        device = await admission.grant_of_token(session, clinic.vault, room.id, link, NOW)
        assert device.participant == seat.participant_id
        preview = await admission.join_preview(session, clinic.vault, room.id, NOW)
        assert (preview.phase, preview.specialist_name, preview.start) == ("open", None, None)
        with pytest.raises(TicketRefused):
            await admission.grant_of_token(session, clinic.vault, room.id, link, NOW + timedelta(hours=24))


async def test_wrong_wishes_for_seats_are_named(clinic: Clinic, booked: Booked) -> None:
    async with clinic.database.write() as session:
        with pytest.raises(Invalid) as caught:
            await admission.create_consultation(session, clinic.practice_id, "none", NOW)
        assert [problem.pointer for problem in caught.value.problems] == ["/encryption"]
        with pytest.raises(Invalid) as caught:
            await admission.add_participant(
                session, clinic.vault, clinic.practice_id, booked.consultation_id, "specialist", "", NOW
            )
        assert [problem.pointer for problem in caught.value.problems] == ["/role", "/name"]
        with pytest.raises(NotFound):
            await admission.add_participant(
                session, clinic.vault, "another practice", booked.consultation_id, "viewer", "X", NOW
            )
