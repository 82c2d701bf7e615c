"""The month calendar and the day's slots as the templates need them. Pure: the slots and the clock come in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

DayPart = Literal["morning", "afternoon", "evening"]
_MONTH = re.compile(r"^(\d{4})-(\d{2})$")


@dataclass(frozen=True, slots=True)
class Time:
    """One offered start. `specialists` are all who are free then."""

    start: datetime  # UTC
    end: datetime
    specialists: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Day:
    day: date
    in_month: bool
    past: bool
    today: bool
    selected: bool
    times: int  # how many are offered


@dataclass(frozen=True, slots=True)
class Month:
    first: date
    weeks: tuple[tuple[Day, ...], ...]
    previous: date | None  # None where nothing can be free
    next: date | None

    @property
    def has_times(self) -> bool:
        return any(day.times for week in self.weeks for day in week if day.in_month)


def parse_month(text: str | None) -> date | None:
    """The first of a month from "2026-03", or None for anything else."""
    match = _MONTH.match(text or "")
    if match is None:
        return None
    year, month = int(match[1]), int(match[2])
    return date(year, month, 1) if 1 <= month <= 12 and 2000 <= year <= 2200 else None


def parse_day(text: str | None) -> date | None:
    """A date from "2026-03-29", or None."""
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def month_after(first: date, months: int = 1) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def day_bounds(first: date, last: date, zone: str) -> tuple[datetime, datetime]:
    """UTC bounds [start of `first`, end of `last`) as the zone's calendar sees them."""
    tz = ZoneInfo(zone)
    start = datetime.combine(first, time(), tz).astimezone(UTC)
    end = datetime.combine(last + timedelta(days=1), time(), tz).astimezone(UTC)
    return start, end


def merge_times(slots: Iterable[tuple[datetime, datetime, str]]) -> list[Time]:
    """(start, end, specialist) of several specialists → one entry per start and end, in order."""
    found: dict[tuple[datetime, datetime], list[str]] = {}
    for start, end, specialist in slots:
        found.setdefault((start, end), []).append(specialist)
    return [Time(start, end, tuple(people)) for (start, end), people in sorted(found.items())]


def times_by_day(times: Iterable[Time], zone: str) -> dict[date, list[Time]]:
    tz = ZoneInfo(zone)
    days: dict[date, list[Time]] = {}
    for one in times:
        days.setdefault(one.start.astimezone(tz).date(), []).append(one)
    return days


def build_month(
    first: date,
    offered: dict[date, list[Time]],
    *,
    today: date,
    last_bookable: date,
    selected: date | None,
    first_weekday: int = 0,
) -> Month:
    """Whole weeks around the month. `first_weekday`: 0 = Monday … 6 = Sunday."""
    last = month_after(first) - timedelta(days=1)
    start = first - timedelta(days=(first.weekday() - first_weekday) % 7)
    weeks: list[tuple[Day, ...]] = []
    while start <= last:
        week = []
        for offset in range(7):
            day = start + timedelta(days=offset)
            in_month = day.month == first.month
            week.append(
                Day(
                    day=day,
                    in_month=in_month,
                    past=day < today,
                    today=day == today,
                    selected=day == selected,
                    times=len(offered.get(day, ())) if in_month else 0,
                )
            )
        weeks.append(tuple(week))
        start += timedelta(days=7)
    return Month(
        first=first,
        weeks=tuple(weeks),
        previous=month_after(first, -1) if first > today.replace(day=1) else None,
        next=month_after(first) if month_after(first) <= last_bookable else None,
    )


def by_part(times: Sequence[Time], zone: str) -> list[tuple[DayPart, list[Time]]]:
    """A day's times in up to three groups; empty groups are left out."""
    tz = ZoneInfo(zone)
    groups: dict[DayPart, list[Time]] = {"morning": [], "afternoon": [], "evening": []}
    for one in times:
        hour = one.start.astimezone(tz).hour
        groups["morning" if hour < 12 else "afternoon" if hour < 17 else "evening"].append(one)
    return [(part, found) for part, found in groups.items() if found]
