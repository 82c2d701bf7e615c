"""Which reminders a booking has, and which messages are not sent any more: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consult.booking.models import Booking
from consult.notify.outbox import FIRST_BACKOFF, LONGEST_BACKOFF, MAX_ATTEMPTS, Claimed, backoff, why_outdated
from consult.notify.reminders import reminders_of

START = datetime(2026, 3, 17, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@given(
    st.sets(st.integers(1, 10_000), max_size=6),
    st.integers(-100, 20_000).map(lambda minutes: START - minutes * MINUTE),
)
def test_reminders_lie_between_now_and_the_start(minutes: set[int], now: datetime) -> None:
    planned = reminders_of(minutes, START, "client", "specialist", now)
    assert all(now < reminder.due_at < START for reminder in planned)
    to_client = {reminder.rule_key for reminder in planned if reminder.recipient_id == "client"}
    assert to_client == {f"reminder:{rule}" for rule in minutes if START - rule * MINUTE > now}
    to_specialist = [reminder.rule_key for reminder in planned if reminder.recipient_id == "specialist"]
    assert to_specialist in ([], [f"specialist:reminder:{min(minutes, default=0)}"])
    assert len({(reminder.rule_key, reminder.recipient_id) for reminder in planned}) == len(planned)


def test_exactly_at_the_rule_is_too_late() -> None:
    assert reminders_of([60], START, "client", "specialist", START - 60 * MINUTE) == []
    assert len(reminders_of([60], START, "client", "specialist", START - 61 * MINUTE)) == 2


def message(rule_key: str, sequence: int = 0, due_at: datetime = START - 60 * MINUTE) -> Claimed:
    return Claimed("m", "p", "b", sequence, "r", rule_key, "email", due_at, 1)


def booking(status: str = "confirmed", sequence: int = 0) -> Booking:
    return Booking(status=status, sequence=sequence, starts_at=START, ends_at=START + 30 * MINUTE)


@pytest.mark.parametrize(
    ("rule_key", "status", "sequence", "now", "newest_due_at", "reason"),
    [
        ("reminder:60", "confirmed", 0, START - 50 * MINUTE, START - 60 * MINUTE, None),
        ("reminder:60", "confirmed", 0, START - 5 * MINUTE, START - 10 * MINUTE, "later_reminder"),
        ("reminder:60", "confirmed", 0, START, START - 60 * MINUTE, "started"),
        ("specialist:reminder:10", "cancelled", 0, START - 50 * MINUTE, START - 60 * MINUTE, "cancelled"),
        ("reminder:60", "confirmed", 1, START - 50 * MINUTE, START - 60 * MINUTE, "superseded"),
        ("confirmed", "confirmed", 0, START + 29 * MINUTE, START, None),
        ("confirmed", "confirmed", 0, START + 30 * MINUTE, START, "over"),
        ("confirmed", "completed", 0, START + 10 * MINUTE, START, "over"),
        ("cancelled", "cancelled", 0, START + 99 * MINUTE, START, None),
        ("specialist:cancelled", "cancelled", 0, START + 99 * MINUTE, START, None),
        ("cancelled", "cancelled", 1, START, START, "superseded"),
    ],
)
def test_what_is_not_sent_any_more(
    rule_key: str, status: str, sequence: int, now: datetime, newest_due_at: datetime, reason: str | None
) -> None:
    assert why_outdated(message(rule_key), booking(status, sequence), newest_due_at, now) == reason


def test_a_booking_that_is_gone_sends_nothing() -> None:
    assert why_outdated(message("confirmed"), None, START, START) == "superseded"


def test_the_backoff_grows_to_an_hour_and_the_tries_last_for_hours() -> None:
    waits = [backoff(attempts) for attempts in range(1, MAX_ATTEMPTS)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_BACKOFF, LONGEST_BACKOFF)
    assert sum(waits, timedelta()) > timedelta(hours=6)
    assert backoff(10_000) == LONGEST_BACKOFF
