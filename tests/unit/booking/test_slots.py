"""The slot engine against a minute-by-minute oracle, over changes of the clocks in seven zones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consult.booking.slots import Availability, Interval, ServiceRules, Slot, free_slots, local_day

MINUTE = timedelta(minutes=1)

# (zone, a UTC day near a change of its clocks)
CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 4, 4)),  # half an hour
    ("Australia/Lord_Howe", date(2026, 10, 3)),
    ("Africa/Casablanca", date(2026, 2, 15)),  # Ramadan: back, and forth a month later
    ("Africa/Casablanca", date(2026, 3, 22)),
    ("America/Sao_Paulo", date(2018, 11, 4)),  # midnight does not exist
    ("America/Sao_Paulo", date(2019, 2, 16)),  # 23:00 comes twice
    ("Asia/Kolkata", date(2026, 3, 29)),  # no change, an offset of half an hour
    ("Pacific/Apia", date(2011, 12, 30)),  # a whole date is skipped
    ("Asia/Gaza", date(2026, 3, 28)),
]
ZONES = sorted({zone for zone, _ in CHANGES})


def wall_minute(moment: datetime) -> int:
    return moment.hour * 60 + moment.minute


def is_open(availability: Availability, moment: datetime) -> bool:
    wall = moment.astimezone(ZoneInfo(availability.zone))
    ranges = availability.exceptions.get(wall.date(), availability.weekly[wall.weekday()])
    return any(start <= wall_minute(wall) < end for start, end in ranges)


def oracle(
    availability: Availability,
    service: ServiceRules,
    busy: Sequence[Interval],
    window: Interval,
    now: datetime,
) -> list[Slot]:
    """Asks every minute of the window by itself."""
    info = ZoneInfo(availability.zone)
    found = []
    length = timedelta(minutes=service.duration_minutes)
    moment = window.start
    while moment < window.end:
        wall = moment.astimezone(info)
        ranges = availability.exceptions.get(wall.date(), availability.weekly[wall.weekday()])
        on_grid = wall.fold == 0 and any(
            start <= wall_minute(wall) < end and (wall_minute(wall) - start) % service.step_minutes == 0
            for start, end in ranges
        )
        if (
            on_grid
            and moment >= now + timedelta(minutes=service.minimum_notice_minutes)
            and moment < now + timedelta(days=service.horizon_days)
            and all(is_open(availability, moment + MINUTE * n) for n in range(service.duration_minutes))
        ):
            blocked_from = moment - timedelta(minutes=service.buffer_before_minutes)
            blocked_until = moment + length + timedelta(minutes=service.buffer_after_minutes)
            if not any(start < blocked_until and blocked_from < end and start < end for start, end in busy):
                found.append(Slot(moment, moment + length))
        moment += MINUTE
    return found


@st.composite
def day_ranges(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    marks = draw(st.lists(st.integers(0, 96), min_size=0, max_size=6, unique=True).map(sorted))
    pairs = [(marks[i] * 15, marks[i + 1] * 15) for i in range(0, len(marks) - 1, 2)]
    if draw(st.booleans()) and pairs:
        # touching ranges, up to midnight
        pairs.append((pairs[-1][1], 1440)) if pairs[-1][1] < 1440 else None
    return tuple(pairs)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Availability, ServiceRules, list[Interval], Interval, datetime]:
    zone, day = draw(st.sampled_from(CHANGES))
    middle = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    weekly = tuple(draw(day_ranges()) for _ in range(7))
    exceptions = draw(
        st.dictionaries(st.integers(-2, 2).map(lambda n: day + timedelta(days=n)), day_ranges(), max_size=2)
    )
    rules = ServiceRules(
        duration_minutes=draw(st.integers(5, 150)),
        step_minutes=draw(st.sampled_from([5, 7, 15, 20, 30, 45, 60])),
        buffer_before_minutes=draw(st.sampled_from([0, 5, 30])),
        buffer_after_minutes=draw(st.sampled_from([0, 10, 45])),
        minimum_notice_minutes=draw(st.sampled_from([0, 1, 60, 1440])),
        horizon_days=draw(st.sampled_from([1, 2, 60])),
    )
    window_from = middle + timedelta(minutes=draw(st.integers(-2200, 600)))
    window = Interval(window_from, window_from + timedelta(minutes=draw(st.integers(0, 2200))))
    busy = []
    for _ in range(draw(st.integers(0, 6))):
        start = window_from + timedelta(minutes=draw(st.integers(-300, 2200)))
        busy.append(Interval(start, start + timedelta(minutes=draw(st.integers(0, 240)))))
    now = window_from - timedelta(minutes=draw(st.integers(-500, 2000)))
    return Availability(zone, weekly, exceptions), rules, busy, window, now


@settings(max_examples=250, deadline=None)
@given(questions())
def test_the_engine_agrees_with_asking_every_minute(
    question: tuple[Availability, ServiceRules, list[Interval], Interval, datetime],
) -> None:
    availability, rules, busy, window, now = question
    found = free_slots(availability, rules, busy, window.start, window.end, now)
    assert found == oracle(availability, rules, busy, window, now)


@settings(max_examples=100, deadline=None)
@given(questions())
def test_every_slot_keeps_the_rules(
    question: tuple[Availability, ServiceRules, list[Interval], Interval, datetime],
) -> None:
    availability, rules, busy, window, now = question
    found = free_slots(availability, rules, busy, window.start, window.end, now)
    assert [slot.start for slot in found] == sorted({slot.start for slot in found}), "in order, each once"
    for slot in found:
        assert slot.end - slot.start == timedelta(minutes=rules.duration_minutes)
        assert slot.start.tzinfo is UTC
        assert window.start <= slot.start < window.end
        assert slot.start >= now + timedelta(minutes=rules.minimum_notice_minutes)
        assert slot.start < now + timedelta(days=rules.horizon_days)
        assert is_open(availability, slot.start)
        assert is_open(availability, slot.end - MINUTE)
        blocked = rules.blocked(slot.start)
        for begin, end in busy:
            assert begin >= end or blocked.end <= begin or end <= blocked.start


@settings(max_examples=60, deadline=None)
@given(questions(), st.sampled_from(ZONES), st.sampled_from(ZONES))
def test_the_visitors_zone_changes_nothing(
    question: tuple[Availability, ServiceRules, list[Interval], Interval, datetime], zone_a: str, zone_b: str
) -> None:
    availability, rules, busy, window, now = question
    seen = [
        free_slots(
            availability,
            rules,
            [Interval(start.astimezone(zone), end.astimezone(zone)) for start, end in busy],
            window.start.astimezone(zone),
            window.end.astimezone(zone),
            now.astimezone(zone),
        )
        for zone in (ZoneInfo(zone_a), ZoneInfo(zone_b), ZoneInfo(zone_a))
    ]
    assert seen[0] == seen[1] == seen[2]


@settings(max_examples=60, deadline=None)
@given(questions())
def test_more_busy_time_never_adds_a_slot(
    question: tuple[Availability, ServiceRules, list[Interval], Interval, datetime],
) -> None:
    availability, rules, busy, window, now = question
    all_day = free_slots(availability, rules, [], window.start, window.end, now)
    assert set(free_slots(availability, rules, busy, window.start, window.end, now)) <= set(all_day)


def weekdays(*ranges: tuple[int, int]) -> tuple[tuple[tuple[int, int], ...], ...]:
    return (ranges,) * 7


def starts(
    zone: str, day: date, ranges: Sequence[tuple[int, int]], duration: int, step: int = 30
) -> list[tuple[str, int]]:
    """(wall-clock time, fold) of the slots of one date."""
    window = local_day(day, zone)
    found = free_slots(
        Availability(zone, weekdays(*ranges)),
        ServiceRules(duration, step),
        [],
        window.start,
        window.end,
        window.start - timedelta(days=1),
    )
    return [(f"{wall:%H:%M}", wall.fold) for wall in (slot.start.astimezone(ZoneInfo(zone)) for slot in found)]


@pytest.mark.parametrize(
    ("zone", "day"),
    [(zone, day + timedelta(days=n)) for zone, day in CHANGES for n in (-1, 1, 2) if zone != "Pacific/Apia"],
)
def test_nine_stays_nine_on_both_sides_of_a_change(zone: str, day: date) -> None:
    assert [time for time, _ in starts(zone, day, [(540, 660)], 60, 60)] == ["09:00", "10:00"]


def test_nine_is_another_instant_after_the_change() -> None:
    window = Interval(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC))
    found = free_slots(Availability("Europe/Berlin", weekdays((540, 600))), ServiceRules(60), [], *window, window.start)
    assert [slot.start.hour for slot in found] == [8, 7]


def test_a_time_that_the_clocks_skip_is_not_offered() -> None:
    assert starts("Europe/Berlin", date(2026, 3, 29), [(60, 240)], 30) == [
        ("01:00", 0),
        ("01:30", 0),
        ("03:00", 0),
        ("03:30", 0),
    ]


def test_a_repeated_hour_is_offered_once() -> None:
    assert starts("Europe/Berlin", date(2026, 10, 25), [(60, 240)], 30) == [
        ("01:00", 0),
        ("01:30", 0),
        ("02:00", 0),
        ("02:30", 0),
        ("03:00", 0),
        ("03:30", 0),
    ]


def test_a_slot_over_the_change_lasts_its_real_time() -> None:
    window = local_day(date(2026, 3, 29), "Europe/Berlin")
    found = free_slots(
        Availability("Europe/Berlin", weekdays((60, 240))), ServiceRules(120, 60), [], *window, window.start
    )
    # 01:00 lasts until 04:00 on the wall; a start at 03:00 would end at 05:00
    assert [slot.start for slot in found] == [datetime(2026, 3, 29, 0, tzinfo=UTC)]


def test_closed_time_inside_the_repeated_hour_stays_closed() -> None:
    # open from 02:30: the clocks go from 03:00 back to 02:00, where it is closed again
    assert starts("Europe/Berlin", date(2026, 10, 25), [(150, 240)], 60) == [("03:00", 0)]


def test_half_an_hour_of_lord_howe() -> None:
    assert starts("Australia/Lord_Howe", date(2026, 10, 4), [(90, 180)], 30) == [("01:30", 0), ("02:30", 0)]


def test_a_date_that_the_zone_skipped_has_no_slots() -> None:
    day = local_day(date(2011, 12, 30), "Pacific/Apia")
    assert day.start == day.end
    assert starts("Pacific/Apia", date(2011, 12, 31), [(0, 60)], 60) == [("00:00", 0)]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Europe/Berlin", date(2026, 6, 1), 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Sao_Paulo", date(2019, 2, 16), 25),
    ],
)
def test_the_length_of_a_day(zone: str, day: date, hours: float) -> None:
    begin, end = local_day(day, zone)
    assert end - begin == timedelta(hours=hours)
    assert begin.astimezone(ZoneInfo(zone)).date() == day
    assert (begin - MINUTE).astimezone(ZoneInfo(zone)).date() < day
    slots = len(starts(zone, day, [(0, 1440)], 15, 15))
    # the second pass of a repeated time starts nothing
    assert slots == min(hours, 24) * 4


def test_hours_up_to_midnight_join_the_next_day() -> None:
    window = Interval(datetime(2026, 6, 1, 21, tzinfo=UTC), datetime(2026, 6, 2, 3, tzinfo=UTC))
    availability = Availability("Etc/UTC", weekdays((22 * 60, 1440), (0, 60)))
    found = free_slots(availability, ServiceRules(60, 30), [], *window, window.start)
    assert [f"{slot.start:%H:%M}" for slot in found] == ["22:00", "22:30", "23:00", "23:30", "00:00"]


def test_an_exception_replaces_the_day() -> None:
    day = date(2026, 6, 1)
    window = Interval(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 4, tzinfo=UTC))
    availability = Availability(
        "Etc/UTC", weekdays((540, 600)), {day: (), day + timedelta(days=1): ((600, 660), (900, 960))}
    )
    found = free_slots(availability, ServiceRules(60), [], *window, window.start)
    assert [f"{slot.start:%d %H:%M}" for slot in found] == ["02 10:00", "02 15:00", "03 09:00"]


def test_buffers_keep_a_distance_to_busy_times_to_the_minute() -> None:
    window = Interval(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC))
    availability = Availability("Etc/UTC", weekdays((540, 780)))
    rules = ServiceRules(30, 30, buffer_before_minutes=10, buffer_after_minutes=20)

    def times(*busy: Interval) -> list[str]:
        return [f"{slot.start:%H:%M}" for slot in free_slots(availability, rules, busy, *window, window.start)]

    def at(hour: int, minute: int, second: int = 0) -> datetime:
        return datetime(2026, 6, 1, hour, minute, second, tzinfo=UTC)

    assert times() == ["09:00", "09:30", "10:00", "10:30", "11:00", "11:30", "12:00", "12:30"]
    # 09:30 needs 09:20 to 10:20, 11:00 needs 10:50 to 11:50
    assert times(Interval(at(10, 20), at(10, 50))) == ["09:00", "09:30", "11:00", "11:30", "12:00", "12:30"]
    assert times(Interval(at(10, 19, 59), at(10, 50, 1))) == ["09:00", "11:30", "12:00", "12:30"]


def test_the_first_slot_after_the_notice_and_the_last_before_the_horizon() -> None:
    now = datetime(2026, 6, 1, 9, 0, 1, tzinfo=UTC)
    availability = Availability("Etc/UTC", weekdays((0, 1440)))
    rules = ServiceRules(60, 60, minimum_notice_minutes=60, horizon_days=1)
    found = free_slots(availability, rules, [], now - timedelta(days=9), now + timedelta(days=9), now)
    assert found[0].start == datetime(2026, 6, 1, 11, tzinfo=UTC)
    assert found[-1].start == datetime(2026, 6, 2, 9, tzinfo=UTC)


def test_senseless_rules_are_refused() -> None:
    for wrong in ({"duration_minutes": 0}, {"duration_minutes": 5, "step_minutes": 0}):
        with pytest.raises(ValueError, match="positive"):
            ServiceRules(**wrong)
    with pytest.raises(ValueError, match="negative"):
        ServiceRules(5, buffer_before_minutes=-1)
