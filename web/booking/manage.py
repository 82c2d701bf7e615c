"""The client's own booking: confirmation, manage page, cancelling, moving, and its ICS file.

The link in the mail carries the secret in its fragment; the page's script posts it to /open, which turns it into a
cookie of this booking's pages. From then on everything is rendered here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import urlsplit

from aiohttp import web

from consult.booking import agenda, bookings, links
from consult.booking.agenda import BookingView
from consult.calendars.ics import CONTENT_TYPE, CalendarEntry, calendar_file
from consult.errors import Conflict, Invalid, NotFound, SlotTaken
from web.access import Access, access
from web.api.decoding import json_body
from web.api.schema import ManageToken
from web.api.throttle import CHANGE, READ, throttle
from web.booking.appointment import Appointment, load_appointment
from web.booking.capability import booking_id, give_capability, holds_capability
from web.booking.offers import TimeChoice, build_picker, parse_start
from web.i18n import gettext as _
from web.keys import CLOCK, DATABASE, HUB, PRACTICE, SETTINGS, VAULT
from web.pages import moment, reader_zone, render
from web.responses import problem, utc_text

routes = web.RouteTableDef()

Page = Callable[[web.Request, Appointment], Awaitable[web.StreamResponse]]


def with_appointment(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Run `page` for whoever holds this booking's cookie. Anybody else gets the opener: it reads the link's fragment,
    and says the same whether the booking exists or not."""

    @access(Access.CAPABILITY)
    async def handle(request: web.Request) -> web.StreamResponse:
        await throttle(request, READ if request.method == "GET" else CHANGE)
        id = booking_id(request)
        if id is None or not holds_capability(request, id):
            status = 200 if request.method == "GET" else 403
            return render(request, "booking/open.html", {"id": id or ""}, status)
        async with request.app[DATABASE].read() as session:
            appointment = await load_appointment(request, session, id)
        if appointment is None:
            raise web.HTTPNotFound
        return await page(request, appointment)

    handle.__name__ = page.__name__
    return handle


@routes.post("/manage/{id}/open")
@access(Access.CAPABILITY)
async def open_booking(request: web.Request) -> web.StreamResponse:
    """Exchange the link's token for the cookie. 204, or 404 for a token that opens nothing."""
    await throttle(request, CHANGE)
    given = await json_body(request, ManageToken)
    id = booking_id(request)
    if id is None or request.app[VAULT].token_id(links.MANAGE, given.token) != id:
        return problem(404, "not_found", _("This link does not open a booking. Please check that it is complete."))
    response = web.Response(status=204)
    give_capability(request, response, id, request.app[VAULT].capability(links.MANAGE, id))
    return response


@routes.get("/manage/{id}")
@with_appointment
async def manage(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    return _page(request, "booking/manage.html", appointment)


@routes.get("/manage/{id}/confirmed")
@with_appointment
async def confirmed(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    """The last step of booking. After a change the manage page tells the present state better."""
    if appointment.cancelled:
        raise web.HTTPFound(f"/manage/{appointment.id}")
    return _page(request, "booking/confirmed.html", appointment)


@routes.get("/manage/{id}/cancel")
@with_appointment
async def ask_cancel(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    if not appointment.changeable:
        raise web.HTTPFound(f"/manage/{appointment.id}")
    return _page(request, "booking/cancel.html", appointment)


@routes.post("/manage/{id}/cancel")
@with_appointment
async def cancel(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    """303 to the manage page, which says that it is cancelled. 409 when the deadline has passed."""
    try:
        async with request.app[DATABASE].write() as session:
            await bookings.cancel(
                session, request.app[PRACTICE].id, appointment.id, bookings.CLIENT, request.app[CLOCK]()
            )
        # after the commit: nobody who is sent out can come back in
        await request.app[HUB].end(appointment.booking.consultation_id, "cancelled")
    except Conflict as error:
        if error.code != "already_cancelled":
            return _page(request, "booking/manage.html", appointment, message=_(error.message), status=409)
    raise web.HTTPSeeOther(f"/manage/{appointment.id}")


@routes.get("/manage/{id}/reschedule")
@with_appointment
async def ask_reschedule(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    if not appointment.changeable:
        raise web.HTTPFound(f"/manage/{appointment.id}")
    return await _choose(request, appointment)


@routes.post("/manage/{id}/reschedule")
@with_appointment
async def reschedule(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    """A chosen `start` is shown for confirmation first; with `confirm` the booking moves."""
    form = await request.post()
    start = parse_start(str(form.get("start", ""))[:40])
    if start is None:
        raise web.HTTPSeeOther(f"/manage/{appointment.id}/reschedule")
    if form.get("confirm") != "yes":
        end = start + (appointment.booking.end - appointment.booking.start)
        return _page(
            request, "booking/move.html", appointment, start_value=utc_text(start), new_start=start, new_end=end
        )
    try:
        async with request.app[DATABASE].write() as session:
            await bookings.reschedule(
                session, request.app[PRACTICE].id, appointment.id, start, bookings.CLIENT, request.app[CLOCK]()
            )
    except SlotTaken as error:
        return await _choose(request, appointment, taken=True, near=[one.start for one in error.alternatives])
    except Invalid as error:
        return await _choose(request, appointment, message=_(error.problems[0].message), status=422)
    except Conflict as error:
        return _page(request, "booking/manage.html", appointment, message=_(error.message), status=409)
    raise web.HTTPSeeOther(f"/manage/{appointment.id}?moved=1")


async def _choose(
    request: web.Request,
    appointment: Appointment,
    *,
    taken: bool = False,
    near: list[datetime] | None = None,
    message: str = "",
    status: int = 200,
) -> web.Response:
    zone = reader_zone(request)
    base = f"/manage/{appointment.id}/reschedule"
    async with request.app[DATABASE].read() as session:
        picker = await build_picker(
            request, session, appointment.offer, base, post_url=base, moving=appointment.booking
        )
    return _page(
        request,
        "booking/reschedule.html",
        appointment,
        message=message,
        status=409 if taken else status,
        calendar=picker,
        taken=taken,
        alternatives=[TimeChoice(utc_text(one), moment(one, zone), "") for one in near or []],
    )


def _page(
    request: web.Request,
    template: str,
    appointment: Appointment,
    *,
    message: str = "",
    status: int = 200,
    **more: object,
) -> web.Response:
    context = {
        "appointment": appointment,
        "offer": appointment.offer,
        "message": message,
        "moved": request.query.get("moved") == "1",
        **more,
    }
    return render(request, template, context, status)


@routes.get("/manage/{id}/appointment.ics")
@with_appointment
async def own_file(request: web.Request, appointment: Appointment) -> web.StreamResponse:
    """For the client's own calendar, with the join link in it."""
    return _file(request, appointment.booking, appointment.join_url)


@routes.get("/ics/{id}/{mac}.ics")
@access(Access.CAPABILITY)
async def shared_file(request: web.Request) -> web.StreamResponse:
    """For programs that fetch it by its address. Proxies write addresses down, so this one opens nothing else: the file
    names the appointment's page without its secret."""
    await throttle(request, READ)
    id = booking_id(request)
    if id is None:
        raise web.HTTPNotFound
    try:
        async with request.app[DATABASE].read() as session:
            booking = await agenda.open_calendar_entry(session, request.app[VAULT], id, request.match_info["mac"])
    except NotFound:
        raise web.HTTPNotFound from None
    return _file(request, booking, f"{request.app[SETTINGS].public_url}/manage/{booking.id}")


def _file(request: web.Request, booking: BookingView, url: str) -> web.Response:
    """The appointment as ICS, in the client's zone."""
    settings = request.app[SETTINGS]
    if "#" in url:
        description = _("Video consultation. Join here: %(url)s") % {"url": url}
    else:
        description = _("Video consultation. The link to join is in your confirmation e-mail.")
    entry = CalendarEntry(
        booking_id=booking.id,
        host=urlsplit(settings.public_url).hostname or "localhost",
        sequence=booking.sequence,
        start=booking.start,
        end=booking.end,
        zone=booking.zone,
        summary=_("%(service)s with %(name)s") % {"service": booking.service_name, "name": booking.specialist_name},
        description=description,
        url=url,
        organizer_name=request.app[PRACTICE].name,
        organizer_email=settings.mail_from,
        changed_at=booking.created_at,
        cancelled=booking.status == "cancelled",
    )
    return web.Response(
        body=calendar_file(entry, request.app[CLOCK]()),
        content_type=CONTENT_TYPE,
        charset="utf-8",
        headers={"Content-Disposition": 'attachment; filename="appointment.ics"'},
    )
