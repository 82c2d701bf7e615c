"""What is sent when: rules, and the outbox rows they make. Written in the transaction that changes the booking.

A booking's rows follow it: cancelling withdraws what is still planned, moving it plans anew under the next sequence,
and editing a rule re-plans the bookings that are still to come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Booking
from consult.db import new_id
from consult.errors import Invalid, Problem
from consult.notify.models import OutboxMessage, ReminderRule

EMAIL = "email"
# 24 h, 1 h, 10 min
DEFAULT_MINUTES = (1_440, 60, 10)
MINUTES_MAX = 60 * 24 * 30
RULES_MAX = 10
# in rule keys: what goes to the specialist, and what is a reminder
SPECIALIST = "specialist:"
REMINDER = "reminder:"

Change = Literal["confirmed", "rescheduled", "cancelled"]


@dataclass(frozen=True, slots=True)
class PlannedReminder:
    rule_key: str
    recipient_id: str
    due_at: datetime


def reminders_of(
    minutes: Collection[int], starts_at: datetime, client_id: str | None, specialist_id: str, now: datetime
) -> list[PlannedReminder]:
    """The reminders of a booking as known at `now`; none that would be due already. The client gets each rule's, the
    specialist the shortest one's (10 minutes by default)."""
    planned = []
    for rule in sorted(set(minutes), reverse=True):
        due_at = starts_at - timedelta(minutes=rule)
        if due_at <= now:
            continue
        if client_id is not None:
            planned.append(PlannedReminder(f"{REMINDER}{rule}", client_id, due_at))
        if rule == min(minutes):
            planned.append(PlannedReminder(f"{SPECIALIST}{REMINDER}{rule}", specialist_id, due_at))
    return planned


def is_reminder(rule_key: str) -> bool:
    return rule_key.removeprefix(SPECIALIST).startswith(REMINDER)


def audience_of(rule_key: str) -> Literal["client", "specialist"]:
    return "specialist" if rule_key.startswith(SPECIALIST) else "client"


async def rules(session: AsyncSession, practice_id: str) -> list[ReminderRule]:
    """All rules of a practice, longest first."""
    found = await session.scalars(
        select(ReminderRule)
        .where(ReminderRule.practice_id == practice_id)
        .order_by(ReminderRule.minutes_before.desc(), ReminderRule.channel)
    )
    return list(found)


async def ensure_rules(session: AsyncSession, practice_id: str) -> list[ReminderRule]:
    """The rules, after giving a practice that never had any the default ones. Safe in two transactions at once."""
    found = await rules(session, practice_id)
    if found:
        return found
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    await session.execute(
        insert(ReminderRule)
        .values(
            [
                {
                    "id": new_id(),
                    "practice_id": practice_id,
                    "minutes_before": minutes,
                    "channel": EMAIL,
                    "enabled": True,
                }
                for minutes in DEFAULT_MINUTES
            ]
        )
        .on_conflict_do_nothing()
    )
    return await rules(session, practice_id)


async def set_rules(session: AsyncSession, practice_id: str, minutes: Sequence[int], now: datetime) -> None:
    """Remind these many minutes before the start, and re-plan every booking still to come. No minutes = no reminders.

    Raises Invalid with pointers `/minutes/<n>`."""
    problems = [
        Problem(f"/minutes/{number}", "out_of_range", "Please choose a time from 1 minute to 30 days.")
        for number, value in enumerate(minutes)
        if not 1 <= value <= MINUTES_MAX
    ]
    if len(set(minutes)) > RULES_MAX:
        problems.append(Problem("/minutes", "too_many", "Please use at most 10 reminders."))
    if problems:
        raise Invalid(problems)
    wanted = set(minutes)
    # disabled, not deleted: no rows at all would mean a practice that never had rules
    known = await ensure_rules(session, practice_id)
    for rule in known:
        rule.enabled = rule.channel == EMAIL and rule.minutes_before in wanted
    wanted -= {rule.minutes_before for rule in known if rule.channel == EMAIL}
    session.add_all(
        ReminderRule(id=new_id(), practice_id=practice_id, minutes_before=value, channel=EMAIL, enabled=True)
        for value in sorted(wanted)
    )
    await session.flush()
    bookings = await session.scalars(
        select(Booking).where(
            Booking.practice_id == practice_id, Booking.status == "confirmed", Booking.starts_at > now
        )
    )
    await _plan_reminders(session, practice_id, list(bookings), now)


async def plan(session: AsyncSession, booking: Booking, change: Change, now: datetime) -> None:
    """Tell client and specialist of a change now, and plan the reminders that fit it. Call it after the booking has its
    new times, status and sequence."""
    await session.execute(
        update(OutboxMessage)
        .where(
            OutboxMessage.booking_id == booking.id,
            OutboxMessage.status == "planned",
        )
        .values(status="cancelled")
    )
    notices = [(f"{SPECIALIST}{change}", booking.specialist_id)]
    if booking.client_id is not None:
        notices.append((change, booking.client_id))
    session.add_all(_row(booking, rule_key, recipient, now, now) for rule_key, recipient in notices)
    await session.flush()
    if change != "cancelled":
        await _plan_reminders(session, booking.practice_id, [booking], now)


async def withdraw_reminders(session: AsyncSession, booking_id: str) -> None:
    """The visit took place, or will not: nothing more about it is sent."""
    await session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.booking_id == booking_id, OutboxMessage.status == "planned")
        .values(status="cancelled")
    )


async def _plan_reminders(session: AsyncSession, practice_id: str, bookings: Sequence[Booking], now: datetime) -> None:
    """Make the planned reminders of these bookings what the rules say: add, take up again, withdraw."""
    minutes = [
        rule.minutes_before
        for rule in await ensure_rules(session, practice_id)
        if rule.enabled and rule.channel == EMAIL
    ]
    existing: dict[tuple[str, int], list[OutboxMessage]] = {}
    for row in await _rows_of(session, [booking.id for booking in bookings]):
        if is_reminder(row.rule_key) and row.channel == EMAIL:
            existing.setdefault((row.booking_id, row.booking_sequence), []).append(row)
    for booking in bookings:
        wanted = {
            (reminder.rule_key, reminder.recipient_id): reminder
            for reminder in reminders_of(minutes, booking.starts_at, booking.client_id, booking.specialist_id, now)
        }
        for row in existing.get((booking.id, booking.sequence), ()):
            reminder = wanted.pop((row.rule_key, row.recipient_id), None)
            if reminder is None and row.status == "planned":
                row.status = "cancelled"
            elif reminder is not None and row.status == "cancelled":
                row.status, row.due_at, row.attempt_at = "planned", reminder.due_at, reminder.due_at
        session.add_all(
            _row(booking, reminder.rule_key, reminder.recipient_id, reminder.due_at, now)
            for reminder in wanted.values()
        )
    await session.flush()


async def _rows_of(session: AsyncSession, booking_ids: Sequence[str]) -> Iterable[OutboxMessage]:
    found: list[OutboxMessage] = []
    # a database takes a limited number of parameters in one statement
    for begin in range(0, len(booking_ids), 500):
        found.extend(
            await session.scalars(
                select(OutboxMessage)
                .where(OutboxMessage.booking_id.in_(booking_ids[begin : begin + 500]))
                # the status may have been changed by an UPDATE of this transaction
                .execution_options(populate_existing=True)
            )
        )
    return found


def _row(booking: Booking, rule_key: str, recipient_id: str, due_at: datetime, now: datetime) -> OutboxMessage:
    return OutboxMessage(
        id=new_id(),
        practice_id=booking.practice_id,
        booking_id=booking.id,
        booking_sequence=booking.sequence,
        recipient_id=recipient_id,
        rule_key=rule_key,
        channel=EMAIL,
        due_at=due_at,
        attempt_at=due_at,
        status="planned",
        attempts=0,
        created_at=now,
    )
