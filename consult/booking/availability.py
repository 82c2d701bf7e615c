"""Calendars of specialists: loading them for the slot engine, offering slots, and editing the hours.

`offer` is the one way to free slots: the pages show what it returns and a booking is made only for what it returns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, delete, not_, select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import BLOCKING_STATUSES, Booking, DateException, WeeklyHours
from consult.booking.slots import DAY_MINUTES, Availability, DayRange, Interval, ServiceRules, free_slots
from consult.db import new_id
from consult.errors import Invalid, NotFound, Problem
from consult.people.models import Specialist

RANGES_PER_DAY_MAX = 12
# longer windows are cut: no service has a longer horizon
WINDOW_MAX = timedelta(days=400)


class OfferedSlot(NamedTuple):
    """A free time with one specialist, UTC."""

    start: datetime
    end: datetime
    specialist_id: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """What the slot engine needs to know about one specialist."""

    availability: Availability
    busy: tuple[Interval, ...]


async def load(
    session: AsyncSession,
    specialist_ids: Collection[str],
    window_from: datetime,
    window_until: datetime,
    now: datetime,
    *,
    ignore_booking: str | None = None,
) -> dict[str, Calendar]:
    """The calendars of these specialists in four queries, however many they are.

    A hold that has run out is not busy. `ignore_booking` leaves one out: the one being moved."""
    ids = list(specialist_ids)
    if not ids:
        return {}
    zones = (await session.execute(select(Specialist.id, Specialist.zone).where(Specialist.id.in_(ids)))).all()
    weekly: dict[str, list[list[DayRange]]] = {one: [[] for _ in range(7)] for one in ids}
    for hours in await session.scalars(
        select(WeeklyHours).where(WeeklyHours.specialist_id.in_(ids)).order_by(WeeklyHours.start_minute)
    ):
        weekly[hours.specialist_id][hours.weekday].append((hours.start_minute, hours.end_minute))
    # a zone is at most 14 h from UTC and a slot may begin on the day before
    margin = timedelta(days=2)
    exceptions: dict[str, dict[date, list[DayRange]]] = {one: {} for one in ids}
    for row in await session.scalars(
        select(DateException)
        .where(
            DateException.specialist_id.in_(ids),
            DateException.day.between((window_from - margin).date(), (window_until + margin).date()),
        )
        .order_by(DateException.start_minute)
    ):
        ranges = exceptions[row.specialist_id].setdefault(row.day, [])
        if row.start_minute is not None and row.end_minute is not None:
            ranges.append((row.start_minute, row.end_minute))
    query = select(Booking.specialist_id, Booking.blocks_from, Booking.blocks_until).where(
        Booking.specialist_id.in_(ids),
        Booking.status.in_(BLOCKING_STATUSES),
        not_(and_(Booking.status == "held", Booking.held_until <= now)),
        Booking.blocks_from < window_until + margin,
        Booking.blocks_until > window_from - margin,
    )
    if ignore_booking is not None:
        query = query.where(Booking.id != ignore_booking)
    busy: dict[str, list[Interval]] = {one: [] for one in ids}
    for specialist_id, blocks_from, blocks_until in await session.execute(query):
        busy[specialist_id].append(Interval(blocks_from, blocks_until))
    return {
        one: Calendar(
            Availability(
                zone,
                tuple(tuple(ranges) for ranges in weekly[one]),
                {day: tuple(ranges) for day, ranges in exceptions[one].items()},
            ),
            tuple(busy[one]),
        )
        for one, zone in zones
    }


async def offer(
    session: AsyncSession,
    rules: ServiceRules,
    specialist_ids: Collection[str],
    window_from: datetime,
    window_until: datetime,
    now: datetime,
    *,
    ignore_booking: str | None = None,
    bypass_notice: bool = False,
) -> list[OfferedSlot]:
    """Free slots that start in [window_from, window_until), in order of time, then specialist.

    `bypass_notice` is for staff: everything from now on."""
    window_from = max(window_from, now)
    window_until = min(window_until, now + WINDOW_MAX)
    if window_from >= window_until:
        return []
    if bypass_notice:
        rules = replace(rules, minimum_notice_minutes=0)
    calendars = await load(session, specialist_ids, window_from, window_until, now, ignore_booking=ignore_booking)
    found = [
        OfferedSlot(slot.start, slot.end, specialist_id)
        for specialist_id, calendar in calendars.items()
        for slot in free_slots(calendar.availability, rules, calendar.busy, window_from, window_until, now)
    ]
    found.sort()
    return found


async def nearest(
    session: AsyncSession,
    rules: ServiceRules,
    specialist_ids: Collection[str],
    wanted: datetime,
    now: datetime,
    *,
    count: int = 3,
    ignore_booking: str | None = None,
    bypass_notice: bool = False,
) -> list[OfferedSlot]:
    """The free slots nearest to `wanted`, at different times, in order of time. Looks ever further away."""
    found: dict[datetime, OfferedSlot] = {}
    middle = max(wanted, now)
    for reach in (timedelta(days=3), timedelta(days=21), WINDOW_MAX):
        slots = await offer(
            session,
            rules,
            specialist_ids,
            middle - reach,
            middle + reach,
            now,
            ignore_booking=ignore_booking,
            bypass_notice=bypass_notice,
        )
        found = {}
        for slot in slots:
            if slot.start != wanted:
                found.setdefault(slot.start, slot)
        if len(found) >= count:
            break
    return sorted(sorted(found.values(), key=lambda slot: (abs(slot.start - wanted), slot.start))[:count])


@dataclass(frozen=True, slots=True)
class Hours:
    """A specialist's hours as the editor shows them. `weekly` is Monday to Sunday."""

    zone: str
    weekly: tuple[tuple[DayRange, ...], ...]
    exceptions: Mapping[date, tuple[DayRange, ...]]


async def hours(session: AsyncSession, practice_id: str, specialist_id: str, from_day: date) -> Hours:
    """The weekly hours and the exceptions from a day on. Raises NotFound."""
    specialist = await _specialist(session, practice_id, specialist_id)
    weekly: list[list[DayRange]] = [[] for _ in range(7)]
    for row in await session.scalars(
        select(WeeklyHours).where(WeeklyHours.specialist_id == specialist_id).order_by(WeeklyHours.start_minute)
    ):
        weekly[row.weekday].append((row.start_minute, row.end_minute))
    exceptions: dict[date, list[DayRange]] = {}
    for exception in await session.scalars(
        select(DateException)
        .where(DateException.specialist_id == specialist_id, DateException.day >= from_day)
        .order_by(DateException.day, DateException.start_minute)
    ):
        ranges = exceptions.setdefault(exception.day, [])
        if exception.start_minute is not None and exception.end_minute is not None:
            ranges.append((exception.start_minute, exception.end_minute))
    return Hours(
        specialist.zone,
        tuple(tuple(ranges) for ranges in weekly),
        {day: tuple(ranges) for day, ranges in exceptions.items()},
    )


async def set_weekly_hours(
    session: AsyncSession,
    practice_id: str,
    specialist_id: str,
    weekly: Sequence[Sequence[DayRange]],
) -> None:
    """Replace all weekly hours (Monday to Sunday). Bookings made before stay. Raises NotFound, Invalid with pointers
    `/weekly/<weekday>/<n>`."""
    await _specialist(session, practice_id, specialist_id)
    problems: list[Problem] = []
    if len(weekly) != 7:
        problems.append(Problem("/weekly", "days", "Please give the hours of all seven days."))
    for weekday, ranges in enumerate(weekly[:7]):
        problems.extend(_range_problems(f"/weekly/{weekday}", ranges))
    if problems:
        raise Invalid(problems)
    await session.execute(delete(WeeklyHours).where(WeeklyHours.specialist_id == specialist_id))
    session.add_all(
        WeeklyHours(id=new_id(), specialist_id=specialist_id, weekday=weekday, start_minute=start, end_minute=end)
        for weekday, ranges in enumerate(weekly)
        for start, end in ranges
    )
    await session.flush()


async def set_exception(
    session: AsyncSession, practice_id: str, specialist_id: str, day: date, ranges: Sequence[DayRange]
) -> None:
    """Replace the hours of one date; no ranges = closed. Raises NotFound, Invalid with pointers `/ranges/<n>`."""
    await _specialist(session, practice_id, specialist_id)
    problems = _range_problems("/ranges", ranges)
    if problems:
        raise Invalid(problems)
    await remove_exception(session, practice_id, specialist_id, day)
    rows: Sequence[tuple[int | None, int | None]] = ranges or [(None, None)]
    session.add_all(
        DateException(id=new_id(), specialist_id=specialist_id, day=day, start_minute=start, end_minute=end)
        for start, end in rows
    )
    await session.flush()


async def remove_exception(session: AsyncSession, practice_id: str, specialist_id: str, day: date) -> None:
    """Back to the weekly hours. Raises NotFound for an unknown specialist."""
    await _specialist(session, practice_id, specialist_id)
    await session.execute(
        delete(DateException).where(DateException.specialist_id == specialist_id, DateException.day == day)
    )


async def _specialist(session: AsyncSession, practice_id: str, specialist_id: str) -> Specialist:
    specialist = await session.get(Specialist, specialist_id)
    if specialist is None or specialist.practice_id != practice_id:
        raise NotFound("This specialist does not exist.")
    return specialist


def _range_problems(pointer: str, ranges: Sequence[DayRange]) -> list[Problem]:
    if len(ranges) > RANGES_PER_DAY_MAX:
        return [Problem(pointer, "too_many", "Please use fewer ranges for one day.")]
    problems: list[Problem] = []
    for number, (start, end) in enumerate(ranges):
        if not 0 <= start < end <= DAY_MINUTES:
            problems.append(Problem(f"{pointer}/{number}", "range", "Please give an end that is after the beginning."))
        elif any(start < other_end and other_start < end for other_start, other_end in ranges[:number]):
            problems.append(Problem(f"{pointer}/{number}", "overlap", "These hours overlap with others of that day."))
    return problems
