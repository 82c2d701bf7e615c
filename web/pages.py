"""Rendering: one template environment, the reader's language and zone, and formatting filters.

Templates see `_`, `ngettext`, `language`, `zone`, `practice`, `identity` (or None), `csrf_token`, `static(path)`,
`now`, `path`, and the filters day, weekday_day, clock, moment, relative, duration, zone_label, number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from aiohttp import web
from babel import dates, numbers

from web import i18n
from web.access import signed_in
from web.keys import CLOCK, IDENTITY, LANGUAGE, PRACTICE, STATIC, ZONE

TEMPLATES = Path(__file__).parent / "templates"


def reader_zone(request: web.Request) -> str:
    """The reader's IANA zone: their choice, else their account's, else the practice's."""
    return request.get(ZONE) or request.app[PRACTICE].zone


def reader_language(request: web.Request) -> str:
    return request.get(LANGUAGE) or request.app[PRACTICE].language


def _locale() -> Any:
    return i18n.locale_of(i18n.current_language.get())


def day(value: datetime | date, zone: str | None = None) -> str:
    """Tuesday, 3 March 2026, or its like in the reader's language."""
    if isinstance(value, datetime) and zone is not None:
        value = value.astimezone(ZoneInfo(zone))
    return dates.format_date(value, "full", locale=_locale())


def short_day(value: datetime | date, zone: str | None = None) -> str:
    if isinstance(value, datetime) and zone is not None:
        value = value.astimezone(ZoneInfo(zone))
    return dates.format_skeleton("MMMEd", value, locale=_locale())


def weekday(value: date) -> str:
    """Mon, or its like in the reader's language."""
    return dates.format_date(value, "ccc", locale=_locale())


def pairs(values: Iterable[str]) -> list[tuple[str, str]]:
    """Options of a select whose text is their value."""
    return [(value, value.replace("_", " ")) for value in values]


def clock(value: datetime, zone: str) -> str:
    """09:30 in the zone."""
    return value.astimezone(ZoneInfo(zone)).strftime("%H:%M")


def clock_seconds(value: datetime, zone: str) -> str:
    return value.astimezone(ZoneInfo(zone)).strftime("%H:%M:%S")


def moment(value: datetime, zone: str) -> str:
    """3 Mar 2026, 09:30 in the zone."""
    local = value.astimezone(ZoneInfo(zone))
    return f"{dates.format_skeleton('yMMMd', local, locale=_locale())}, {local:%H:%M}"


def relative(value: datetime, now: datetime) -> str:
    """in 12 minutes, 3 hours ago."""
    return dates.format_timedelta(value - now, add_direction=True, threshold=1.2, locale=_locale())


def duration(value: timedelta | float | None) -> str:
    """1:02:03, 4:05; an em dash for nothing. Numbers are seconds."""
    if value is None:
        return "—"
    seconds = int(value.total_seconds() if isinstance(value, timedelta) else value)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def number(value: float, digits: int = 0) -> str:
    return numbers.format_decimal(round(value, digits), locale=_locale())


def create_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    environment.install_gettext_callables(i18n.gettext, i18n.ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= {
        "day": day,
        "short_day": short_day,
        "weekday": weekday,
        "pairs": pairs,
        "clock": clock,
        "clock_seconds": clock_seconds,
        "moment": moment,
        "relative": relative,
        "duration": duration,
        "zone_label": i18n.zone_label,
        "number": number,
    }
    environment.globals["languages"] = i18n.LANGUAGE_NAMES
    return environment


_environment = create_environment()


def render_text(request: web.Request, template: str, context: Mapping[str, Any]) -> str:
    """The template's text (a page or a fragment) in the reader's language."""
    session = request.get(IDENTITY)
    return _environment.get_template(template).render(
        {
            "request": request,
            "path": request.path,
            "language": reader_language(request),
            "zone": reader_zone(request),
            "practice": request.app[PRACTICE],
            "identity": signed_in(request),
            "csrf_token": session.csrf_token if session is not None else "",
            "static": request.app[STATIC].url,
            "now": request.app[CLOCK](),
            **context,
        }
    )


def render(
    request: web.Request, template: str, context: Mapping[str, Any] | None = None, status: int = 200
) -> web.Response:
    """A page. It is not cached: pages show people's data or depend on the reader's language and zone."""
    response = web.Response(
        text=render_text(request, template, context or {}), content_type="text/html", charset="utf-8", status=status
    )
    response.headers["Cache-Control"] = "no-store"
    return response
