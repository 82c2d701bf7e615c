"""The month calendar, the day's times, zones, and the addresses that carry them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.booking.month import (
    build_month,
    by_part,
    day_bounds,
    merge_times,
    month_after,
    parse_day,
    parse_month,
    times_by_day,
)
from web.booking.offers import initials, parse_start
from web.booking.zones import listed_zones, zone_choices

days = st.dates(date(2020, 1, 1), date(2035, 12, 31))


@given(days, st.integers(0, 6))
def test_a_month_is_whole_weeks_with_every_day_once(day: date, first_weekday: int) -> None:
    first = day.replace(day=1)
    month = build_month(
        first, {}, today=day, last_bookable=day + timedelta(days=60), selected=day, first_weekday=first_weekday
    )
    cells = [cell for week in month.weeks for cell in week]
    assert all(len(week) == 7 for week in month.weeks)
    assert all(week[0].day.weekday() == first_weekday for week in month.weeks)
    assert all(later.day - earlier.day == timedelta(days=1) for earlier, later in pairwise(cells))
    inside = [cell.day.day for cell in cells if cell.in_month]
    assert inside == list(range(1, (month_after(first) - first).days + 1))
    assert [cell.day for cell in cells if cell.selected] == [day]
    assert not month.has_times


def test_only_months_with_a_future_can_be_reached() -> None:
    today = date(2026, 3, 20)

    def around(first: date) -> tuple[date | None, date | None]:
        month = build_month(first, {}, today=today, last_bookable=date(2026, 5, 19), selected=None)
        return month.previous, month.next

    assert around(date(2026, 3, 1)) == (None, date(2026, 4, 1))
    assert around(date(2026, 4, 1)) == (date(2026, 3, 1), date(2026, 5, 1))
    assert around(date(2026, 5, 1)) == (date(2026, 4, 1), None)


@given(days, st.integers(-30, 30))
def test_months_go_both_ways(day: date, months: int) -> None:
    first = day.replace(day=1)
    assert month_after(month_after(first, months), -months) == first


def test_a_day_has_23_24_or_25_hours() -> None:
    lengths = {
        day: (lambda bounds: (bounds[1] - bounds[0]) / timedelta(hours=1))(day_bounds(day, day, "Europe/Berlin"))
        for day in (date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25))
    }
    assert list(lengths.values()) == [24, 23, 25]


def test_times_of_several_people_are_shown_once_and_grouped() -> None:
    def at(hour: int) -> datetime:
        return datetime(2026, 3, 9, hour, tzinfo=UTC)

    half = timedelta(minutes=30)
    slots = [
        (at(8), at(8) + half, "a"),
        (at(16), at(16) + half, "a"),
        (at(8), at(8) + half, "b"),
        (at(11), at(11) + half, "b"),
    ]
    times = merge_times(slots)
    assert [(one.start.hour, one.specialists) for one in times] == [(8, ("a", "b")), (11, ("b",)), (16, ("a",))]
    # Berlin is an hour ahead: 09:00, 12:00, 17:00
    assert [(part, len(found)) for part, found in by_part(times, "Europe/Berlin")] == [
        ("morning", 1),
        ("afternoon", 1),
        ("evening", 1),
    ]
    assert list(times_by_day(times, "Pacific/Auckland")) == [date(2026, 3, 9), date(2026, 3, 10)]


@pytest.mark.parametrize("text", [None, "", "2026", "2026-00", "2026-13", "26-01", "2026-01-01", "1999-12", "٢٠٢٦-٠١x"])
def test_what_is_no_month(text: str | None) -> None:
    assert parse_month(text) is None


def test_months_and_days_are_read() -> None:
    assert parse_month("2026-03") == date(2026, 3, 1)
    assert parse_day("2026-03-29") == date(2026, 3, 29)
    assert parse_day("2026-02-30") is None


@pytest.mark.parametrize(
    "text",
    [None, "", "tomorrow", "2026-03-09T08:00", "2026-03-09T08:00:30Z", "0001-01-01T00:00+23:00", "9999-12-31T23:59Z"],
)
def test_what_is_no_start(text: str | None) -> None:
    assert parse_start(text) is None


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    parse_month(text)
    parse_day(text)
    start = parse_start(text)
    assert start is None or start.tzinfo is UTC


def test_a_start_is_read_with_any_offset() -> None:
    assert parse_start("2026-03-09T09:00:00+01:00") == datetime(2026, 3, 9, 8, tzinfo=UTC)


def test_every_zone_that_is_offered_exists_and_is_named_with_its_offset() -> None:
    zones = listed_zones()
    assert len(zones) > 250
    assert zones[-1] == "UTC"
    for name in zones:
        ZoneInfo(name)
    summer = dict(zone_choices("Europe/Berlin", datetime(2026, 7, 1, tzinfo=UTC)))
    assert summer["Europe/Berlin"] == "Europe/Berlin (UTC+2)"
    assert summer["Asia/Kolkata"] == "Asia/Kolkata (UTC+5:30)"
    assert summer["America/New_York"] == "America/New York (UTC−4)"
    # browsers also tell names that are not listed
    assert zone_choices("Asia/Calcutta", datetime(2026, 7, 1, tzinfo=UTC))[0][0] == "Asia/Calcutta"


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Dr. Anna Keller", "AK"), ("Анна", "А"), ("Prof. Dr. Li", "L"), ("", ""), ("X. Y.", "X"), ("4you", "4")],
)
def test_initials(name: str, letters: str) -> None:
    assert initials(name) == letters
