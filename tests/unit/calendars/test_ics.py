"""The iCalendar file: what calendars rely on, in any zone, whatever the texts hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar, Event

from consult.calendars.ics import CalendarEntry, calendar_file

START = datetime(2026, 3, 29, 7, tzinfo=UTC)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ENTRY = CalendarEntry(
    booking_id="b" * 32,
    host="linden.example",
    sequence=0,
    start=START,
    end=START + timedelta(minutes=30),
    zone="Europe/Berlin",
    summary="First visit, Dr. Ada Stone",
    description="Join: https://linden.example/join/x#y\nChange: https://linden.example/manage/z#w",
    url="https://linden.example/join/x#y",
    organizer_name="Linden Practice",
    organizer_email="consult@linden.example",
    changed_at=NOW,
)


def parse(entry: CalendarEntry) -> tuple[Calendar, Event]:
    calendar = Calendar.from_ical(calendar_file(entry, NOW))
    (event,) = calendar.walk("VEVENT")
    return calendar, event


def test_a_published_appointment() -> None:
    calendar, event = parse(ENTRY)
    assert calendar["METHOD"] == "PUBLISH"
    assert event["UID"] == f"{'b' * 32}@linden.example"
    assert event["SEQUENCE"] == 0
    assert event["STATUS"] == "CONFIRMED"
    assert "ATTENDEE" not in event
    assert event["ORGANIZER"] == "mailto:consult@linden.example"
    assert event["DTSTART"].params["TZID"] == "Europe/Berlin"
    assert event["DTSTART"].dt == START
    assert event["DTEND"].dt - event["DTSTART"].dt == timedelta(minutes=30)
    assert event["URL"] == ENTRY.url
    assert event["DESCRIPTION"] == ENTRY.description
    (alarm,) = event.walk("VALARM")
    assert alarm["TRIGGER"].dt == timedelta(minutes=-10)


def test_a_cancelled_one_keeps_the_uid_and_has_the_higher_sequence() -> None:
    _, before = parse(ENTRY)
    calendar, event = parse(replace(ENTRY, cancelled=True, sequence=1))
    assert calendar["METHOD"] == "CANCEL"
    assert event["STATUS"] == "CANCELLED"
    assert event["UID"] == before["UID"]
    assert event["SEQUENCE"] > before["SEQUENCE"]
    assert event.walk("VALARM") == []


def test_utc_needs_no_zone() -> None:
    text = calendar_file(replace(ENTRY, zone="Etc/UTC"), NOW).decode()
    assert "DTSTART:20260329T070000Z" in text
    assert "VTIMEZONE" not in text


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "America/Sao_Paulo",
        "Asia/Kolkata",
        "Pacific/Apia",
        "Europe/Dublin",
    ],
)
def test_the_zones_own_rules_tell_the_same_instant(zone: str) -> None:
    """A calendar that knows no zones has only the VTIMEZONE: around every week of the year it must agree."""
    for week in range(0, 52):
        start = datetime(2026, 1, 1, 0, 30, tzinfo=UTC) + timedelta(weeks=week, hours=week)
        calendar, _ = parse(replace(ENTRY, zone=zone, start=start, end=start + timedelta(hours=1)))
        (timezone,) = calendar.walk("VTIMEZONE")
        assert timezone["TZID"] == zone
        wall = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        rules = [
            (rule["DTSTART"].dt, rule["TZOFFSETTO"].td, rule["TZOFFSETFROM"].td) for rule in timezone.subcomponents
        ]
        # RFC 5545 section 3.6.5: the latest onset not after the time decides
        onset, offset, _ = max(rule for rule in rules if rule[0] <= wall)
        assert wall - offset == start.replace(tzinfo=None), (onset, wall)


hostile = st.text(alphabet=st.sampled_from('ab:;,"\\\r\n\t\x00\x0b\x85\u2028 BEGIN:VEVENT\n'), max_size=80)


@settings(max_examples=200, deadline=None)
@given(summary=hostile, description=hostile, name=hostile)
def test_no_text_breaks_out_of_its_property(summary: str, description: str, name: str) -> None:
    text = calendar_file(replace(ENTRY, summary=summary, description=description, organizer_name=name), NOW).decode()
    # unfold, RFC 5545 section 3.1
    lines = text.replace("\r\n ", "").split("\r\n")
    assert not any("\n" in line or "\r" in line for line in lines)
    plain = calendar_file(replace(ENTRY, summary="s", description="d", organizer_name="n"), NOW).decode()
    names = [line.split(":")[0].split(";")[0] for line in lines]
    assert names == [line.split(":")[0].split(";")[0] for line in plain.replace("\r\n ", "").split("\r\n")]
