"""Free slots: a pure function of rules, busy times and `now`. Everything it returns is aware UTC.

Open hours are wall-clock minutes in the specialist's zone, so 09:00 stays 09:00 over a change of the clocks. What that
means at the edges, decided here and kept by the tests:

- An instant is open when its wall-clock time is inside the open hours of its wall-clock date. Ranges that touch, also
  over midnight, are one stretch: a slot may cross the seam.
- Starts stand on a grid of `step_minutes` from the beginning of each range, in wall-clock time. A start that the clocks
  skip is not offered; one that they repeat is offered once, the first time. (So of a repeated hour the second pass
  can be filled by a slot that began before, but none starts in it.)
- A slot lasts its duration in real time.
- Buffers keep a distance to busy times; they may reach outside the open hours.

Offsets are read from the zone database once per zone and year, at every full hour and then to the minute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_MINUTES = 1_440
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_SECOND = timedelta(seconds=1)
_SAMPLE_MINUTES = 60

# wall-clock minutes after midnight, 0 <= start < end <= 1440
DayRange = tuple[int, int]


class Interval(NamedTuple):
    """[start, end), aware."""

    start: datetime
    end: datetime


class Slot(NamedTuple):
    """A free time to offer: [start, end), UTC, without buffers."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Availability:
    """When a specialist is open. `weekly` has the ranges of Monday to Sunday; `exceptions` replace those of one date
    (no ranges = closed that day)."""

    zone: str  # IANA
    weekly: tuple[tuple[DayRange, ...], ...]
    exceptions: Mapping[date, tuple[DayRange, ...]] = field(default_factory=dict)

    def ranges(self, day: date) -> tuple[DayRange, ...]:
        found = self.exceptions.get(day)
        return self.weekly[day.weekday()] if found is None else found


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """What a service asks of a slot. The last start offered is before now + `horizon_days` × 24 h."""

    duration_minutes: int
    step_minutes: int = 30
    buffer_before_minutes: int = 0
    buffer_after_minutes: int = 0
    minimum_notice_minutes: int = 0
    horizon_days: int = 60

    def __post_init__(self) -> None:
        if self.duration_minutes <= 0 or self.step_minutes <= 0:
            raise ValueError("duration and step must be positive")
        if min(self.buffer_before_minutes, self.buffer_after_minutes, self.minimum_notice_minutes) < 0:
            raise ValueError("buffers and notice must not be negative")

    def blocked(self, start: datetime) -> Interval:
        """The time a booking at `start` takes out of the calendar, with its buffers."""
        start = start.astimezone(UTC)
        return Interval(
            start - timedelta(minutes=self.buffer_before_minutes),
            start + timedelta(minutes=self.duration_minutes + self.buffer_after_minutes),
        )


def free_slots(
    availability: Availability,
    service: ServiceRules,
    busy: Iterable[Interval],
    window_from: datetime,
    window_until: datetime,
    now: datetime,
) -> list[Slot]:
    """The slots that start in [window_from, window_until), in order, each start once.

    `busy` are times nothing may touch, in any order, overlapping or not; bookings are given with their own buffers
    (`Booking.blocks_from`, `blocks_until`). All datetimes are aware.
    """
    now = now.astimezone(UTC)  # adding to a time in a zone would move the hands, not the instant
    earliest = max(_seconds(window_from), _seconds(now + timedelta(minutes=service.minimum_notice_minutes)))
    latest = min(_seconds(window_until), _seconds(now + timedelta(days=service.horizon_days)))
    if earliest >= latest:
        return []
    duration = service.duration_minutes * 60
    before = service.buffer_before_minutes * 60
    after = service.buffer_after_minutes * 60

    starts: list[int] = []
    stretches: list[tuple[int, int]] = []
    # a stretch that a slot needs can begin on the day before the first start and end the day after the last
    margin = DAY_MINUTES + service.duration_minutes
    step = service.step_minutes
    for day, pieces in _days(availability.zone, earliest // 60 - margin, latest // 60 + margin):
        for start_minute, end_minute in availability.ranges(day):
            for midnight, piece_from, piece_until in pieces:
                stretch = (max(midnight + start_minute, piece_from), min(midnight + end_minute, piece_until))
                if stretch[0] < stretch[1]:
                    stretches.append(stretch)
            starts.extend(_grid(pieces, start_minute, end_minute, step))
    open_stretches = _merged((begin * 60, end * 60) for begin, end in stretches)
    busy_stretches = _merged((_seconds_down(start), _seconds(end)) for start, end in busy)

    found: list[Slot] = []
    open_index = busy_index = 0
    open_count, busy_count = len(open_stretches), len(busy_stretches)
    fromtimestamp, length = datetime.fromtimestamp, timedelta(seconds=duration)
    for start in sorted(set(starts)):
        start *= 60
        if start < earliest:
            continue
        if start >= latest:
            break
        end = start + duration
        while open_index < open_count and open_stretches[open_index][1] < end:
            open_index += 1
        if open_index == open_count:
            break
        if open_stretches[open_index][0] > start:
            continue
        while busy_index < busy_count and busy_stretches[busy_index][1] <= start - before:
            busy_index += 1
        if busy_index < busy_count and busy_stretches[busy_index][0] < end + after:
            continue
        begins = fromtimestamp(start, UTC)
        found.append(Slot(begins, begins + length))
    return found


def local_day(day: date, zone: str) -> Interval:
    """The first instant of a wall-clock date and of the next one, UTC: 23, 24 or 25 hours in most zones. A date that
    the zone skipped (Pacific/Apia, 2011-12-30) is empty."""
    begin, end = (_first_instant(moment, zone) for moment in (day, day + timedelta(days=1)))
    return Interval(datetime.fromtimestamp(begin * 60, UTC), datetime.fromtimestamp(end * 60, UTC))


class OffsetChange(NamedTuple):
    """The clocks of a zone go from one offset to another at an instant (UTC)."""

    at: datetime
    before: timedelta
    after: timedelta


def offset_changes(zone: str, first_year: int, last_year: int) -> tuple[timedelta, list[OffsetChange]]:
    """The offset at the beginning of `first_year` (UTC) and every change until the end of `last_year`."""
    found: list[OffsetChange] = []
    begins = offset = _changes(zone, first_year)[0][1]
    for year in range(first_year, last_year + 1):
        for minute, after in _changes(zone, year):
            if after != offset:
                moment = datetime.fromtimestamp(minute * 60, UTC)
                found.append(OffsetChange(moment, timedelta(minutes=offset), timedelta(minutes=after)))
                offset = after
    return timedelta(minutes=begins), found


# (UTC minute of the piece's beginning, its end, offset in minutes): a time in which the offset does not change
_Piece = tuple[int, int, int]
# (minute that local midnight would have under the piece's offset, the piece's beginning, its end), cut to one date
_DayPiece = tuple[int, int, int]


def _days(zone: str, from_minute: int, until_minute: int) -> Iterator[tuple[date, list[_DayPiece]]]:
    """Every wall-clock date that touches the window, with the stretches of real time it consists of."""
    pieces = _pieces(zone, from_minute, until_minute)
    first = (from_minute + pieces[0][2]) // DAY_MINUTES
    last = (until_minute + pieces[-1][2]) // DAY_MINUTES
    lookup = 0
    for number in range(first, last + 1):
        day_pieces: list[_DayPiece] = []
        for index in range(lookup, len(pieces)):
            piece_from, piece_until, offset = pieces[index]
            midnight = number * DAY_MINUTES - offset
            # a date can come twice to a piece's edge, so look a day beyond before leaving a piece for good
            if piece_until + DAY_MINUTES <= midnight:
                lookup = index + 1
                continue
            if piece_from >= midnight + DAY_MINUTES:
                break
            begin, end = max(midnight, piece_from), min(midnight + DAY_MINUTES, piece_until)
            if begin < end:
                day_pieces.append((midnight, begin, end))
        if day_pieces:
            yield date.fromordinal(_EPOCH_DAY + number), day_pieces


def _grid(pieces: Sequence[_DayPiece], start_minute: int, end_minute: int, step: int) -> Iterator[int]:
    """UTC minutes of the range's starts: the first instant that shows each wall-clock time, if there is one."""
    if len(pieces) == 1:
        midnight, begin, end = pieces[0]
        if begin <= midnight + start_minute and midnight + end_minute <= end:
            yield from range(midnight + start_minute, midnight + end_minute, step)
            return
    for wall in range(start_minute, end_minute, step):
        for midnight, begin, end in pieces:
            if begin <= midnight + wall < end:
                yield midnight + wall
                break


def _pieces(zone: str, from_minute: int, until_minute: int) -> list[_Piece]:
    """The offsets in force over [from_minute, until_minute], in order and without gaps; at least one piece."""
    changes: list[tuple[int, int]] = []
    for year in range(_year(from_minute), _year(until_minute) + 1):
        changes.extend(_changes(zone, year))
    moments = [moment for moment, _ in changes]
    first = max(bisect_right(moments, from_minute) - 1, 0)
    pieces: list[_Piece] = []
    for index in range(first, len(changes)):
        moment, offset = changes[index]
        if moment > until_minute:
            break
        end = moments[index + 1] if index + 1 < len(moments) else until_minute + 2 * DAY_MINUTES
        if pieces and pieces[-1][2] == offset:  # the turn of a year
            pieces[-1] = (pieces[-1][0], end, offset)
        else:
            pieces.append((moment, end, offset))
    return pieces


@lru_cache(maxsize=2_048)
def _changes(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """(UTC minute, offset in minutes from then on): the beginning of the UTC year, then every change in it."""
    info = ZoneInfo(zone)
    begin = (date(year, 1, 1).toordinal() - _EPOCH_DAY) * DAY_MINUTES
    end = (date(year + 1, 1, 1).toordinal() - _EPOCH_DAY) * DAY_MINUTES
    offset = _offset(info, begin)
    found = [(begin, offset)]
    for sample in range(begin + _SAMPLE_MINUTES, end + _SAMPLE_MINUTES, _SAMPLE_MINUTES):
        later = _offset(info, sample)
        if later == offset:
            continue
        low, high = sample - _SAMPLE_MINUTES, sample
        while high - low > 1:
            middle = (low + high) // 2
            if _offset(info, middle) == offset:
                low = middle
            else:
                high = middle
        offset = later
        if high < end:
            found.append((high, later))
    return tuple(found)


def _first_instant(day: date, zone: str) -> int:
    """The first UTC minute whose wall-clock date is `day` or later."""
    number = day.toordinal() - _EPOCH_DAY
    for found, pieces in _days(zone, (number - 2) * DAY_MINUTES, (number + 3) * DAY_MINUTES):
        if found >= day:
            return pieces[0][1]
    raise AssertionError("a zone cannot skip three dates")


def _offset(info: ZoneInfo, minute: int) -> int:
    offset = datetime.fromtimestamp(minute * 60, UTC).astimezone(info).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) // 60


def _year(minute: int) -> int:
    return date.fromordinal(_EPOCH_DAY + minute // DAY_MINUTES).year


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order; those that overlap or touch are one. Empty ones go."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(stretches):
        if begin >= end:
            continue
        if found and begin <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def _seconds_down(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


def _seconds(moment: datetime) -> int:
    """Rounded up: a fraction of a second never makes a slot too early or a busy time too short."""
    return -((_EPOCH - moment) // _SECOND)
