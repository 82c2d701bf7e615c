"""Giving out time: who is free at a start, the locks that keep the answer true, and what to offer instead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import availability
from consult.booking.models import BLOCKING_STATUSES, Booking
from consult.booking.slots import ServiceRules, local_day
from consult.errors import Alternative, SlotTaken
from consult.people.models import Practice, Specialist

# how far the fair choice looks when a day is even
FAIRNESS_DAYS = 15


async def take(
    session: AsyncSession,
    practice_id: str,
    rules: ServiceRules,
    candidates: Sequence[str],
    start: datetime,
    now: datetime,
    *,
    ignore_booking: str | None = None,
    bypass_notice: bool = False,
    preferred: str | None = None,
) -> tuple[str, datetime]:
    """Who is free at `start`, and the end; nobody else can take that until this transaction is over.

    Raises SlotTaken."""
    await lock(session, candidates)
    await expire_holds(session, now, candidates)
    offered = await availability.offer(
        session,
        rules,
        candidates,
        start,
        start + timedelta(seconds=1),
        now,
        ignore_booking=ignore_booking,
        bypass_notice=bypass_notice,
    )
    free = {slot.specialist_id: slot.end for slot in offered if slot.start == start}
    if not free:
        raise await _taken(session, rules, candidates, start, now, ignore_booking, bypass_notice)
    if preferred in free:
        assert preferred is not None
        return preferred, free[preferred]
    chosen = sorted(free)[0] if len(free) == 1 else await _least_booked(session, practice_id, sorted(free), start)
    return chosen, free[chosen]


async def expire_holds(session: AsyncSession, now: datetime, specialist_ids: Sequence[str] | None = None) -> int:
    """Free the slots whose hold has run out; how many. Without specialists: of all, passing over rows that a booking
    has locked (it sees to them itself, and nobody waits in a circle)."""
    due = (Booking.status == "held") & (Booking.held_until <= now)
    if specialist_ids is None:
        rows = select(Booking.id).where(due).with_for_update(skip_locked=True).cte("due")
        chosen: ColumnElement[bool] = Booking.id.in_(select(rows.c.id))
    else:
        chosen = due & Booking.specialist_id.in_(specialist_ids)
    expired = await session.execute(
        update(Booking)
        .where(chosen)
        .values(status="expired", changed_at=now)
        .returning(Booking.id)
        .execution_options(synchronize_session=False)
    )
    return len(expired.all())


async def write(
    session: AsyncSession,
    booking: Booking,
    rules: ServiceRules,
    candidates: Sequence[str],
    now: datetime,
    *,
    bypass_notice: bool = False,
) -> None:
    """Flush the booking; what the exclusion constraint refuses is a taken slot."""
    booking_id, start = booking.id, booking.starts_at
    try:
        # a failed statement would end the whole transaction on PostgreSQL
        async with session.begin_nested():
            session.add(booking)
            await session.flush()
    except IntegrityError as error:
        if "ex_booking_no_overlap" not in str(error.orig):
            raise
        raise await _taken(session, rules, candidates, start, now, booking_id, bypass_notice) from None


async def _taken(
    session: AsyncSession,
    rules: ServiceRules,
    candidates: Sequence[str],
    start: datetime,
    now: datetime,
    ignore_booking: str | None,
    bypass_notice: bool,
) -> SlotTaken:
    near = await availability.nearest(
        session, rules, candidates, start, now, ignore_booking=ignore_booking, bypass_notice=bypass_notice
    )
    return SlotTaken([Alternative(slot.start, slot.end, slot.specialist_id) for slot in near])


async def lock(session: AsyncSession, specialist_ids: Sequence[str]) -> None:
    """Bookings of one specialist queue here. Without it two inserts that overlap would wait for each other at the
    exclusion constraint until PostgreSQL calls it a deadlock. Always in the order of ids."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(
            select(Specialist.id)
            .where(Specialist.id.in_(specialist_ids))
            .order_by(Specialist.id)
            .with_for_update(key_share=True)
        )


async def _least_booked(session: AsyncSession, practice_id: str, specialist_ids: Sequence[str], at: datetime) -> str:
    """The fewest bookings on that day, then around it."""
    zone = await session.scalar(select(Practice.zone).where(Practice.id == practice_id))
    day = local_day(at.astimezone(ZoneInfo(zone or "Etc/UTC")).date(), zone or "Etc/UTC")
    around = timedelta(days=FAIRNESS_DAYS)
    that_day = dict.fromkeys(specialist_ids, 0)
    near = dict.fromkeys(specialist_ids, 0)
    rows = await session.execute(
        select(Booking.specialist_id, Booking.starts_at).where(
            Booking.specialist_id.in_(specialist_ids),
            Booking.status.in_((*BLOCKING_STATUSES, "completed", "no_show")),
            Booking.starts_at.between(at - around, at + around),
        )
    )
    for specialist_id, starts_at in rows:
        near[specialist_id] += 1
        that_day[specialist_id] += day.start <= starts_at < day.end
    return min(specialist_ids, key=lambda one: (that_day[one], near[one], one))
