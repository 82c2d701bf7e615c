"""The outbox: claiming what is due, and what became of it. Any number of workers share it.

A claim is a lease: the row is this worker's until `attempt_at`; a worker that dies leaves rows that become due again.
Between a mail server's acceptance and the row's `sent` there is a moment in which a crash means a second mail with the
same Message-ID: exactly once cannot be had over SMTP.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Booking
from consult.errors import Conflict, NotFound
from consult.notify.models import OutboxMessage
from consult.notify.reminders import is_reminder

LEASE = timedelta(minutes=2)
FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)
# with these waits the last try is about seven hours after the first
MAX_ATTEMPTS = 14


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is this worker's until its lease ends."""

    id: str
    practice_id: str
    booking_id: str
    booking_sequence: int
    recipient_id: str
    rule_key: str
    channel: str
    due_at: datetime
    attempts: int  # this one included


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message, for the desk and the admin. `status`: planned, claimed, sent, cancelled, skipped,
    failed; `error` is a code without personal data."""

    id: str
    booking_id: str
    rule_key: str
    channel: str
    recipient_id: str
    due_at: datetime
    status: str
    attempts: int
    sent_at: datetime | None
    error: str | None


async def has_due(session: AsyncSession, now: datetime) -> bool:
    """Whether claiming is worth a write transaction."""
    found = await session.scalar(
        select(OutboxMessage.id)
        .where(OutboxMessage.status.in_(("planned", "claimed")), OutboxMessage.attempt_at <= now)
        .limit(1)
    )
    return found is not None


async def claim_due(
    session: AsyncSession, worker_id: str, now: datetime, limit: int = 20, lease: timedelta = LEASE
) -> list[Claimed]:
    """Up to `limit` messages that are due, oldest first, now leased to this worker; no two workers get one."""
    due = (
        select(OutboxMessage.id)
        .where(OutboxMessage.status.in_(("planned", "claimed")), OutboxMessage.attempt_at <= now)
        .order_by(OutboxMessage.attempt_at, OutboxMessage.id)
        .limit(limit)
        # PostgreSQL: pass over what another worker is claiming. On SQLite writers queue anyway.
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    rows = await session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.id.in_(select(due.c.id)))
        .values(status="claimed", claimed_by=worker_id, attempt_at=now + lease, attempts=OutboxMessage.attempts + 1)
        .returning(
            OutboxMessage.id,
            OutboxMessage.practice_id,
            OutboxMessage.booking_id,
            OutboxMessage.booking_sequence,
            OutboxMessage.recipient_id,
            OutboxMessage.rule_key,
            OutboxMessage.channel,
            OutboxMessage.due_at,
            OutboxMessage.attempts,
        )
        .execution_options(synchronize_session=False)
    )
    return sorted((Claimed(*row) for row in rows), key=lambda claimed: (claimed.due_at, claimed.id))


async def outdated(session: AsyncSession, claimed: Sequence[Claimed], now: datetime) -> dict[str, str]:
    """Those of the claimed messages that must not go out any more, by id, and why."""
    ids = {message.booking_id for message in claimed}
    bookings = {booking.id: booking for booking in await session.scalars(select(Booking).where(Booking.id.in_(ids)))}
    due = await session.execute(
        select(
            OutboxMessage.booking_id,
            OutboxMessage.booking_sequence,
            OutboxMessage.recipient_id,
            OutboxMessage.rule_key,
            OutboxMessage.due_at,
        ).where(
            OutboxMessage.booking_id.in_(ids),
            OutboxMessage.due_at <= now,
            OutboxMessage.status.in_(("planned", "claimed", "sent")),
        )
    )
    latest: dict[tuple[str, int, str], datetime] = {}
    for booking_id, sequence, recipient_id, rule_key, due_at in due:
        if is_reminder(rule_key):
            key = (booking_id, sequence, recipient_id)
            latest[key] = max(due_at, latest.get(key, due_at))
    reasons = {}
    for message in claimed:
        newest = latest.get((message.booking_id, message.booking_sequence, message.recipient_id), message.due_at)
        reason = why_outdated(message, bookings.get(message.booking_id), newest, now)
        if reason is not None:
            reasons[message.id] = reason
    return reasons


def why_outdated(
    message: Claimed, booking: Booking | None, newest_reminder_due_at: datetime, now: datetime
) -> str | None:
    """Why a message is not sent: superseded, cancelled, started, later_reminder, over; None when it still counts."""
    if booking is None or message.booking_sequence != booking.sequence:
        return "superseded"
    if message.rule_key.endswith("cancelled"):
        return None
    if booking.status != "confirmed":
        return "cancelled" if booking.status == "cancelled" else "over"
    if is_reminder(message.rule_key):
        if now >= booking.starts_at:
            return "started"
        # after a pause only the reminder nearest to the start is sent
        return "later_reminder" if newest_reminder_due_at > message.due_at else None
    return "over" if now >= booking.ends_at else None


async def sent(session: AsyncSession, message_id: str, worker_id: str, now: datetime) -> bool:
    """False when the lease had run out and another worker took the message."""
    return await _settle(session, message_id, worker_id, status="sent", sent_at=now, last_error=None)


async def skipped(session: AsyncSession, message_id: str, worker_id: str, reason: str) -> bool:
    status = "cancelled" if reason in {"superseded", "cancelled"} else "skipped"
    return await _settle(session, message_id, worker_id, status=status, last_error=reason[:200])


async def failed(
    session: AsyncSession, message: Claimed, worker_id: str, error: str, now: datetime, *, permanent: bool
) -> bool:
    """Try again after a back-off; give up, visibly, when it is hopeless or was tried MAX_ATTEMPTS times."""
    if permanent or message.attempts >= MAX_ATTEMPTS:
        return await _settle(session, message.id, worker_id, status="failed", last_error=error[:200])
    return await _settle(
        session,
        message.id,
        worker_id,
        status="planned",
        last_error=error[:200],
        attempt_at=now + backoff(message.attempts),
    )


async def released(session: AsyncSession, message: Claimed, worker_id: str, now: datetime) -> bool:
    """Give a message back untried: this worker stops."""
    return await _settle(
        session, message.id, worker_id, status="planned", attempt_at=now, attempts=message.attempts - 1
    )


def backoff(attempts: int) -> timedelta:
    """After the n-th try: 30 s, doubling up to an hour."""
    return min(FIRST_BACKOFF * (1 << min(attempts - 1, 20)), LONGEST_BACKOFF)


async def deliveries(
    session: AsyncSession,
    practice_id: str,
    *,
    booking_id: str | None = None,
    statuses: Collection[str] | None = None,
    limit: int = 200,
) -> list[Delivery]:
    """Messages of one booking, or the newest of the practice; by due time, latest first."""
    query = select(OutboxMessage).where(OutboxMessage.practice_id == practice_id)
    if booking_id is not None:
        query = query.where(OutboxMessage.booking_id == booking_id)
    if statuses is not None:
        query = query.where(OutboxMessage.status.in_(statuses))
    rows = await session.scalars(query.order_by(OutboxMessage.due_at.desc(), OutboxMessage.id).limit(limit))
    return [
        Delivery(
            id=row.id,
            booking_id=row.booking_id,
            rule_key=row.rule_key,
            channel=row.channel,
            recipient_id=row.recipient_id,
            due_at=row.due_at,
            status=row.status,
            attempts=row.attempts,
            sent_at=row.sent_at,
            error=row.last_error,
        )
        for row in rows
    ]


async def send_again(session: AsyncSession, practice_id: str, message_id: str, now: datetime) -> None:
    """Try a failed message anew (an admin's button). Raises NotFound, Conflict `not_failed`."""
    row = await session.get(OutboxMessage, message_id)
    if row is None or row.practice_id != practice_id:
        raise NotFound("There is no such message.")
    if row.status != "failed":
        raise Conflict("Only a message that failed can be sent again.", code="not_failed")
    row.status, row.attempts, row.attempt_at = "planned", 0, now
    await session.flush()


async def _settle(session: AsyncSession, message_id: str, worker_id: str, **values: object) -> bool:
    done = await session.execute(
        update(OutboxMessage)
        .where(
            OutboxMessage.id == message_id,
            OutboxMessage.status == "claimed",
            OutboxMessage.claimed_by == worker_id,
        )
        .values(claimed_by=None, **values)
        .returning(OutboxMessage.id)
        .execution_options(synchronize_session=False)
    )
    return done.scalar_one_or_none() is not None
