"""The week calendar's geometry, pure: bookings and open hours become rows of five minutes in seven day columns.

A row is a class (`from-27 rows-6`, see static/css/week.css): the content security policy allows no inline style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

ROW_MINUTES = 5
ROWS_PER_HOUR = 60 // ROW_MINUTES
DEFAULT_FIRST_HOUR, DEFAULT_LAST_HOUR = 8, 18

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Block(Generic[Item]):
    """`row` counts from the first hour shown, 0-based; `rows` ≥ 1."""

    row: int
    rows: int
    item: Item


@dataclass(frozen=True, slots=True)
class DayColumn(Generic[Item]):
    day: date
    is_today: bool
    is_selected: bool
    open_blocks: tuple[Block[tuple[int, int]], ...]
    blocks: tuple[Block[Item], ...]
    now_row: int | None


@dataclass(frozen=True, slots=True)
class Week(Generic[Item]):
    monday: date
    first_hour: int
    last_hour: int
    days: tuple[DayColumn[Item], ...]

    @property
    def hours(self) -> range:
        return range(self.first_hour, self.last_hour)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Item]):
    start: datetime
    end: datetime
    item: Item


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


def week_bounds(day: date, zone: str) -> tuple[datetime, datetime]:
    """The UTC interval of the week around `day`, by the zone's own midnights."""
    monday = monday_of(day)
    return _midnight(monday, zone), _midnight(monday + timedelta(days=7), zone)


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def lay_out(
    selected: date,
    zone: str,
    now: datetime,
    entries: Sequence[Entry[Item]],
    open_minutes: Sequence[Sequence[tuple[int, int]]],
) -> Week[Item]:
    """`open_minutes` are the open ranges of Monday … Sunday, wall-clock minutes after midnight in `zone`. An entry over
    midnight is drawn in both columns. On a day of 23 or 25 hours entries are placed by the wall clock."""
    monday = monday_of(selected)
    local = ZoneInfo(zone)
    days = [monday + timedelta(days=offset) for offset in range(7)]
    placed: list[list[tuple[int, int, Item]]] = [[] for _ in days]
    for entry in entries:
        start, end = entry.start.astimezone(local), entry.end.astimezone(local)
        for index, day in enumerate(days):
            if start.date() > day or end.date() < day or (end.date() == day and end.time() == time()):
                continue
            from_minute = start.hour * 60 + start.minute if start.date() == day else 0
            to_minute = end.hour * 60 + end.minute if end.date() == day else 24 * 60
            # an hour that repeats in autumn can end "before" it starts on the wall clock
            placed[index].append((from_minute, max(to_minute, from_minute + ROW_MINUTES), entry.item))
    starts = [item[0] for column in placed for item in column] + [item[0] for ranges in open_minutes for item in ranges]
    ends = [item[1] for column in placed for item in column] + [item[1] for ranges in open_minutes for item in ranges]
    first_hour = min([DEFAULT_FIRST_HOUR, *(minute // 60 for minute in starts)])
    last_hour = min(24, max([DEFAULT_LAST_HOUR, *(-(-minute // 60) for minute in ends)]))
    today = now.astimezone(local)

    def block(from_minute: int, to_minute: int, item: Item) -> Block[Item]:
        row = (from_minute - first_hour * 60) // ROW_MINUTES
        last = -(-(min(to_minute, last_hour * 60) - first_hour * 60) // ROW_MINUTES)
        return Block(row=row, rows=max(1, last - row), item=item)

    def open_block(from_minute: int, to_minute: int) -> Block[tuple[int, int]]:
        row = (from_minute - first_hour * 60) // ROW_MINUTES
        return Block(row=row, rows=(to_minute - from_minute) // ROW_MINUTES, item=(from_minute, to_minute))

    columns = []
    for index, day in enumerate(days):
        now_minute = today.hour * 60 + today.minute
        shown = day == today.date() and first_hour * 60 <= now_minute < last_hour * 60
        columns.append(
            DayColumn(
                day=day,
                is_today=day == today.date(),
                is_selected=day == selected,
                open_blocks=tuple(open_block(start, end) for start, end in open_minutes[index]),
                blocks=tuple(block(*item) for item in sorted(placed[index], key=lambda item: item[0])),
                now_row=(now_minute - first_hour * 60) // ROW_MINUTES if shown else None,
            )
        )
    return Week(monday=monday, first_hour=first_hour, last_hour=last_hour, days=tuple(columns))
