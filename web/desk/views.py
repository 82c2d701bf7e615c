"""The specialist's desk: today, the week, one consultation. Everything is scoped to the signed-in specialist."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import agenda, availability, bookings
from consult.booking.agenda import BookingView
from consult.booking.models import Consultation
from consult.errors import Invalid, NotFound
from consult.people.roles import Owner, may
from consult.record import notes
from consult.record.notes import NoteView
from web.access import Access, access, actor, identity
from web.desk import week as weeks
from web.desk.waiting import WaitingClient, waiting_clients
from web.forms import Form, problems_by_field
from web.i18n import gettext, valid_zone
from web.keys import CLOCK, DATABASE, HUB, VAULT
from web.pages import reader_zone, render, render_text

routes = web.RouteTableDef()

CALENDAR_STATUSES = ("pending", "confirmed", "completed", "no_show")


@routes.get("/desk")
@access(Access.SPECIALIST)
async def today(request: web.Request) -> web.StreamResponse:
    """The next appointment, who waits, the rest of the day, and the next days."""
    person, now, zone = identity(request), request.app[CLOCK](), reader_zone(request)
    local_day = now.astimezone(ZoneInfo(zone)).date()
    midnight = datetime.combine(local_day, time(), ZoneInfo(zone)).astimezone(UTC)
    async with request.app[DATABASE].read() as session:
        upcoming = await agenda.next_booking(session, request.app[VAULT], person.practice_id, person.person_id, now)
        listed = await agenda.list_bookings(
            session,
            request.app[VAULT],
            person.practice_id,
            specialist_id=person.person_id,
            window_from=midnight,
            window_until=midnight + timedelta(days=8),
            statuses=CALENDAR_STATUSES,
        )
    tomorrow = datetime.combine(local_day + timedelta(days=1), time(), ZoneInfo(zone)).astimezone(UTC)
    context = {
        "upcoming": upcoming,
        "today": [item for item in listed if item.start < tomorrow],
        "later": [item for item in listed if item.start >= tomorrow][:10],
        "waiting": await waiting_clients(request, person),
        "day": local_day,
    }
    return render(request, "desk/today.html", context)


@routes.get("/desk/waiting")
@access(Access.SPECIALIST)
async def waiting(request: web.Request) -> web.StreamResponse:
    """The list of those who wait, as a fragment of the page and for its script: polled every 5 s."""
    found: list[WaitingClient] = await waiting_clients(request, identity(request))
    html = render_text(request, "desk/_waiting.html", {"waiting": found})
    return web.json_response(
        {"waiting": [item.participant_id for item in found], "html": html}, headers={"Cache-Control": "no-store"}
    )


@routes.get("/desk/calendar")
@access(Access.SPECIALIST)
async def calendar(request: web.Request) -> web.StreamResponse:
    """A week in the specialist's own zone, because the open hours are meant in it."""
    person, now = identity(request), request.app[CLOCK]()
    today_utc = now.date()
    async with request.app[DATABASE].read() as session:
        hours = await availability.hours(session, person.practice_id, person.person_id, today_utc - timedelta(days=400))
        zone = valid_zone(hours.zone) or reader_zone(request)
        selected = _day(request.query.get("day", "")) or now.astimezone(ZoneInfo(zone)).date()
        window_from, window_until = weeks.week_bounds(selected, zone)
        listed = await agenda.list_bookings(
            session,
            request.app[VAULT],
            person.practice_id,
            specialist_id=person.person_id,
            window_from=window_from,
            window_until=window_until,
            statuses=CALENDAR_STATUSES,
        )
    monday = weeks.monday_of(selected)
    open_minutes = [hours.exceptions.get(monday + timedelta(days=offset), hours.weekly[offset]) for offset in range(7)]
    entries = [weeks.Entry(item.start, item.end, item) for item in listed]
    context = {
        "week": weeks.lay_out(selected, zone, now, entries, open_minutes),
        "week_zone": zone,
        "selected": selected,
        "previous": selected - timedelta(days=7),
        "next": selected + timedelta(days=7),
        "count": len(listed),
    }
    return render(request, "desk/calendar.html", context)


def _day(text: str) -> date | None:
    """A date within ten years of now: the calendar's arithmetic stays far from the ends of time."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2000 <= day.year <= 2100 else None


@routes.get("/desk/consultations/{consultation}")
@access(Access.SPECIALIST)
async def consultation(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].read() as session:
        booking = await own_booking(request, session)
        written = await _notes(request, session, booking)
    return _consultation_page(request, booking, written)


async def _notes(request: web.Request, session: AsyncSession, booking: BookingView) -> list[NoteView]:
    return await notes.list_notes(
        session,
        request.app[VAULT],
        consultation_id=booking.consultation_id,
        specialist_id=identity(request).person_id,
    )


def _consultation_page(
    request: web.Request, booking: BookingView, written: list[NoteView], *, problem: str = "", status: int = 200
) -> web.Response:
    now = request.app[CLOCK]()
    messages = {
        "cancelled": gettext("The appointment is cancelled. The client is told by e-mail."),
        "marked": gettext("Saved."),
        "note": gettext("The note is saved."),
    }
    context = {
        "booking": booking,
        "notes": written,
        "notice": messages.get(request.query.get("done", ""), ""),
        "problem": problem,
        "joinable": booking.consultation_status == "open" and booking.opens_at <= now <= booking.closes_at,
        "changeable": booking.status in ("pending", "confirmed") and booking.start > now,
        "markable": booking.status in ("confirmed", "completed", "no_show") and booking.start <= now,
    }
    return render(request, "desk/consultation.html", context, status)


async def own_booking(request: web.Request, session: AsyncSession) -> BookingView:
    """The booking behind `{consultation}`. Another specialist's or practice's does not exist for the caller."""
    missing = NotFound("This appointment does not exist.")
    booking_id = await session.scalar(
        select(Consultation.booking_id).where(Consultation.id == request.match_info["consultation"][:64])
    )
    if booking_id is None:
        raise missing
    booking = await agenda.find(session, request.app[VAULT], identity(request).practice_id, booking_id)
    owner = Owner(booking.practice_id, booking.specialist_id, booking.id)
    if not may(actor(request), "read", "booking", owner):
        raise missing
    return booking


def _actor(request: web.Request) -> bookings.Actor:
    person = identity(request)
    return bookings.Actor(person.role, person.person_id)


@routes.post("/desk/consultations/{consultation}/cancel")
@access(Access.SPECIALIST)
async def cancel(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].write() as session:
        booking = await own_booking(request, session)
        await bookings.cancel(session, booking.practice_id, booking.id, _actor(request), request.app[CLOCK]())
    # after the commit: nobody who is sent out can come back in
    await request.app[HUB].end(booking.consultation_id, "cancelled")
    raise web.HTTPSeeOther(f"/desk/consultations/{booking.consultation_id}?done=cancelled")


@routes.post("/desk/consultations/{consultation}/outcome")
@access(Access.SPECIALIST)
async def outcome(request: web.Request) -> web.StreamResponse:
    form = await Form.read(request)
    said = form.text("outcome")
    if said not in ("completed", "no_show"):
        raise web.HTTPBadRequest
    async with request.app[DATABASE].write() as session:
        booking = await own_booking(request, session)
        await bookings.mark(
            session,
            booking.practice_id,
            booking.id,
            "completed" if said == "completed" else "no_show",
            _actor(request),
            request.app[CLOCK](),
        )
    raise web.HTTPSeeOther(f"/desk/consultations/{booking.consultation_id}?done=marked")


@routes.post("/desk/consultations/{consultation}/notes")
@access(Access.SPECIALIST)
async def add_note(request: web.Request) -> web.StreamResponse:
    form = await Form.read(request)
    async with request.app[DATABASE].write() as session:
        booking = await own_booking(request, session)
        try:
            await notes.create_note(
                session,
                request.app[VAULT],
                consultation_id=booking.consultation_id,
                specialist_id=identity(request).person_id,
                text=form.text("text"),
                now=request.app[CLOCK](),
            )
        except Invalid as error:
            problem = problems_by_field(error)["text"]
            return _consultation_page(
                request, booking, await _notes(request, session, booking), problem=problem, status=422
            )
    raise web.HTTPSeeOther(f"/desk/consultations/{booking.consultation_id}?done=note")


@routes.post("/desk/consultations/{consultation}/notes/{note}/delete")
@access(Access.SPECIALIST)
async def delete_note(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].write() as session:
        booking = await own_booking(request, session)
        await notes.delete_note(
            session, note_id=request.match_info["note"][:64], specialist_id=identity(request).person_id
        )
    raise web.HTTPSeeOther(f"/desk/consultations/{booking.consultation_id}")
