"""An appointment as an iCalendar file (RFC 5545, methods of RFC 5546).

PUBLISH without ATTENDEE: the file says when it is and asks for no answer. A cancelled one is METHOD:CANCEL with
STATUS:CANCELLED. UID stays and SEQUENCE grows, so a calendar replaces what it had. Times are in the reader's zone,
whose rules of the years around come along as VTIMEZONE.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from icalendar import Alarm, Calendar, Event, Timezone, TimezoneDaylight, TimezoneStandard, vCalAddress

from consult.booking.slots import offset_changes

PRODUCT = "-//Consult//Consult//EN"
CONTENT_TYPE = "text/calendar"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarEntry:
    """One appointment for one reader. Texts may hold anything: they are cleaned here."""

    booking_id: str
    host: str  # of the public URL
    sequence: int
    start: datetime
    end: datetime
    zone: str  # IANA, the reader's
    summary: str
    description: str
    url: str
    organizer_name: str
    organizer_email: str
    changed_at: datetime
    cancelled: bool = False
    alarm_minutes: tuple[int, ...] = (10,)

    @property
    def uid(self) -> str:
        return f"{self.booking_id}@{self.host}"

    @property
    def method(self) -> str:
        return "CANCEL" if self.cancelled else "PUBLISH"


def calendar_file(entry: CalendarEntry, now: datetime) -> bytes:
    """The file, UTF-8 with CRLF and folded lines."""
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("method", entry.method)

    event = Event()
    event.add("uid", _line(entry.uid))
    event.add("sequence", entry.sequence)
    event.add("dtstamp", now.astimezone(UTC))
    event.add("last-modified", entry.changed_at.astimezone(UTC))
    start, end = entry.start, entry.end
    zone_info = ZoneInfo(entry.zone)
    if _is_utc(entry.zone):
        start, end = start.astimezone(UTC), end.astimezone(UTC)
    else:
        start, end = start.astimezone(zone_info), end.astimezone(zone_info)
        calendar.add_component(_timezone(entry.zone, entry.start.astimezone(UTC).year))
    event.add("dtstart", start)
    event.add("dtend", end)
    event.add("summary", _line(entry.summary))
    event.add("description", _text(entry.description))
    event.add("url", _line(entry.url))
    event.add("location", _line(entry.url))
    event.add("status", "CANCELLED" if entry.cancelled else "CONFIRMED")
    event.add("transp", "TRANSPARENT" if entry.cancelled else "OPAQUE")
    event.add("class", "PRIVATE")
    # RFC 5546 sections 3.2.1 and 3.2.5: both methods need an organizer; only the practice is one
    organizer = vCalAddress(f"mailto:{_line(entry.organizer_email)}")
    organizer.params["cn"] = _line(entry.organizer_name).replace('"', "'")
    event.add("organizer", organizer)
    if not entry.cancelled:
        for minutes in entry.alarm_minutes:
            alarm = Alarm()
            alarm.add("action", "DISPLAY")
            alarm.add("description", _line(entry.summary))
            alarm.add("trigger", timedelta(minutes=-minutes))
            event.add_component(alarm)
    calendar.add_component(event)
    return bytes(calendar.to_ical())


@lru_cache(maxsize=256)
def _timezone(zone: str, year: int) -> Timezone:
    """The zone's rules from the year before to the year after."""
    info = ZoneInfo(zone)
    offset, changes = offset_changes(zone, year - 1, year + 1)
    timezone = Timezone()
    timezone.add("tzid", zone)
    begin = datetime.combine(date(year - 1, 1, 1), datetime.min.time(), UTC)
    for at, before, after in [(begin, offset, offset), *changes]:
        local = at.astimezone(info)
        rule: TimezoneDaylight | TimezoneStandard = TimezoneDaylight() if local.dst() else TimezoneStandard()
        # RFC 5545 section 3.6.5: the onset as local time under the offset that ends
        rule.add("dtstart", (at + before).replace(tzinfo=None))
        rule.add("tzoffsetfrom", before)
        rule.add("tzoffsetto", after)
        rule.add("tzname", local.tzname() or zone)
        timezone.add_component(rule)
    return timezone


def _is_utc(zone: str) -> bool:
    return zone in {"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal"}


def _line(text: str) -> str:
    """One line: a line break in a value would begin a property of the writer's choice."""
    return " ".join(_text(text).split())


def _text(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(sign for sign in text if sign == "\n" or unicodedata.category(sign) not in {"Cc", "Cs", "Zl", "Zp"})
