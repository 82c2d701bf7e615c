"""Reminders and the outbox on both databases: planning, claiming, sending by the real channels, workers that die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from icalendar import Calendar
from sqlalchemy import select, text, update

from consult.booking import availability, bookings
from consult.booking.bookings import CLIENT, Actor, Booked
from consult.db import Database
from consult.notify import outbox, reminders
from consult.notify.channels import Channel, FileChannel, MailChannel
from consult.notify.models import OutboxMessage
from consult.notify.worker import WorkerHealth, run_worker
from consult.people.models import Person
from consult.privacy.keys import create_key_file, read_key_file
from consult.privacy.vault import Vault
from tests import servers
from tests.conftest import SmtpSink
from tests.integration.clinic import NOW, TUESDAY_9, Clinic, hours, open_clinic
from tests.integration.worker_process import SENDER

ADMIN = Actor("admin")
MINUTE = timedelta(minutes=1)
PUBLIC_URL = "https://linden.example"


@pytest.fixture
async def clinic(database: Database) -> Clinic:
    return await open_clinic(database)


async def book(clinic: Clinic, start: datetime = TUESDAY_9, number: int = 0, now: datetime = NOW) -> Booked:
    async with clinic.database.write() as session:
        return await bookings.book(session, clinic.vault, clinic.wish(start, number), now)


async def rows(clinic: Clinic, *statuses: str) -> list[tuple[str, int, datetime, str]]:
    """(rule key, sequence, due, status) in order of due time."""
    query = select(
        OutboxMessage.rule_key, OutboxMessage.booking_sequence, OutboxMessage.due_at, OutboxMessage.status
    ).order_by(OutboxMessage.due_at, OutboxMessage.rule_key)
    if statuses:
        query = query.where(OutboxMessage.status.in_(statuses))
    async with clinic.database.read() as session:
        return [tuple(row) for row in await session.execute(query)]


async def deliver(
    clinic: Clinic, channel: Channel, now: datetime, health: WorkerHealth | None = None, clients: int = 1
) -> None:
    """Run `clients` workers at a stopped clock until nothing is due and nothing on its way."""
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(
            run_worker(
                clinic.database,
                clinic.vault,
                channel,
                lambda: now,
                stop,
                public_url=PUBLIC_URL,
                translator=lambda _language: str,
                health=health,
                poll_s=0.01,
            )
        )
        for _ in range(clients)
    ]
    async with asyncio.timeout(60):
        while True:
            async with clinic.database.read() as session:
                busy = await outbox.has_due(session, now)
            if not busy and not await rows(clinic, "claimed"):
                break
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*tasks)


def letters_in(folder: Path) -> list[EmailMessage]:
    found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in sorted(folder.glob("*.eml"))]
    return [message for message in found if isinstance(message, EmailMessage)]


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body(preferencelist=(kind,))
    assert body is not None
    content = body.get_content()
    assert isinstance(content, str)
    return content


@pytest.fixture
def channel(tmp_path: Path) -> FileChannel:
    return FileChannel(tmp_path / "outbox", SENDER)


async def test_15_what_a_booking_plans(clinic: Clinic) -> None:
    # Monday 08:00 for Wednesday 09:00: everything is still to come
    await book(clinic, TUESDAY_9 + hours(24))
    start = TUESDAY_9 + hours(24)
    assert await rows(clinic) == [
        ("confirmed", 0, NOW, "planned"),
        ("specialist:confirmed", 0, NOW, "planned"),
        ("reminder:1440", 0, start - hours(24), "planned"),
        ("reminder:60", 0, start - hours(1), "planned"),
        ("reminder:10", 0, start - 10 * MINUTE, "planned"),
        ("specialist:reminder:10", 0, start - 10 * MINUTE, "planned"),
    ]


async def test_15_no_reminder_that_would_be_due_when_it_is_booked(clinic: Clinic) -> None:
    await book(clinic, TUESDAY_9, now=TUESDAY_9 - hours(1))
    assert [key for key, *_ in await rows(clinic) if "reminder" in key] == ["reminder:10", "specialist:reminder:10"]


async def test_15_nothing_is_left_after_a_cancellation(clinic: Clinic) -> None:
    booked = await book(clinic, TUESDAY_9 + hours(24))
    async with clinic.database.write() as session:
        await bookings.cancel(session, clinic.practice_id, booked.id, CLIENT, NOW + MINUTE)
    assert [(key, sequence) for key, sequence, _, _ in await rows(clinic, "planned")] == [
        ("cancelled", 1),
        ("specialist:cancelled", 1),
    ]


async def test_15_moving_replaces_the_reminders(clinic: Clinic) -> None:
    booked = await book(clinic, TUESDAY_9 + hours(24))
    new = TUESDAY_9 + hours(50)
    async with clinic.database.write() as session:
        await bookings.reschedule(session, clinic.practice_id, booked.id, new, CLIENT, NOW + MINUTE)
    planned = await rows(clinic, "planned")
    assert {sequence for _, sequence, _, _ in planned} == {1}
    assert [(key, due) for key, _, due, _ in planned if "reminder" in key] == [
        ("reminder:1440", new - hours(24)),
        ("reminder:60", new - hours(1)),
        ("reminder:10", new - 10 * MINUTE),
        ("specialist:reminder:10", new - 10 * MINUTE),
    ]


async def test_15_editing_the_rules_replans_what_is_to_come(clinic: Clinic, channel: FileChannel) -> None:
    await book(clinic, TUESDAY_9 + hours(24))
    # the first reminder has gone out
    await deliver(clinic, channel, TUESDAY_9)
    async with clinic.database.write() as session:
        await reminders.set_rules(session, clinic.practice_id, [1440, 120], TUESDAY_9 + MINUTE)
    keys = {key: status for key, _, _, status in await rows(clinic) if "reminder" in key}
    assert keys == {
        "reminder:1440": "sent",
        "reminder:120": "planned",
        "specialist:reminder:120": "planned",
        "reminder:60": "cancelled",
        "reminder:10": "cancelled",
        "specialist:reminder:10": "cancelled",
    }
    async with clinic.database.write() as session:
        await reminders.set_rules(session, clinic.practice_id, [10], TUESDAY_9 + 2 * MINUTE)
    assert [key for key, _, _, status in await rows(clinic, "planned")] == ["reminder:10", "specialist:reminder:10"]
    async with clinic.database.write() as session:
        await reminders.set_rules(session, clinic.practice_id, [], TUESDAY_9 + 3 * MINUTE)
    assert await rows(clinic, "planned") == []


async def test_the_clients_letter_is_in_their_zone_with_links_and_a_calendar(
    clinic: Clinic, channel: FileChannel, tmp_path: Path
) -> None:
    booked = await book(clinic)
    await deliver(clinic, channel, NOW)
    by_recipient = {message["To"]: message for message in letters_in(tmp_path / "outbox")}
    assert set(by_recipient) == {"client0@example.org", "ada0@linden.example"}
    letter = by_recipient["client0@example.org"]
    assert letter["Subject"] == "Confirmed: your appointment on Tuesday, 17 March 2026 at 04:00"
    assert letter["From"] == f"Linden Practice <{SENDER}>"
    assert letter["Auto-Submitted"] == "auto-generated"
    words = part(letter, "plain")
    assert "04:00–04:30" in words
    assert "Eastern Daylight Time, America/New York, UTC−4" in words
    assert f"{PUBLIC_URL}/join/{booked.consultation_id}#{booked.client_participant_id}." in words
    assert f"{PUBLIC_URL}/manage/{booked.id}#{booked.id}." in words
    assert "until Tuesday, 17 March 2026, 02:00" in words
    assert "Canary" not in words, "the reason stays out of mail"
    assert f'href="{PUBLIC_URL}/join/' in part(letter, "html")
    (attached,) = letter.iter_attachments()
    assert attached.get_content_type() == "text/calendar"
    assert attached.get_param("method") == "PUBLISH"
    (event,) = Calendar.from_ical(attached.get_content()).walk("VEVENT")
    assert event["DTSTART"].dt == TUESDAY_9
    assert event["DTSTART"].params["TZID"] == "America/New_York"
    assert event["UID"] == f"{booked.id}@linden.example"

    staff = part(by_recipient["ada0@linden.example"], "plain")
    assert "09:00–09:30" in staff
    assert "Europe/Berlin" in staff
    assert "Client 0" in staff
    assert f"{PUBLIC_URL}/desk/consultations/{booked.consultation_id}" in staff
    assert "#" not in staff, "no secret: the specialist signs in"


async def test_11_calendar_updates_keep_the_uid_and_raise_the_sequence(
    clinic: Clinic, channel: FileChannel, tmp_path: Path
) -> None:
    booked = await book(clinic)
    await deliver(clinic, channel, NOW)
    async with clinic.database.write() as session:
        await bookings.reschedule(session, clinic.practice_id, booked.id, TUESDAY_9 + hours(1), CLIENT, NOW + MINUTE)
    await deliver(clinic, channel, NOW + MINUTE)
    async with clinic.database.write() as session:
        await bookings.cancel(session, clinic.practice_id, booked.id, ADMIN, NOW + 2 * MINUTE)
    await deliver(clinic, channel, NOW + 2 * MINUTE)
    seen = []
    for letter in letters_in(tmp_path / "outbox"):
        if letter["To"] != "client0@example.org":
            continue
        (attached,) = letter.iter_attachments()
        calendar = Calendar.from_ical(attached.get_content())
        (event,) = calendar.walk("VEVENT")
        seen.append((event["SEQUENCE"], str(calendar["METHOD"]), str(event["STATUS"]), str(event["UID"])))
    uid = f"{booked.id}@linden.example"
    assert sorted(seen) == [
        (0, "PUBLISH", "CONFIRMED", uid),
        (1, "PUBLISH", "CONFIRMED", uid),
        (2, "CANCEL", "CANCELLED", uid),
    ]


async def test_16_after_a_pause_the_stale_ones_are_skipped(
    clinic: Clinic, channel: FileChannel, tmp_path: Path
) -> None:
    start = TUESDAY_9 + hours(24)
    await book(clinic, start)
    await book(clinic, TUESDAY_9 + hours(2), number=1)
    await deliver(clinic, channel, NOW)
    # nobody worked until half an hour before the first one; the second one's start has passed
    health = WorkerHealth()
    await deliver(clinic, channel, start - 30 * MINUTE, health)
    async with clinic.database.read() as session:
        found = await outbox.deliveries(session, clinic.practice_id)
    late = {(row.rule_key, row.due_at): (row.status, row.error) for row in found if "reminder" in row.rule_key}
    assert late[("reminder:1440", start - hours(24))] == ("skipped", "later_reminder")
    assert late[("reminder:60", start - hours(1))] == ("sent", None)
    assert late[("reminder:10", start - 10 * MINUTE)] == ("planned", None)
    passed = TUESDAY_9 + hours(2)
    assert late[("reminder:10", passed - 10 * MINUTE)] == ("skipped", "started")
    assert (health.sent, health.skipped) == (1, 5)


async def test_16_two_workers_send_each_message_once(clinic: Clinic, smtp_sink: SmtpSink) -> None:
    for number in range(14):
        await book(clinic, TUESDAY_9 + hours(24 * (number // 7) + number % 7), number)
    health = WorkerHealth()
    await deliver(clinic, MailChannel(smtp_sink.url, SENDER), NOW, health, clients=3)
    ids = [message["Message-ID"] for message in smtp_sink.messages]
    assert len(ids) == len(set(ids)) == 28
    assert health.sent == 28
    assert Counter(address for addresses in smtp_sink.recipients for address in addresses)["ada0@linden.example"] == 14


async def test_claims_are_leases_and_never_shared(clinic: Clinic) -> None:
    for number in range(6):
        await book(clinic, TUESDAY_9 + hours(number), number)

    async def claim(worker: str, now: datetime) -> list[outbox.Claimed]:
        async with clinic.database.write() as session:
            return await outbox.claim_due(session, worker, now, limit=3)

    batches = await asyncio.gather(*(claim(f"worker{number}", NOW) for number in range(4)))
    ids = [claimed.id for batch in batches for claimed in batch]
    assert len(ids) == len(set(ids)) == 12
    assert await claim("late", NOW + outbox.LEASE - timedelta(seconds=1)) == []
    again = await claim("late", NOW + outbox.LEASE)
    assert len(again) == 3
    assert again[0].attempts == 2
    async with clinic.database.write() as session:
        # the first worker comes back too late: the row is no longer its own
        owner = next(f"worker{number}" for number in range(4) if again[0].id in {one.id for one in batches[number]})
        assert not await outbox.sent(session, again[0].id, owner, NOW)
        assert await outbox.sent(session, again[0].id, "late", NOW)


class Refusing(SmtpSink):
    """Answers RCPT or DATA by what the address says; `drop` accepts and then closes without the reply, once."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("client1@"):
            return "550 no such user"
        if address.startswith("client2@"):
            return "450 try later"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await super().handle_DATA(server, session, envelope)
        mine = [message for message, to in zip(self.messages, self.recipients, strict=True) if to == envelope.rcpt_tos]
        if envelope.rcpt_tos == ["client3@example.org"] and len(mine) == 1:
            assert server.transport is not None
            server.transport.close()
        return "250 kept"


@contextlib.contextmanager
def serving(sink: SmtpSink) -> Iterator[SmtpSink]:
    controller = Controller(sink, hostname="127.0.0.1", port=sink.port)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


async def test_17_every_outcome_is_seen_and_retried_as_it_should_be(clinic: Clinic) -> None:
    for number in range(4):
        await book(clinic, TUESDAY_9 + hours(number), number)
    with serving(Refusing(servers.free_port())) as sink:
        channel = MailChannel(sink.url, SENDER)
        await deliver(clinic, channel, NOW)
        state = await statuses(clinic)
        assert state["client0@example.org"] == ("sent", 1, None)
        assert state["client1@example.org"] == ("failed", 1, "recipient refused 550")
        assert state["client2@example.org"] == ("planned", 1, "recipient refused 450")
        assert state["client3@example.org"][:2] == ("planned", 1)
        # not before the back-off is over
        await deliver(clinic, channel, NOW + outbox.FIRST_BACKOFF - timedelta(seconds=1))
        assert (await statuses(clinic))["client2@example.org"][1] == 1
        await deliver(clinic, channel, NOW + outbox.FIRST_BACKOFF)
        state = await statuses(clinic)
        assert state["client2@example.org"][:2] == ("planned", 2)
        assert state["client3@example.org"] == ("sent", 2, None)
        repeated = [
            message["Message-ID"]
            for message, to in zip(sink.messages, sink.recipients, strict=True)
            if to == ["client3@example.org"]
        ]
        assert len(repeated) == 2
        assert len(set(repeated)) == 1, "a repeat can be recognised"
        now = NOW
        for _ in range(outbox.MAX_ATTEMPTS):
            now += outbox.LONGEST_BACKOFF
            await deliver(clinic, channel, now)
        assert (await statuses(clinic))["client2@example.org"][0] in {"failed", "skipped"}


async def statuses(clinic: Clinic) -> dict[str, tuple[str, int, str | None]]:
    """What became of each client's confirmation, by address."""
    async with clinic.database.read() as session:
        found = (
            await session.execute(
                select(Person, OutboxMessage)
                .join(OutboxMessage, OutboxMessage.recipient_id == Person.id)
                .where(OutboxMessage.rule_key == "confirmed")
            )
        ).all()
        ring = await clinic.vault.keyring(session, [person.id for person, _ in found])
    return {
        ring.open("person.email", person.id, person.id, person.email_sealed): (row.status, row.attempts, row.last_error)
        for person, row in found
    }


async def test_17_an_admin_can_send_a_failed_one_again(clinic: Clinic, channel: FileChannel) -> None:
    await book(clinic)
    async with clinic.database.write() as session:
        await session.execute(update(OutboxMessage).values(status="failed", attempts=14))
        found = await outbox.deliveries(session, clinic.practice_id, statuses=["failed"])
        await outbox.send_again(session, clinic.practice_id, found[0].id, NOW)
    await deliver(clinic, channel, NOW)
    assert len(await rows(clinic, "sent")) == 1


async def test_a_server_that_is_away_loses_nothing(clinic: Clinic, smtp_sink: SmtpSink) -> None:
    await book(clinic)
    await deliver(clinic, MailChannel(f"smtp://127.0.0.1:{servers.free_port()}", SENDER), NOW)
    assert {status for *_, status in await rows(clinic)} == {"planned"}
    await deliver(clinic, MailChannel(smtp_sink.url, SENDER), NOW + outbox.FIRST_BACKOFF)
    assert len(smtp_sink.messages) == 2


async def test_one_broken_row_does_not_hold_up_the_others(clinic: Clinic, channel: FileChannel, tmp_path: Path) -> None:
    for number in range(3):
        await book(clinic, TUESDAY_9 + hours(number), number)
    async with clinic.database.write() as session:
        index = clinic.vault.email_index("client1@example.org")
        await session.execute(
            update(Person).where(Person.email_index == index).values(email_sealed=b"not what the vault wrote" * 4)
        )
    await deliver(clinic, channel, NOW)
    to = {message["To"] for message in letters_in(tmp_path / "outbox")}
    assert to == {"client0@example.org", "client2@example.org", "ada0@linden.example"}
    # its specialist's message shares the broken booking; both are tried again, visibly
    assert {status for *_, status in await rows(clinic) if status != "sent"} >= {"planned"}


async def test_a_stop_lets_the_mail_in_flight_finish(clinic: Clinic) -> None:
    await book(clinic)
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(FileChannel):
        async def send(self, mail: object) -> None:
            begun.set()
            await go_on.wait()

    stop = asyncio.Event()
    task = asyncio.create_task(
        run_worker(
            clinic.database,
            clinic.vault,
            Slow(Path("unused"), SENDER),
            lambda: NOW,
            stop,
            public_url=PUBLIC_URL,
            translator=lambda _language: str,
        )
    )
    async with asyncio.timeout(30):
        await begun.wait()
        stop.set()
        await asyncio.sleep(0.1)
        assert not task.done()
        go_on.set()
        await task
    assert await rows(clinic, "claimed") == []
    assert len(await rows(clinic, "sent")) >= 1


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_the_worker_outlives_its_database(clinic: Clinic, channel: FileChannel) -> None:
    """Every connection is cut again and again; the mails leave all the same."""
    stop = asyncio.Event()
    task = asyncio.create_task(
        run_worker(
            clinic.database,
            clinic.vault,
            channel,
            lambda: NOW,
            stop,
            public_url=PUBLIC_URL,
            translator=lambda _language: str,
            poll_s=0.01,
        )
    )
    other = Database(str(clinic.database.engine.url))
    for number in range(5):
        async with other.write() as session:
            await bookings.book(session, clinic.vault, clinic.wish(TUESDAY_9 + hours(number), number), NOW)
        async with other.write() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        while True:
            async with other.read() as session:
                done = await session.scalars(select(OutboxMessage.status).where(OutboxMessage.due_at <= NOW))
                if set(done) == {"sent"}:
                    break
            await asyncio.sleep(0.05)
    assert not task.done()
    stop.set()
    await task
    await other.close()


class SlowSink(SmtpSink):
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        reply = await super().handle_DATA(server, session, envelope)
        await asyncio.sleep(random.uniform(0.1, 1.0))
        return reply


LEASE_S = 5.0


@contextlib.asynccontextmanager
async def worker(options: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.worker_process", json.dumps(options), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("way", ["smtp", "files"])
async def test_16_workers_killed_at_random_send_every_reminder_once(
    database: Database, database_url: str, tmp_path: Path, way: str, record_property: Callable[[str, object], None]
) -> None:
    """Two workers, killed with SIGKILL at random points and started again, against a slow mail server or files."""
    keys = tmp_path / "keys.json"
    create_key_file(keys)
    clinic = await open_clinic(database, Vault(read_key_file(keys)), horizon_days=90)
    real_now = datetime.now(UTC)
    booked_at = real_now - timedelta(days=3)
    async with database.write() as session:
        await availability.set_weekly_hours(session, clinic.practice_id, clinic.specialist_ids[0], [[(0, 1440)]] * 7)
        # due: what starts within a day
        await reminders.set_rules(session, clinic.practice_id, [1440], booked_at)
    first = (real_now + hours(2)).replace(minute=0, second=0, microsecond=0)
    for number in range(20):
        await book(clinic, first + hours(number), number, now=booked_at)
    expected = {row.id for row in await all_rows(database)}
    assert len(expected) == 80, "per booking: two confirmations, two reminders"
    sink = SlowSink(servers.free_port())
    folder = tmp_path / "outbox"
    options = {"database_url": database_url, "keys": str(keys), "lease_s": str(LEASE_S)}
    options |= {"smtp_url": sink.url} if way == "smtp" else {"outbox": str(folder)}
    kills = 0
    with serving(sink):
        async with contextlib.AsyncExitStack() as stack:
            running = [await stack.enter_async_context(worker(options)) for _ in range(2)]
            deadline = time.monotonic() + 240
            while kills < 6:
                assert time.monotonic() < deadline
                await asyncio.sleep(random.uniform(1.2, 2.2))
                victim = random.randrange(2)
                running[victim].send_signal(signal.SIGKILL)
                await running[victim].wait()
                kills += 1
                running[victim] = await stack.enter_async_context(worker(options))
            while {row.status for row in await all_rows(database)} != {"sent"}:
                assert time.monotonic() < deadline, Counter(row.status for row in await all_rows(database))
                await asyncio.sleep(0.1)
            for process in running:
                process.send_signal(signal.SIGTERM)
                # one that was started a moment ago may not listen for the signal yet
                assert await process.wait() in {0, -signal.SIGTERM}
    if way == "smtp":
        arrived = [message["Message-ID"].strip("<>").partition("@")[0] for message in sink.messages]
    else:
        arrived = [path.stem for path in folder.glob("*.eml")]
        assert list(folder.glob("*.eml.*")) == []
    assert set(arrived) == expected
    # a kill between the server's yes and our mark repeats a mail, under the same Message-ID
    record_property("raw_duplicates", len(arrived) - len(expected))
    print(f"{way}: {kills} kills, {len(arrived)} arrivals of {len(expected)} messages")


async def all_rows(database: Database) -> list[OutboxMessage]:
    async with database.read() as session:
        return list(await session.scalars(select(OutboxMessage)))
