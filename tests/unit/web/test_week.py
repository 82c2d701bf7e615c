"""The week calendar's geometry, on ordinary weeks and over both clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from web.desk.week import ROWS_PER_HOUR, Entry, lay_out, monday_of, week_bounds

BERLIN = "Europe/Berlin"
CLOSED: list[list[tuple[int, int]]] = [[] for _ in range(7)]
WEDNESDAY = date(2026, 3, 4)


def at(text: str, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_a_booking_stands_at_its_wall_clock_time() -> None:
    week = lay_out(
        WEDNESDAY, BERLIN, at("2026-03-04T10:00"), [Entry(at("2026-03-05T09:30"), at("2026-03-05T10:20"), "x")], CLOSED
    )
    assert week.days[0].day.isoformat() == "2026-03-02"
    thursday = week.days[3]
    assert [(block.row, block.rows, block.item) for block in thursday.blocks] == [(18, 10, "x")]
    assert week.first_hour == 8
    assert week.days[2].is_today
    assert week.days[2].is_selected
    assert week.days[2].now_row == 2 * ROWS_PER_HOUR


def test_early_and_late_hours_widen_the_day() -> None:
    hours = [[(6 * 60, 12 * 60)], [], [], [], [(18 * 60, 24 * 60)], [], []]
    week = lay_out(WEDNESDAY, BERLIN, at("2026-03-04T03:00"), [], hours)
    assert (week.first_hour, week.last_hour) == (6, 24)
    assert week.days[0].open_blocks[0].row == 0
    assert week.days[4].open_blocks[0].rows == 6 * ROWS_PER_HOUR
    assert week.days[2].now_row is None  # 03:00 is not shown


def test_over_midnight_it_is_drawn_on_both_days() -> None:
    week = lay_out(
        WEDNESDAY, BERLIN, at("2026-03-04T10:00"), [Entry(at("2026-03-04T23:30"), at("2026-03-05T00:30"), "x")], CLOSED
    )
    assert (week.first_hour, week.last_hour) == (0, 24)
    assert [(block.row, block.rows) for block in week.days[2].blocks] == [(23 * 12 + 6, 6)]
    assert [(block.row, block.rows) for block in week.days[3].blocks] == [(0, 6)]


def test_a_booking_until_midnight_does_not_spill() -> None:
    week = lay_out(
        WEDNESDAY, BERLIN, at("2026-03-04T10:00"), [Entry(at("2026-03-04T23:00"), at("2026-03-05T00:00"), "x")], CLOSED
    )
    assert len(week.days[2].blocks) == 1
    assert week.days[3].blocks == ()


def test_a_week_with_a_clock_change_is_bounded_by_local_midnights() -> None:
    start, end = week_bounds(date(2026, 3, 29), BERLIN)  # the clock goes forward that Sunday
    assert end - start == timedelta(hours=7 * 24 - 1)
    start, end = week_bounds(date(2026, 10, 25), BERLIN)
    assert end - start == timedelta(hours=7 * 24 + 1)


@given(
    st.dates(date(2024, 1, 1), date(2030, 1, 1)),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]),
    st.lists(st.tuples(st.integers(0, 7 * 24 * 60 - 1), st.integers(5, 480)), max_size=8),
)
def test_every_block_lies_in_its_column(day: date, zone: str, spans: list[tuple[int, int]]) -> None:
    start, _ = week_bounds(day, zone)
    entries = [
        Entry(start + timedelta(minutes=begin), start + timedelta(minutes=begin + length), index)
        for index, (begin, length) in enumerate(spans)
    ]
    week = lay_out(day, zone, start, entries, CLOSED)
    rows = (week.last_hour - week.first_hour) * ROWS_PER_HOUR
    assert week.days[0].day == monday_of(day)
    for column in week.days:
        for block in column.blocks:
            assert block.row >= 0
            assert block.rows >= 1
            assert block.row + block.rows <= rows
