"""The session log for administrators: a list with filters, CSV, and one session in full."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import cast, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from aiohttp import web

from consult.errors import Invalid
from consult.people import specialists
from consult.record import queries
from consult.record.quality import VERDICTS, Verdict
from web.access import Access, access, identity
from web.admin.quality_charts import charts_of, stream_text
from web.i18n import gettext
from web.keys import CLOCK, DATABASE, VAULT
from web.pages import reader_zone, render
from web.responses import utc_text

routes = web.RouteTableDef()

PAGE_ROWS = 25
CSV_ROWS_MAX = 10_000
# a spreadsheet takes a cell that begins with one of these for a formula (OWASP: CSV injection)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|")


@dataclass(frozen=True, slots=True)
class Filters:
    """What the query says, cleaned: anything unknown is no filter. Dates are days in the reader's zone."""

    since: date | None
    until: date | None
    specialist: str
    status: queries.Status | None
    quality: Verdict | None

    @classmethod
    def read(cls, request: web.Request) -> Filters:
        query = request.query
        status, verdict = query.get("status", ""), query.get("quality", "")
        return cls(
            since=_day(query.get("since", "")),
            until=_day(query.get("until", "")),
            specialist=query.get("specialist", "")[:64],
            status=cast("queries.Status", status) if status in get_args(queries.Status) else None,
            quality=verdict if verdict in VERDICTS else None,
        )

    def pairs(self) -> dict[str, str]:
        """The query that says the same, without what is empty."""
        values = {
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat() if self.until else "",
            "specialist": self.specialist,
            "status": self.status or "",
            "quality": self.quality or "",
        }
        return {name: value for name, value in values.items() if value}

    def without(self, name: str) -> str:
        return "/admin/sessions?" + urlencode({key: value for key, value in self.pairs().items() if key != name})

    def for_query(self, zone: str) -> queries.SessionFilter:
        return queries.SessionFilter(
            since=_midnight(self.since, zone) if self.since else None,
            until=_midnight(self.until + timedelta(days=1), zone) if self.until else None,
            specialist_id=self.specialist or None,
            status=self.status,
            quality=self.quality,
        )


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2000 <= day.year <= 2100 else None


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def _scope(request: web.Request) -> queries.Scope:
    return queries.Scope(identity(request).practice_id)


@routes.get("/admin")
@access(Access.ADMIN)
async def admin_home(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPSeeOther("/admin/sessions")


@routes.get("/admin/sessions")
@access(Access.ADMIN)
async def session_list(request: web.Request) -> web.StreamResponse:
    filters, zone = Filters.read(request), reader_zone(request)
    practice_id = identity(request).practice_id
    async with request.app[DATABASE].read() as session:
        people = await specialists.list_specialists(session, request.app[VAULT], practice_id)
        try:
            page = await queries.list_sessions(
                session,
                request.app[VAULT],
                _scope(request),
                filters.for_query(zone),
                request.app[CLOCK](),
                after=request.query.get("after"),
                limit=PAGE_ROWS,
            )
        except Invalid:
            # an old or mistyped cursor: start at the first page
            raise web.HTTPSeeOther("/admin/sessions?" + urlencode(filters.pairs())) from None
    names = {person.id: person.name for person in people}
    context = {
        "filters": filters,
        "page": page,
        "specialists": people,
        "chips": _chips(filters, names),
        "next_url": "/admin/sessions?" + urlencode(filters.pairs() | {"after": page.after}) if page.after else None,
        "first_url": "/admin/sessions?" + urlencode(filters.pairs()) if request.query.get("after") else None,
        "csv_url": "/admin/sessions.csv?" + urlencode(filters.pairs()),
    }
    return render(request, "admin/sessions.html", context)


def _chips(filters: Filters, names: dict[str, str]) -> list[tuple[str, str]]:
    """(text, address without this filter) per active filter."""
    texts = {
        "since": gettext("From %(day)s") % {"day": filters.since},
        "until": gettext("Until %(day)s") % {"day": filters.until},
        "specialist": names.get(filters.specialist, gettext("Unknown specialist")),
        "status": status_text(filters.status or ""),
        "quality": gettext("Quality: %(quality)s") % {"quality": quality_text(filters.quality or "")},
    }
    return [(texts[name], filters.without(name)) for name in filters.pairs()]


def status_text(status: str) -> str:
    return {
        "upcoming": gettext("Upcoming"),
        "open": gettext("Open"),
        "live": gettext("Live"),
        "ended": gettext("Ended"),
        "missed": gettext("Missed"),
        "cancelled": gettext("Cancelled"),
    }.get(status, status)


def quality_text(verdict: str) -> str:
    return {
        "good": gettext("Good"),
        "non_optimal": gettext("Not optimal"),
        "poor": gettext("Poor"),
        "lost": gettext("Lost"),
    }.get(verdict, "—")


@routes.get("/admin/sessions.csv")
@access(Access.ADMIN)
async def session_csv(request: web.Request) -> web.StreamResponse:
    """The filtered list, times in UTC, at most CSV_ROWS_MAX rows. Clients' names are not in it."""
    filters = Filters.read(request)
    rows: list[queries.SessionRow] = []
    after: str | None = None
    async with request.app[DATABASE].read() as session:
        while len(rows) < CSV_ROWS_MAX:
            page = await queries.list_sessions(
                session,
                request.app[VAULT],
                _scope(request),
                filters.for_query(reader_zone(request)),
                request.app[CLOCK](),
                after=after,
                limit=500,
            )
            rows.extend(page.rows)
            after = page.after
            if after is None:
                break
    response = web.Response(text=to_csv(rows), content_type="text/csv", charset="utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="sessions.csv"'
    return response


def to_csv(rows: Sequence[queries.SessionRow]) -> str:
    """RFC 4180, with a byte order mark for spreadsheets; a cell that could be a formula begins with an apostrophe."""
    output = io.StringIO()
    output.write("\ufeff")
    writer = csv.writer(output)
    writer.writerow(
        (
            "id",
            "start",
            "service",
            "specialist",
            "status",
            "started",
            "ended",
            "seconds",
            "people",
            "quality",
            "encryption",
        )
    )
    for row in rows:
        writer.writerow(
            [
                safe_cell(value)
                for value in (
                    row.id,
                    utc_text(row.start),
                    row.service or "",
                    row.specialist or "",
                    row.status,
                    utc_text(row.started_at) if row.started_at else "",
                    utc_text(row.ended_at) if row.ended_at else "",
                    "" if row.duration_seconds is None else str(row.duration_seconds),
                    str(row.people),
                    row.verdict or "",
                    row.encryption,
                )
            ]
        )
    return output.getvalue()


def safe_cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


@routes.get("/admin/sessions/{session}")
@access(Access.ADMIN)
async def one_session(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].read() as session:
        detail = await queries.get_session(
            session, request.app[VAULT], _scope(request), request.match_info["session"][:64], request.app[CLOCK]()
        )
    context = {
        "detail": detail,
        "row": detail.row,
        "charts": charts_of(detail, reader_zone(request)),
        "event_text": event_text,
        "event_kind": event_kind,
        "stream_text": stream_text,
        "median_rtt": _median_rtt(detail),
        "worst_loss": max(
            (stream.mean_loss for who in detail.participants for stream in who.streams if stream.mean_loss is not None),
            default=None,
        ),
        "reconnects": sum(who.reconnects for who in detail.participants),
        "routes": sorted({who.route for who in detail.participants if who.route}),
        "codecs": sorted({codec for who in detail.participants for codec in who.codecs}),
    }
    return render(request, "admin/session.html", context)


def _median_rtt(detail: queries.SessionDetail) -> float | None:
    found = sorted(
        stream.median_rtt_ms
        for who in detail.participants
        for stream in who.streams
        if stream.median_rtt_ms is not None
    )
    return found[len(found) // 2] if found else None


def event_text(kind: str, detail: str) -> str:
    """A line of the log in words."""
    texts = {
        "waiting": gettext("waits"),
        "admitted": gettext("was let in"),
        "joined": gettext("joined"),
        "left": gettext("left"),
        "reconnecting": gettext("lost the connection"),
        "reconnected": gettext("is connected again"),
        "route": {"udp": gettext("media flows directly (UDP)"), "relayed": gettext("media flows through TURN")}.get(
            detail, gettext("media flows")
        ),
        "codec": gettext("sends %(codec)s") % {"codec": detail},
        "started": gettext("The conversation began"),
        "ended": gettext("The conversation ended"),
        "media_restarted": gettext("The relay was replaced"),
    }
    return texts.get(kind, kind)


def event_kind(kind: str) -> str:
    """The dot's colour."""
    return {
        "joined": "good",
        "admitted": "good",
        "started": "good",
        "reconnected": "good",
        "reconnecting": "warning",
        "media_restarted": "warning",
        "left": "",
    }.get(kind, "")
