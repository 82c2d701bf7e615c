"""Booking on both databases: races, moves, cancellations, holds, keys. Scenarios of the product reference by number."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import IntegrityError

from consult.booking import agenda, allocation, availability, bookings, services
from consult.booking.bookings import CLIENT, Actor, Booked
from consult.booking.models import Booking, Consultation, Participant
from consult.booking.requests import BookingRequest
from consult.booking.slots import ServiceRules
from consult.db import Database, new_id
from consult.errors import Conflict, Invalid, NotFound, SlotTaken
from consult.people import accounts
from consult.people.models import Person
from tests.integration.clinic import NOW, OFFICE, TUESDAY_9, Clinic, hours, open_clinic

ADMIN = Actor("admin")
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def clinic(database: Database) -> Clinic:
    return await open_clinic(database)


async def book(clinic: Clinic, request: BookingRequest, now: datetime = NOW, by: Actor = CLIENT) -> Booked:
    async with clinic.database.write() as session:
        return await bookings.book(session, clinic.vault, request, now, by=by)


async def offered(
    clinic: Clinic, now: datetime = NOW, days: int = 7, **options: object
) -> list[availability.OfferedSlot]:
    async with clinic.database.read() as session:
        service = await services.find_service(session, clinic.practice_id, clinic.service_id)
        assert service is not None
        return await availability.offer(
            session,
            services.rules_of(service.service),
            clinic.specialist_ids[:1],
            now,
            now + timedelta(days=days),
            now,
            **options,  # type: ignore[arg-type]
        )


async def test_a_booking_has_a_consultation_two_seats_and_sealed_words(clinic: Clinic) -> None:
    booked = await book(clinic, clinic.wish())
    assert (booked.status, booked.start, booked.end) == ("confirmed", TUESDAY_9, TUESDAY_9 + hours(0.5))
    assert booked.change_deadline == TUESDAY_9 - hours(2)
    async with clinic.database.read() as session:
        row = await session.get_one(Booking, booked.id)
        assert row.blocks_until == TUESDAY_9 + 40 * MINUTE
        assert row.reason_sealed is not None
        assert b"Canary" not in row.reason_sealed
        consultation = await session.get_one(Consultation, booked.consultation_id)
        assert consultation.opens_at == TUESDAY_9 - 10 * MINUTE
        assert consultation.closes_at == booked.end + 15 * MINUTE
        seats = (await session.scalars(select(Participant.role).order_by(Participant.role))).all()
        assert seats == ["client", "specialist"]
        view = await agenda.find(session, clinic.vault, clinic.practice_id, booked.id)
    assert view.client_name == "Client 0"
    assert view.client_email == "client0@example.org"
    assert view.reason == "Canary reason"
    assert view.specialist_name == "Dr. Ada Stone 0"
    assert view.client_participant_id == booked.client_participant_id


async def test_1_two_hundred_race_for_one_slot_and_one_wins(clinic: Clinic) -> None:
    results = await asyncio.gather(
        *(book(clinic, clinic.wish(number=number)) for number in range(200)), return_exceptions=True
    )
    won = [result for result in results if isinstance(result, Booked)]
    lost = [result for result in results if isinstance(result, SlotTaken)]
    assert Counter(type(result).__name__ for result in results) == {"Booked": 1, "SlotTaken": 199}
    free = {slot.start for slot in await offered(clinic)}
    assert won[0].start not in free
    for error in lost:
        starts = [one.start for one in error.alternatives]
        assert len(starts) == 3
        assert starts == sorted(starts)
        assert set(starts) <= free, "what is offered instead is free"
    # 09:00 is the first of the day; nearest are what follows it, and the afternoon before
    assert [one.start - TUESDAY_9 for one in lost[0].alternatives] == [hours(1), hours(1.5), hours(2)]


@pytest.mark.parametrize("status", ["held", "pending", "confirmed"])
async def test_2_held_and_pending_rows_are_constrained(clinic: Clinic, status: str) -> None:
    booked = await book(clinic, clinic.wish())
    async with clinic.database.write() as session:
        await session.execute(
            update(Booking).where(Booking.id == booked.id).values(status=status, held_until=NOW + hours(1))
        )
    with pytest.raises(SlotTaken):
        await book(clinic, clinic.wish(number=1))
    with pytest.raises(SlotTaken):
        # 09:30 is inside the buffer after 09:00 to 09:30
        await book(clinic, clinic.wish(TUESDAY_9 + hours(0.5), number=1))
    assert (await book(clinic, clinic.wish(TUESDAY_9 + hours(1), number=1))).status == "confirmed"


@pytest.mark.parametrize("status", ["held", "pending", "confirmed"])
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_2_the_database_itself_refuses_an_overlap(clinic: Clinic, status: str) -> None:
    booked = await book(clinic, clinic.wish())
    async with clinic.database.read() as session:
        first = await session.get_one(Booking, booked.id)

    def overlapping(shift: timedelta) -> Booking:
        return Booking(
            id=new_id(),
            practice_id=first.practice_id,
            service_id=first.service_id,
            specialist_id=first.specialist_id,
            status=status,
            starts_at=first.starts_at + shift,
            ends_at=first.ends_at + shift,
            blocks_from=first.blocks_from + shift,
            blocks_until=first.blocks_until + shift,
            zone="Etc/UTC",
            language="en",
            sequence=0,
            created_at=NOW,
            changed_at=NOW,
        )

    with pytest.raises(IntegrityError, match="ex_booking_no_overlap"):
        async with clinic.database.write() as session:
            session.add(overlapping(39 * MINUTE))
    async with clinic.database.write() as session:
        session.add(overlapping(40 * MINUTE))


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_what_only_the_constraint_sees_is_a_taken_slot(clinic: Clinic) -> None:
    """A writer that takes no lock: the constraint still decides, and the error has alternatives."""
    booked = await book(clinic, clinic.wish())
    async with clinic.database.write() as session:
        first = await session.get_one(Booking, booked.id)
        copy = {column.key: getattr(first, column.key) for column in Booking.__table__.columns}
        with pytest.raises(SlotTaken) as caught:
            await allocation.write(
                session,
                Booking(**copy | {"id": new_id()}),
                ServiceRules(30, 30),
                clinic.specialist_ids[:1],
                NOW,
            )
    assert len(caught.value.alternatives) == 3


async def test_5_every_slot_shown_can_be_booked_and_nothing_else(clinic: Clinic) -> None:
    async with clinic.database.write() as session:
        await availability.set_exception(
            session, clinic.practice_id, clinic.specialist_ids[0], date(2026, 3, 18), [(600, 720)]
        )
        await availability.set_exception(session, clinic.practice_id, clinic.specialist_ids[0], date(2026, 3, 19), [])
    await book(clinic, clinic.wish(TUESDAY_9 + hours(2)))
    shown = {slot.start for slot in await offered(clinic, days=4)}
    assert len(shown) > 20
    assert not any(start.date() == date(2026, 3, 19) for start in shown)
    # Monday 08:00 to Friday, each quarter of an hour
    possible = [NOW + n * 15 * MINUTE for n in range(4 * 24 * 4)]
    assert shown <= set(possible)
    number = 1
    for start in possible[::3]:
        async with clinic.database.write() as session:
            try:
                await bookings.book(session, clinic.vault, clinic.wish(start, number), NOW)
                bookable = True
            except SlotTaken:
                bookable = False
            await session.rollback()
        assert bookable == (start in shown), start
        number += 1


async def test_6_a_booking_does_not_stand_in_its_own_way(clinic: Clinic) -> None:
    async with clinic.database.write() as session:
        service = await services.find_service(session, clinic.practice_id, clinic.service_id)
        assert service is not None
        service.service.step_minutes = 15
    booked = await book(clinic, clinic.wish())
    async with clinic.database.write() as session:
        moved = await bookings.reschedule(session, clinic.practice_id, booked.id, TUESDAY_9 + 15 * MINUTE, CLIENT, NOW)
        assert (moved.sequence, moved.starts_at) == (1, TUESDAY_9 + 15 * MINUTE)
        assert moved.blocks_until == TUESDAY_9 + 55 * MINUTE
    async with clinic.database.read() as session:
        consultation = await session.get_one(Consultation, booked.consultation_id)
    assert consultation.opens_at == TUESDAY_9 + 5 * MINUTE
    assert TUESDAY_9 in {slot.start for slot in await offered(clinic, ignore_booking=booked.id)}


async def test_a_move_to_a_taken_time_changes_nothing(clinic: Clinic) -> None:
    one = await book(clinic, clinic.wish())
    two = await book(clinic, clinic.wish(TUESDAY_9 + hours(1), number=1))
    with pytest.raises(SlotTaken) as caught:
        async with clinic.database.write() as session:
            await bookings.reschedule(session, clinic.practice_id, two.id, TUESDAY_9, CLIENT, NOW)
    assert len(caught.value.alternatives) == 3
    async with clinic.database.read() as session:
        rows = (await session.execute(select(Booking.id, Booking.starts_at, Booking.sequence))).all()
    assert {tuple(row) for row in rows} == {(one.id, one.start, 0), (two.id, two.start, 0)}


async def test_racing_moves_to_one_slot(clinic: Clinic) -> None:
    made = [await book(clinic, clinic.wish(TUESDAY_9 + hours(number), number=number)) for number in range(1, 8)]

    async def move(booked: Booked) -> Booking:
        async with clinic.database.write() as session:
            return await bookings.reschedule(session, clinic.practice_id, booked.id, TUESDAY_9, ADMIN, NOW)

    results = await asyncio.gather(*(move(booked) for booked in made), return_exceptions=True)
    assert Counter(type(result).__name__ for result in results) == {"Booking": 1, "SlotTaken": 6}


async def test_moving_two_bookings_past_each_other_never_deadlocks(clinic: Clinic) -> None:
    one = await book(clinic, clinic.wish())
    two = await book(clinic, clinic.wish(TUESDAY_9 + hours(1), number=1))
    for turn in range(5):

        async def move(booked: Booked, start: datetime) -> None:
            async with clinic.database.write() as session:
                await bookings.reschedule(session, clinic.practice_id, booked.id, start, ADMIN, NOW)

        results = await asyncio.gather(
            move(one, TUESDAY_9 + hours(2 + turn)), move(two, TUESDAY_9 + hours(2 + turn)), return_exceptions=True
        )
        assert all(result is None or isinstance(result, SlotTaken) for result in results)


async def test_7_nine_stays_nine_over_the_change_of_the_clocks(clinic: Clinic) -> None:
    friday, monday = datetime(2026, 3, 27, 8, tzinfo=UTC), datetime(2026, 3, 30, 7, tzinfo=UTC)
    assert (await book(clinic, clinic.wish(friday))).start == friday
    assert (await book(clinic, clinic.wish(monday, number=1))).start == monday
    with pytest.raises(SlotTaken):
        await book(clinic, clinic.wish(monday - hours(1), number=2))


async def test_10_staff_bypass_the_notice_and_mail_goes_in_the_clients_zone(clinic: Clinic) -> None:
    now = TUESDAY_9 - 30 * MINUTE
    with pytest.raises(SlotTaken):
        await book(clinic, clinic.wish(), now)
    booked = await book(clinic, clinic.wish(), now, by=Actor("specialist", clinic.specialist_ids[0]))
    assert booked.zone == "America/New_York"


async def test_20_the_change_deadline_is_the_servers(clinic: Clinic) -> None:
    booked = await book(clinic, clinic.wish())
    late = booked.change_deadline + timedelta(seconds=1)
    async with clinic.database.write() as session:
        changes = (
            bookings.cancel(session, clinic.practice_id, booked.id, CLIENT, late),
            bookings.reschedule(session, clinic.practice_id, booked.id, TUESDAY_9 + hours(4), CLIENT, late),
        )
        for change in changes:
            with pytest.raises(Conflict) as caught:
                await change
            assert caught.value.code == "too_late"
    async with clinic.database.write() as session:
        # 20 minutes away: inside the notice that clients have to keep
        moved = await bookings.reschedule(
            session, clinic.practice_id, booked.id, TUESDAY_9 + hours(1), ADMIN, TUESDAY_9 + 40 * MINUTE - hours(1)
        )
        assert moved.starts_at == TUESDAY_9 + hours(1)
        cancelled = await bookings.cancel(session, clinic.practice_id, booked.id, ADMIN, late)
        assert (cancelled.status, cancelled.cancelled_by, cancelled.sequence) == ("cancelled", "admin", 2)


async def test_a_cancelled_time_is_free_again_and_stays_cancelled(clinic: Clinic) -> None:
    booked = await book(clinic, clinic.wish())
    async with clinic.database.write() as session:
        await bookings.cancel(session, clinic.practice_id, booked.id, CLIENT, NOW)
    again = await book(clinic, clinic.wish(number=1))
    assert again.start == TUESDAY_9
    for by in (CLIENT, ADMIN):
        with pytest.raises(Conflict) as caught:
            async with clinic.database.write() as session:
                await bookings.cancel(session, clinic.practice_id, booked.id, by, NOW)
        assert caught.value.code == "already_cancelled"
    async with clinic.database.read() as session:
        consultation = await session.get_one(Consultation, booked.consultation_id)
    assert consultation.status == "cancelled"


async def test_nobody_changes_what_is_not_theirs(clinic: Clinic) -> None:
    booked = await book(clinic, clinic.wish())
    other = Actor("specialist", clinic.specialist_ids[1])
    for practice, actor, id in (
        (clinic.practice_id, other, booked.id),
        ("another practice", ADMIN, booked.id),
        (clinic.practice_id, ADMIN, "nobody"),
        (clinic.practice_id, ADMIN, "\0"),
    ):
        with pytest.raises(NotFound):
            async with clinic.database.write() as session:
                await bookings.cancel(session, practice, id, actor, NOW)


async def test_a_person_found_by_address_keeps_the_name_on_file(clinic: Clinic) -> None:
    await book(clinic, clinic.wish(name="Maria Real", email="maria@example.org"))
    second = await book(
        clinic, clinic.wish(TUESDAY_9 + hours(1), name="Someone Else", email=" MARIA@example.org", zone="Asia/Kolkata")
    )
    async with clinic.database.read() as session:
        people = (
            await session.scalars(
                select(Person).where(Person.email_index == clinic.vault.email_index("maria@example.org"))
            )
        ).all()
        assert len(people) == 1
        names = await accounts.person_names(session, clinic.vault, [people[0].id])
        view = await agenda.find(session, clinic.vault, clinic.practice_id, second.id)
    assert names[people[0].id] == "Maria Real"
    assert people[0].zone == "America/New_York"
    assert (view.client_name, view.zone) == ("Someone Else", "Asia/Kolkata")


async def test_two_first_bookings_of_one_address_make_one_person(clinic: Clinic) -> None:
    await asyncio.gather(
        *(
            book(clinic, clinic.wish(email="new@example.org", specialist=specialist, number=number))
            for number, specialist in enumerate(clinic.specialist_ids)
        )
    )
    async with clinic.database.read() as session:
        index = clinic.vault.email_index("new@example.org")
        assert await session.scalar(select(func.count()).where(Person.email_index == index)) == 1


async def test_anybody_is_shared_out_fairly(clinic: Clinic) -> None:
    got: Counter[str] = Counter()
    for number in range(8):
        booked = await book(clinic, clinic.wish(TUESDAY_9 + hours(number // 2), number, specialist="any"))
        got[booked.specialist_id] += 1
    assert sorted(got.values()) == [4, 4]
    with pytest.raises(SlotTaken):
        await book(clinic, clinic.wish(number=9, specialist=None))


async def test_the_same_key_gets_the_same_answer(clinic: Clinic) -> None:
    wish = clinic.wish(idempotency_key="retry-1")
    results = await asyncio.gather(*(book(clinic, wish) for _ in range(20)))
    assert {replace(result, repeated=False) for result in results} == {replace(results[0], repeated=False)}
    assert sum(not result.repeated for result in results) == 1
    async with clinic.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Booking)) == 1
    with pytest.raises(Conflict) as caught:
        await book(clinic, replace(wish, name="Another"))
    assert caught.value.code == "idempotency_mismatch"
    # another key is another request
    with pytest.raises(SlotTaken):
        await book(clinic, replace(wish, idempotency_key="retry-2"))
    # and a refused request leaves its key free
    assert (await book(clinic, clinic.wish(TUESDAY_9 + hours(2), idempotency_key="retry-2"))).repeated is False


async def test_every_wrong_field_is_named_at_once(clinic: Clinic) -> None:
    wish = clinic.wish(
        name=" ",
        email="nobody\r\nBcc: all@example.org",
        start="tomorrow",
        zone="Mars/Olympus",
        consent=False,
        service="\0",
        answers={"reason": "x" * 4_001},
    )
    with pytest.raises(Invalid) as caught:
        await book(clinic, wish)
    assert {problem.pointer for problem in caught.value.problems} == {
        "/client/name",
        "/client/email",
        "/start",
        "/zone",
        "/consent",
        "/service",
        "/answers/reason",
    }
    for change, pointer in (
        ({"specialist": "nobody"}, "/specialist"),
        ({"start": NOW - MINUTE}, "/start"),
        ({"start": "9999-12-31T23:59:59-23:00"}, "/start"),
        ({"start": "2026-03-17T09:00:00"}, "/start"),
    ):
        with pytest.raises(Invalid) as caught:
            await book(clinic, clinic.wish(**change))
        assert [problem.pointer for problem in caught.value.problems] == [pointer]


async def hold(clinic: Clinic, now: datetime = NOW) -> bookings.Held:
    async with clinic.database.write() as session:
        return await bookings.hold(
            session,
            clinic.vault,
            clinic.practice_id,
            clinic.service_id,
            clinic.specialist_ids[0],
            TUESDAY_9,
            "Europe/Berlin",
            now,
        )


async def test_a_hold_keeps_the_slot_for_its_holder_alone(clinic: Clinic) -> None:
    held = await hold(clinic)
    with pytest.raises(SlotTaken):
        await book(clinic, clinic.wish(number=1))
    with pytest.raises(SlotTaken):
        await hold(clinic)
    booked = await book(clinic, clinic.wish(hold=held.token), NOW + 4 * MINUTE)
    assert booked.start == TUESDAY_9
    async with clinic.database.read() as session:
        assert (await session.scalars(select(Booking.status))).all() == ["confirmed"]


async def test_a_hold_that_ran_out_blocks_nobody(clinic: Clinic) -> None:
    held = await hold(clinic)
    later = held.held_until
    assert TUESDAY_9 not in {slot.start for slot in await offered(clinic, later - MINUTE)}
    assert TUESDAY_9 in {slot.start for slot in await offered(clinic, later)}
    # no job has run in between: the booking itself clears it away
    booked = await book(clinic, clinic.wish(number=1), later)
    assert booked.start == TUESDAY_9
    with pytest.raises(SlotTaken):
        await book(clinic, clinic.wish(hold=held.token), later)


async def test_the_worker_expires_holds_and_a_hold_can_be_given_back(clinic: Clinic) -> None:
    held = await hold(clinic)
    async with clinic.database.write() as session:
        assert await allocation.expire_holds(session, NOW) == 0
        assert await allocation.expire_holds(session, held.held_until) == 1
    second = await hold(clinic)
    async with clinic.database.write() as session:
        await bookings.release(session, clinic.vault, "forged." + "x" * 32, NOW)
        await bookings.release(session, clinic.vault, second.token, NOW)
    assert (await book(clinic, clinic.wish())).start == TUESDAY_9


async def test_staff_say_how_it_went(clinic: Clinic) -> None:
    booked = await book(clinic, clinic.wish())
    own = Actor("specialist", clinic.specialist_ids[0])
    with pytest.raises(Conflict) as caught:
        async with clinic.database.write() as session:
            await bookings.mark(session, clinic.practice_id, booked.id, "no_show", own, NOW)
    assert caught.value.code == "not_started"
    async with clinic.database.write() as session:
        marked = await bookings.mark(session, clinic.practice_id, booked.id, "no_show", own, booked.end)
        assert marked.status == "no_show"
        marked = await bookings.mark(session, clinic.practice_id, booked.id, "completed", own, booked.end)
        assert marked.status == "completed"
    with pytest.raises(Conflict):
        async with clinic.database.write() as session:
            await bookings.cancel(session, clinic.practice_id, booked.id, ADMIN, booked.end)


async def test_the_desk_sees_its_own_week_in_a_constant_number_of_queries(clinic: Clinic) -> None:
    for number in range(6):
        await book(clinic, clinic.wish(TUESDAY_9 + hours(number), number, specialist=clinic.specialist_ids[number % 2]))
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    engine = clinic.database.engine.sync_engine
    async with clinic.database.read() as session:
        await session.execute(text("SELECT 1"))
        event.listen(engine, "before_cursor_execute", count)
        own = await agenda.list_bookings(
            session,
            clinic.vault,
            clinic.practice_id,
            specialist_id=clinic.specialist_ids[0],
            window_from=NOW,
            window_until=NOW + timedelta(days=7),
        )
        assert len(statements) == 2
        service = await services.find_service(session, clinic.practice_id, clinic.service_id)
        assert service is not None
        statements.clear()
        rules = services.rules_of(service.service)
        await availability.offer(session, rules, clinic.specialist_ids, NOW, NOW + timedelta(days=30), NOW)
        assert len(statements) == 4
        event.remove(engine, "before_cursor_execute", count)
        everybody = await agenda.list_bookings(
            session, clinic.vault, clinic.practice_id, window_from=NOW, window_until=NOW + timedelta(days=7)
        )
        coming = await agenda.next_booking(
            session, clinic.vault, clinic.practice_id, clinic.specialist_ids[0], TUESDAY_9 + 31 * MINUTE
        )
    assert [view.client_name for view in own] == ["Client 0", "Client 2", "Client 4"]
    assert len(everybody) == 6
    assert coming is not None
    assert coming.client_name == "Client 2"


async def test_hours_are_checked_before_they_are_kept(clinic: Clinic) -> None:
    specialist = clinic.specialist_ids[0]
    week = [list(OFFICE) for _ in range(7)]
    week[2] = [(540, 600), (590, 660), (700, 700), (1400, 1441)]
    with pytest.raises(Invalid) as caught:
        async with clinic.database.write() as session:
            await availability.set_weekly_hours(session, clinic.practice_id, specialist, week)
    assert [problem.pointer for problem in caught.value.problems] == ["/weekly/2/1", "/weekly/2/2", "/weekly/2/3"]
    async with clinic.database.write() as session:
        await availability.set_weekly_hours(session, clinic.practice_id, specialist, [[(0, 1440)]] * 7)
        await availability.set_exception(session, clinic.practice_id, specialist, date(2026, 3, 17), [])
        kept = await availability.hours(session, clinic.practice_id, specialist, date(2026, 3, 16))
        assert kept.weekly == (((0, 1440),),) * 7
        assert kept.exceptions == {date(2026, 3, 17): ()}
        await availability.remove_exception(session, clinic.practice_id, specialist, date(2026, 3, 17))
        kept = await availability.hours(session, clinic.practice_id, specialist, date(2026, 3, 16))
        assert kept.exceptions == {}
        with pytest.raises(NotFound):
            await availability.hours(session, "another practice", specialist, date(2026, 3, 16))


async def test_a_service_is_checked_and_its_address_is_its_own(clinic: Clinic) -> None:
    form = services.ServiceForm(name="First  Visit!", specialist_ids=clinic.specialist_ids)
    async with clinic.database.write() as session:
        second = await services.create_service(session, clinic.practice_id, form, NOW)
        assert second.slug == "first-visit-2"
        with pytest.raises(Invalid) as caught:
            await services.create_service(
                session,
                clinic.practice_id,
                services.ServiceForm(name="", duration_minutes=0, specialist_ids=["nobody"]),
                NOW,
            )
        assert {problem.pointer for problem in caught.value.problems} == {
            "/name",
            "/duration_minutes",
            "/specialist_ids",
        }
        await services.update_service(session, clinic.practice_id, second.id, replace(form, active=False))
        listed = await services.list_services(session, clinic.practice_id)
        assert [offer.service.id for offer in listed] == [clinic.service_id]
        cards = await services.list_specialists(session, clinic.vault, clinic.practice_id)
    assert [card.name for card in cards] == ["Dr. Ada Stone 0", "Dr. Ada Stone 1"]
    assert cards[0].service_ids == (clinic.service_id,)
    with pytest.raises(Invalid):
        await book(clinic, clinic.wish(service=second.id))
