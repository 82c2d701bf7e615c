"""The session log: nothing accepted is lost, and what is read back is what happened."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import delete, event, func, select
from sqlalchemy.exc import OperationalError

from consult.booking import admission, bookings
from consult.booking.models import Consultation
from consult.db import Database, new_id
from consult.errors import Conflict, Invalid, NotFound
from consult.people.models import DataKey, Practice
from consult.record import log as log_module
from consult.record import notes, queries
from consult.record.log import KeptLine, SessionLog
from consult.record.models import ChatMessage, QualitySample, SessionEvent
from consult.record.queries import Scope, SessionFilter
from tests.integration.practice import NOW, SmallPractice, open_practice

START = NOW + timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Measured:
    """As signaling's StatsSample."""

    direction: str = "subscribe"
    kind: str = "video"
    source: str = "camera"
    bitrate_bps: int = 1_200_000
    codec: str = "VP8"
    loss: float | None = 0.01
    rtt_ms: float | None = 40.0
    jitter_ms: float | None = 4.0
    width: int | None = 1280
    height: int | None = 720
    frames_per_second: float | None = 29.5
    freezes: int | None = 0


@pytest.fixture
async def practice(database: Database) -> SmallPractice:
    return await open_practice(database)


async def count(database: Database, model: type[SessionEvent] | type[QualitySample] | type[ChatMessage]) -> int:
    async with database.read() as session:
        return (await session.execute(select(func.count()).select_from(model))).scalar_one()


async def test_a_stop_writes_everything_accepted(practice: SmallPractice) -> None:
    booked = await practice.book(START)
    seats = await practice.seats(booked.consultation_id)
    async with SessionLog(practice.database, practice.vault) as log:
        for number in range(1_300):
            at = START + timedelta(seconds=number)
            await log.sample(booked.consultation_id, seats["client"], at, "browser", Measured())
        await log.event(booked.consultation_id, seats["client"], START, "joined")
        assert log.rows_waiting > 0
    assert log.rows_waiting == 0
    assert await count(practice.database, QualitySample) == 1_300
    assert await count(practice.database, SessionEvent) == 1
    with pytest.raises(RuntimeError):
        await log.event(booked.consultation_id, None, START, "ended")


async def test_rows_are_written_without_being_asked(practice: SmallPractice) -> None:
    booked = await practice.book(START)
    async with SessionLog(practice.database, practice.vault) as log:
        await log.event(booked.consultation_id, None, START, "started")
        async with asyncio.timeout(20):
            while log.rows_waiting:
                await asyncio.sleep(0.05)
        assert await count(practice.database, SessionEvent) == 1


async def test_the_database_goes_away_and_comes_back(practice: SmallPractice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "RETRY_SECONDS", (0.05,))
    booked = await practice.book(START)
    real, failures = log_module._insert, 0

    async def fail_at_first(session: object, batch: object) -> None:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise OperationalError("the server closed the connection", None, ConnectionError())
        await real(session, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(log_module, "_insert", fail_at_first)
    async with SessionLog(practice.database, practice.vault) as log:
        await log.event(booked.consultation_id, None, START, "started")
        await log.event(booked.consultation_id, None, START + MINUTE, "ended")
        await log.flush()
    assert failures == 3
    assert await count(practice.database, SessionEvent) == 2


async def test_postgresql_turns_everybody_away_for_a_while(
    postgres_template: str, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RETRY_SECONDS", (0.1,))
    name = f"t{new_id()}"
    operator = await asyncpg.connect(f"{postgres_server}/postgres")
    await operator.execute(f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    database = Database(f"{postgres_server}/{name}".replace("postgresql://", "postgresql+asyncpg://"))
    try:
        practice = await open_practice(database)
        booked = await practice.book(START)
        async with SessionLog(database, practice.vault) as log:
            await log.event(booked.consultation_id, None, START, "started")
            await log.flush()
            await operator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            await log.event(booked.consultation_id, None, START + MINUTE, "ended")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await log.flush()
            assert log.rows_waiting == 1
            await operator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            async with asyncio.timeout(30):
                await log.flush()
        assert await count(database, SessionEvent) == 2
    finally:
        await database.close()
        await operator.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await operator.close()


async def test_a_row_that_cannot_be_kept_takes_no_other_with_it(practice: SmallPractice) -> None:
    booked = await practice.book(START)
    seats = await practice.seats(booked.consultation_id)
    async with SessionLog(practice.database, practice.vault) as log:
        await log.event(booked.consultation_id, None, START, "started")
        await log.event("0" * 32, None, START, "started")
        await log.sample(booked.consultation_id, "1" * 32, START, "relay", Measured())
        await log.sample(booked.consultation_id, seats["client"], START, "browser", Measured(bitrate_bps=2**53 - 1))
        await log.event(booked.consultation_id, None, START, "k" * 100, "d" * 500)
        await log.flush()
        assert log.rows_refused == 2
        # PostgreSQL keeps no NUL in text; SQLite does
        await log.event(booked.consultation_id, None, START, "route", "u\x00dp")
        await log.flush()
        assert log.rows_refused == (2 if practice.database.is_sqlite else 3)
        with pytest.raises(ValueError, match="zone"):
            await log.event(booked.consultation_id, None, START.replace(tzinfo=None), "ended")
    assert await count(practice.database, SessionEvent) == (3 if practice.database.is_sqlite else 2)
    assert await count(practice.database, QualitySample) == 1


async def test_when_it_is_too_long_away_samples_go_and_events_stay(
    practice: SmallPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "SAMPLES_WAITING_MAX", 10)
    booked = await practice.book(START)
    seats = await practice.seats(booked.consultation_id)
    async with SessionLog(practice.database, practice.vault) as log:
        for _ in range(15):
            await log.sample(booked.consultation_id, seats["client"], START, "browser", Measured())
            await log.event(booked.consultation_id, None, START, "started")
        assert log.samples_given_up == 5
    assert await count(practice.database, QualitySample) == 10
    assert await count(practice.database, SessionEvent) == 15


async def test_starts_and_ends_are_marked_on_the_consultation(practice: SmallPractice) -> None:
    booked = await practice.book(START)
    async with SessionLog(practice.database, practice.vault) as log:
        for minutes, kind in ((0, "started"), (5, "ended"), (6, "started")):
            await log.event(booked.consultation_id, None, START + minutes * MINUTE, kind)
        await log.flush()
        async with practice.database.read() as session:
            again = await session.get_one(Consultation, booked.consultation_id)
            # it emptied and began anew: the first start stays, there is no end yet
            assert (again.started_at, again.ended_at) == (START, None)
        await log.event(booked.consultation_id, None, START + 9 * MINUTE, "ended")
    async with practice.database.read() as session:
        over = await session.get_one(Consultation, booked.consultation_id)
        assert (over.started_at, over.ended_at) == (START, START + 9 * MINUTE)


async def test_chat_is_kept_once_and_in_order(practice: SmallPractice) -> None:
    booked = await practice.book(START)
    other = await practice.book(START + 60 * MINUTE)
    seats = await practice.seats(booked.consultation_id)
    async with SessionLog(practice.database, practice.vault) as log:

        async def say(line_id: str, role: str, text: str, at: datetime) -> bool:
            return await log.chat(booked.consultation_id, KeptLine(line_id, seats[role], "", text, at), at)

        assert await say("b", "specialist", "Guten Tag", START)
        assert await say("a", "client", "Hallo 🙂", START + MINUTE)
        assert not await say("a", "client", "something else", START + 2 * MINUTE)
        assert [
            result
            for result in await asyncio.gather(*(say("c", "client", "x", START + 3 * MINUTE) for _ in range(8)))
            if result
        ] == [True]
        # a seat of another consultation writes nothing here
        stranger = (await practice.seats(other.consultation_id))["client"]
        assert not await log.chat(booked.consultation_id, KeptLine("d", stranger, "", "spam", START), START)
        # the same id in another consultation is another line
        assert await log.chat(other.consultation_id, KeptLine("a", stranger, "", "there", START), START)
        history = await log.chat_history(booked.consultation_id)
    assert [(line.id, line.name, line.text, line.at) for line in history] == [
        ("b", "Hanna Lindqvist", "Guten Tag", START),
        ("a", "Clara Jensen", "Hallo 🙂", START + MINUTE),
        ("c", "Clara Jensen", "x", START + 3 * MINUTE),
    ]


async def hold_session(
    practice: SmallPractice, start: datetime, *, bitrate: int = 1_200_000, size: tuple[int, int] = (1280, 720)
) -> str:
    """A call of ten minutes with a reconnect and samples of both sides."""
    booked = await practice.book(start)
    room = booked.consultation_id
    seats = await practice.seats(room)
    client, specialist = seats["client"], seats["specialist"]
    async with SessionLog(practice.database, practice.vault) as log:
        for seconds, seat, kind, detail in (
            (-60, client, "waiting", ""),
            (-20, specialist, "joined", ""),
            (-5, client, "admitted", ""),
            (0, client, "joined", ""),
            (0, None, "started", ""),
            (1, client, "route", "relayed"),
            (1, specialist, "route", "udp"),
            (1, client, "codec", "VP8"),
            (120, client, "reconnecting", "socket_lost"),
            (124, client, "reconnected", ""),
            (300, client, "left", "left"),
            (320, client, "joined", ""),
            (600, client, "left", "finished"),
            (600, specialist, "left", "finished"),
            (600, None, "ended", "finished"),
        ):
            await log.event(room, seat, start + timedelta(seconds=seconds), kind, detail)
        for step in range(1, 13):
            at = start + timedelta(seconds=5 * step)
            await log.sample(room, client, at, "relay", Measured("publish", width=None, height=None, freezes=None))
            await log.sample(
                room,
                client,
                at,
                "browser",
                Measured(bitrate_bps=bitrate, rtt_ms=30.0 + step, freezes=step == 3, width=size[0], height=size[1]),
            )
            await log.sample(
                room,
                client,
                at,
                "browser",
                Measured(kind="audio", source="microphone", codec="opus", bitrate_bps=30_000, width=None, height=None),
            )
    async with practice.database.write() as session:
        await admission.finished(session, room, start + 10 * MINUTE)
    return room


async def test_one_session_in_full(practice: SmallPractice) -> None:
    room = await hold_session(practice, START)
    later = START + timedelta(hours=5)
    async with practice.database.read() as session:
        detail = await queries.get_session(session, practice.vault, practice.scope, room, later)
    row = detail.row
    assert (row.status, row.start, row.started_at, row.duration_seconds) == ("ended", START, START, 600)
    assert (row.service, row.specialist, row.people, row.verdict) == ("Consultation", "Hanna Lindqvist", 2, "good")
    client = next(participant for participant in detail.participants if participant.role == "client")
    assert client.name == "Clara Jensen"
    assert [(stay.seconds, stay.reason) for stay in client.stays] == [(300, "left"), (280, "finished")]
    assert (client.seconds, client.waited_seconds, client.reconnects, client.route) == (580, 55, 1, "relayed")
    assert client.codecs == ("VP8", "opus")
    published, sound, video = sorted(client.streams, key=lambda stream: (stream.direction, stream.kind == "video"))
    assert published.direction == "publish"
    assert (sound.mean_bitrate_bps, sound.verdict) == (30_000, "good")
    assert (video.median_rtt_ms, video.mean_bitrate_bps, video.freezes) == (36.5, 1_200_000, 1)
    assert (video.width, video.height, video.seconds, video.verdict) == (1280, 720, 60, "good")
    assert video.mean_loss == pytest.approx(0.01)
    assert len(detail.series) == 3
    assert all(len(series.samples) == 12 for series in detail.series)
    times = [sample.at for sample in detail.series[0].samples]
    assert times == sorted(times)
    assert detail.events[0].kind == "waiting"
    specialist = next(participant for participant in detail.participants if participant.role == "specialist")
    assert (specialist.streams, specialist.seconds, specialist.route) == ((), 620, "udp")


async def statuses(practice: SmallPractice, now: datetime, **filters: object) -> list[str]:
    async with practice.database.read() as session:
        wanted = SessionFilter(**filters)  # type: ignore[arg-type]
        page = await queries.list_sessions(session, practice.vault, practice.scope, wanted, now)
        return [row.id for row in page.rows]


async def test_filters(practice: SmallPractice) -> None:
    good = await hold_session(practice, START)
    weak = await hold_session(practice, START + timedelta(hours=1), bitrate=500_000)
    poor = await hold_session(practice, START + timedelta(hours=2), bitrate=200_000)
    lost = await hold_session(practice, START + timedelta(hours=3), bitrate=20_000)
    missed = (await practice.book(START + timedelta(hours=4))).consultation_id
    cancelled = await practice.book(START + timedelta(hours=5))
    live = (await practice.book(START + timedelta(hours=6))).consultation_id
    upcoming = (await practice.book(START + timedelta(hours=30))).consultation_id
    async with practice.database.write() as session:
        await bookings.cancel(session, practice.id, cancelled.id, bookings.Actor("admin"), NOW)
    async with SessionLog(practice.database, practice.vault) as log:
        await log.event(live, None, START + timedelta(hours=6), "started")
    now = START + timedelta(hours=6, minutes=20)
    all_past = [live, cancelled.consultation_id, missed, lost, poor, weak, good]
    assert await statuses(practice, now) == all_past
    for quality, ids in (("good", [good]), ("non_optimal", [weak]), ("poor", [poor]), ("lost", [lost])):
        assert await statuses(practice, now, quality=quality) == ids
    for status, ids in (
        ("ended", [lost, poor, weak, good]),
        ("missed", [missed]),
        ("cancelled", [cancelled.consultation_id]),
        ("live", [live]),
        ("upcoming", [upcoming]),
        ("open", []),
    ):
        assert await statuses(practice, now, status=status) == ids, status
    # a call that overruns its window is still live; one that nobody entered is missed
    overtime = START + timedelta(hours=6, minutes=50)
    assert await statuses(practice, overtime, status="live") == [live]
    assert await statuses(practice, START + timedelta(hours=30, minutes=5), status="open") == [upcoming]
    assert await statuses(practice, now, since=START + timedelta(hours=4)) == all_past[:3]
    assert await statuses(practice, now, until=START + timedelta(hours=1)) == [good]
    assert await statuses(practice, now, specialist_id=practice.specialist_id) == all_past
    assert await statuses(practice, now, specialist_id="0" * 32) == []
    # what the list says of each row is what its filter says
    async with practice.database.read() as session:
        for moment in (now, overtime, now + timedelta(days=2)):
            page = await queries.list_sessions(session, practice.vault, practice.scope, SessionFilter(), moment)
            for row in page.rows:
                assert row.id in await statuses(practice, moment, status=row.status)
                if row.verdict is not None:
                    assert row.id in await statuses(practice, moment, quality=row.verdict)


async def test_the_lists_verdict_is_the_pages_verdict(practice: SmallPractice) -> None:
    """The score is computed in SQL for lists and in Python for one session: the same data, the same answer."""
    ids = []
    for number, bitrate in enumerate((1_500_000, 749_999, 750_000, 450_000, 449_000, 150_000, 149_000, 0)):
        ids.append(await hold_session(practice, START + timedelta(hours=number), bitrate=bitrate))
    # small and upright cameras have a smaller target
    for number, size in enumerate(((640, 360), (360, 640), (480, 854), (720, 1280), (0, 0))):
        ids.append(await hold_session(practice, START + timedelta(hours=10 + number), bitrate=400_000, size=size))
    later = START + timedelta(days=2)
    order = ("lost", "poor", "non_optimal", "good")
    verdicts = []
    async with practice.database.read() as session:
        for room in ids:
            detail = await queries.get_session(session, practice.vault, practice.scope, room, later)
            worst = min(
                (stream.verdict for person in detail.participants for stream in person.streams if stream.verdict),
                key=order.index,
            )
            assert detail.row.verdict == worst
            verdicts.append(worst)
    assert verdicts[8:] == ["good", "good", "good", "poor", "poor"]


async def test_pages(practice: SmallPractice) -> None:
    rooms = [(await practice.book(START + number * 30 * MINUTE)).consultation_id for number in range(7)]
    now = START + timedelta(days=1)
    seen: list[str] = []
    after = None
    pages = 0
    async with practice.database.read() as session:
        while True:
            page = await queries.list_sessions(
                session, practice.vault, practice.scope, SessionFilter(), now, after=after, limit=3
            )
            seen += [row.id for row in page.rows]
            pages += 1
            after = page.after
            if after is None:
                break
        assert (seen, pages) == (rooms[::-1], 3)
        for cursor in ("nonsense", "é", "", "MjAyNi0wMy0wMlQxMDowMDowMHxh", "Mnw="):
            with pytest.raises(Invalid):
                await queries.list_sessions(session, practice.vault, practice.scope, SessionFilter(), now, after=cursor)


async def test_a_list_asks_as_often_for_many_rows_as_for_one(practice: SmallPractice) -> None:
    statements: list[str] = []

    @event.listens_for(practice.database.engine.sync_engine, "before_cursor_execute")
    def count_statements(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    async def asked(rows: int) -> int:
        statements.clear()
        async with practice.database.read() as session:
            page = await queries.list_sessions(
                session, practice.vault, practice.scope, SessionFilter(), START + timedelta(days=1)
            )
        assert len(page.rows) == rows
        return len(statements)

    await practice.book(START)
    for_one = await asked(1)
    for number in range(1, 12):
        await practice.book(START + number * 30 * MINUTE)
    assert await asked(12) == for_one


async def test_scopes(practice: SmallPractice) -> None:
    room = await hold_session(practice, START)
    colleague = await practice.add_specialist("Marek Kowalski")
    other = Practice(id=new_id(), slug="other", name="Other", zone="UTC", created_at=NOW)
    async with practice.database.write() as session:
        session.add(other)
    now = START + timedelta(days=1)
    async with practice.database.read() as session:
        own = Scope(practice.id, practice.specialist_id)
        assert (await queries.get_session(session, practice.vault, own, room, now)).row.id == room
        for scope in (Scope(practice.id, colleague), Scope(other.id), Scope(other.id, practice.specialist_id)):
            page = await queries.list_sessions(session, practice.vault, scope, SessionFilter(), now)
            assert page.rows == ()
            with pytest.raises(NotFound):
                await queries.get_session(session, practice.vault, scope, room, now)


@pytest.mark.parametrize("id", ["", "\x00" * 32, "\ud800", "g" * 32])
async def test_what_cannot_be_an_id_is_not_found(practice: SmallPractice, id: str) -> None:
    async with practice.database.write() as session:
        for call in (
            queries.get_session(session, practice.vault, practice.scope, id, NOW),
            notes.list_notes(session, practice.vault, consultation_id=id, specialist_id=practice.specialist_id),
            notes.delete_note(session, note_id=id, specialist_id=practice.specialist_id),
        ):
            with pytest.raises(NotFound):
                await call
    assert await statuses(practice, NOW, specialist_id=id) == []


async def test_an_ad_hoc_session_has_a_page_too(practice: SmallPractice) -> None:
    async with practice.database.write() as session:
        room = (await admission.create_consultation(session, practice.id, "transport", NOW)).id
        seat, _token = await admission.add_participant(
            session, practice.vault, practice.id, room, "participant", "Guest", NOW
        )
    async with SessionLog(practice.database, practice.vault) as log:
        await log.event(room, seat.participant_id, NOW, "joined")
    async with practice.database.read() as session:
        detail = await queries.get_session(session, practice.vault, practice.scope, room, NOW + MINUTE)
    assert (detail.row.service, detail.row.specialist, detail.row.status) == (None, None, "open")
    (guest,) = detail.participants
    assert guest.name == "Guest"
    assert [(stay.joined_at, stay.left_at) for stay in guest.stays] == [(NOW, None)]


async def test_an_erased_client_is_a_dash_in_the_log(practice: SmallPractice) -> None:
    room = await hold_session(practice, START)
    seats = await practice.seats(room)
    async with SessionLog(practice.database, practice.vault) as log:
        await log.chat(room, KeptLine("a", seats["client"], "", "private", START), START)
        async with practice.database.write() as session:
            specialist = select(DataKey.id).where(DataKey.person_id == practice.specialist_id)
            await session.execute(delete(DataKey).where(DataKey.id.not_in(specialist)))
        assert await log.chat_history(room) == []
    async with practice.database.read() as session:
        now = START + timedelta(days=1)
        detail = await queries.get_session(session, practice.vault, practice.scope, room, now)
        assert {person.role: person.name for person in detail.participants} == {
            "client": "—",
            "specialist": "Hanna Lindqvist",
        }
        assert (
            await notes.list_notes(session, practice.vault, consultation_id=room, specialist_id=practice.specialist_id)
            == []
        )


async def test_notes_are_their_authors_alone(practice: SmallPractice) -> None:
    room = (await practice.book(START)).consultation_id
    colleague = await practice.add_specialist("Marek Kowalski")
    author = practice.specialist_id
    async with practice.database.write() as session:
        note = await notes.create_note(
            session, practice.vault, consultation_id=room, specialist_id=author, text=" Sleeps\r\nbetter ", now=NOW
        )
        assert note.text == "Sleeps\nbetter"
    async with practice.database.write() as session:
        changed = await notes.update_note(
            session, practice.vault, note_id=note.id, specialist_id=author, text="Sleeps well", now=NOW + MINUTE
        )
        assert (changed.created_at, changed.changed_at) == (NOW, NOW + MINUTE)
        for text in ("", "x" * 20_001, "a\x00b"):
            with pytest.raises(Invalid):
                await notes.update_note(
                    session, practice.vault, note_id=note.id, specialist_id=author, text=text, now=NOW
                )
    async with practice.database.write() as session:
        found = await notes.list_notes(session, practice.vault, consultation_id=room, specialist_id=author)
        assert [entry.text for entry in found] == ["Sleeps well"]
        with pytest.raises(NotFound):
            await notes.list_notes(session, practice.vault, consultation_id=room, specialist_id=colleague)
        with pytest.raises(NotFound):
            await notes.update_note(
                session, practice.vault, note_id=note.id, specialist_id=colleague, text="x", now=NOW
            )
        with pytest.raises(NotFound):
            await notes.delete_note(session, note_id=note.id, specialist_id=colleague)
        with pytest.raises(NotFound):
            await notes.create_note(
                session, practice.vault, consultation_id=room, specialist_id=colleague, text="x", now=NOW
            )
        await notes.delete_note(session, note_id=note.id, specialist_id=author)
        assert await notes.list_notes(session, practice.vault, consultation_id=room, specialist_id=author) == []


async def test_a_note_needs_somebody_to_be_about(practice: SmallPractice) -> None:
    async with practice.database.write() as session:
        room = await admission.create_consultation(session, practice.id, "end_to_end", NOW)
        room.specialist_id = practice.specialist_id
        await session.flush()
        with pytest.raises(Conflict):
            await notes.create_note(
                session,
                practice.vault,
                consultation_id=room.id,
                specialist_id=practice.specialist_id,
                text="x",
                now=NOW,
            )
