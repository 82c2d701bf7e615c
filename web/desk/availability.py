"""The availability editor: weekly hours, date exceptions, the zone. It works without JavaScript: every day shows one
empty row more than it has, and an empty row is no hours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from aiohttp import web

from consult.booking import availability
from consult.booking.slots import DAY_MINUTES
from consult.errors import Invalid, Problem
from consult.people import specialists
from web.access import Access, access, identity
from web.forms import Form
from web.i18n import all_zones, gettext
from web.keys import CLOCK, DATABASE
from web.pages import render

routes = web.RouteTableDef()
Range = tuple[int, int]


def clock_text(minute: int) -> str:
    """540 → 09:00. The end of the day is 00:00: a time field knows no 24:00."""
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def minute_of(text: str) -> int | None:
    hours, separator, minutes = text.partition(":")
    if not separator or not (hours.isascii() and hours.isdigit() and minutes[:2].isascii() and minutes[:2].isdigit()):
        return None
    value = int(hours) * 60 + int(minutes[:2])
    return value if 0 <= value < DAY_MINUTES and int(minutes[:2]) < 60 else None


def read_ranges(starts: Sequence[str], ends: Sequence[str], pointer: str, problems: list[Problem]) -> list[Range]:
    """Rows of two times; a row with neither is left out, an end of 00:00 is midnight."""
    ranges: list[Range] = []
    for start_text, end_text in zip(starts, ends, strict=False):
        if not start_text and not end_text:
            continue
        start, end = minute_of(start_text), minute_of(end_text)
        if start is None or end is None:
            problems.append(Problem(pointer, "incomplete", "Please give both times, such as 09:00 and 17:00."))
            continue
        ranges.append((start, end or DAY_MINUTES))
    return ranges


@routes.get("/desk/availability")
@access(Access.SPECIALIST)
async def editor(request: web.Request) -> web.StreamResponse:
    return await _page(request)


async def _page(
    request: web.Request,
    *,
    weekly: Sequence[Sequence[tuple[str, str]]] | None = None,
    typed: Form | None = None,
    problems: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    """`weekly` and `typed` are what was typed, to be shown again after a mistake."""
    person = identity(request)
    async with request.app[DATABASE].read() as session:
        hours = await availability.hours(session, person.practice_id, person.person_id, request.app[CLOCK]().date())
    notices = {
        "hours": gettext("Your hours are saved. Appointments that are already booked stay as they are."),
        "exception": gettext("The day is saved."),
        "removed": gettext("The day follows your weekly hours again."),
    }
    shown = weekly or [[(clock_text(start), clock_text(end)) for start, end in day] for day in hours.weekly]
    context: dict[str, Any] = {
        "weekly": shown,
        "chosen_zone": (typed.text("zone") if typed else "") or hours.zone,
        "typed": {name: typed.text(name) if typed else "" for name in ("day", "kind", "start", "end")},
        "exceptions": {
            day: [(clock_text(start), clock_text(end)) for start, end in ranges]
            for day, ranges in sorted(hours.exceptions.items())
        },
        "zones": sorted(zone for zone in all_zones() if "/" in zone or zone == "UTC"),
        "problems": problems or {},
        "notice": notices.get(request.query.get("done", ""), ""),
        "today": request.app[CLOCK]().date(),
    }
    return render(request, "desk/availability.html", context, status)


@routes.post("/desk/availability")
@access(Access.SPECIALIST)
async def save(request: web.Request) -> web.StreamResponse:
    """Fields `start-0` … `end-6` (Monday to Sunday), several of each."""
    person, form = identity(request), await Form.read(request)
    typed = [list(zip(form.list(f"start-{day}"), form.list(f"end-{day}"), strict=False)) for day in range(7)]
    problems: list[Problem] = []
    weekly = [
        read_ranges([row[0] for row in rows], [row[1] for row in rows], f"/weekly/{day}/0", problems)
        for day, rows in enumerate(typed)
    ]
    try:
        if problems:
            raise Invalid(problems)
        async with request.app[DATABASE].write() as session:
            await specialists.update_specialist(session, person.practice_id, person.person_id, zone=form.text("zone"))
            await availability.set_weekly_hours(session, person.practice_id, person.person_id, weekly)
    except Invalid as error:
        named = {_day_field(problem.pointer): gettext(problem.message) for problem in error.problems}
        rows = [[row for row in day if row != ("", "")] for day in typed]
        return await _page(request, weekly=rows, typed=form, problems=named, status=error.status)
    raise web.HTTPSeeOther("/desk/availability?done=hours")


def _day_field(pointer: str) -> str:
    """/weekly/2/0 → day-2, /zone → zone."""
    parts = pointer.strip("/").split("/")
    return f"day-{parts[1]}" if parts[0] == "weekly" and len(parts) > 1 else parts[0]


@routes.post("/desk/availability/exceptions")
@access(Access.SPECIALIST)
async def save_exception(request: web.Request) -> web.StreamResponse:
    """One date: closed, or open at other hours than usual."""
    person, form = identity(request), await Form.read(request)
    problems: list[Problem] = []
    day = _date(form.text("day"), request.app[CLOCK]().date(), problems)
    ranges: list[Range] = []
    if form.text("kind") == "open":
        ranges = read_ranges(form.list("start"), form.list("end"), "/ranges", problems)
        if not ranges and not problems:
            problems.append(Problem("/ranges", "missing", "Please give the hours of that day, or choose closed."))
    try:
        if problems or day is None:
            raise Invalid(problems)
        async with request.app[DATABASE].write() as session:
            await availability.set_exception(session, person.practice_id, person.person_id, day, ranges)
    except Invalid as error:
        named = {problem.pointer.split("/")[1]: gettext(problem.message) for problem in error.problems}
        return await _page(request, typed=form, problems=named, status=error.status)
    raise web.HTTPSeeOther("/desk/availability?done=exception")


@routes.post("/desk/availability/exceptions/remove")
@access(Access.SPECIALIST)
async def remove_exception(request: web.Request) -> web.StreamResponse:
    person, form = identity(request), await Form.read(request)
    try:
        day = date.fromisoformat(form.text("day"))
    except ValueError:
        raise web.HTTPBadRequest from None
    async with request.app[DATABASE].write() as session:
        await availability.remove_exception(session, person.practice_id, person.person_id, day)
    raise web.HTTPSeeOther("/desk/availability?done=removed")


def _date(text: str, today: date, problems: list[Problem]) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        problems.append(Problem("/day", "missing", "Please choose a date."))
        return None
    if day < today or day.year > today.year + 5:
        problems.append(Problem("/day", "past", "Please choose a date that is still to come."))
        return None
    return day
