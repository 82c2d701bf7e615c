"""The form step: GET shows it, POST books and leads to the confirmation page."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from aiohttp import web

from consult.booking import bookings
from consult.booking.links import MANAGE
from consult.booking.requests import BookingRequest
from consult.errors import Alternative, Conflict, Invalid, Refused, SlotTaken
from web.access import Access, access
from web.api.throttle import BOOK, READ, throttle
from web.booking.capability import give_capability
from web.booking.offers import ANY, Offer, TimeChoice, load_offer, parse_start
from web.i18n import gettext as _
from web.keys import CLOCK, DATABASE, PRACTICE, VAULT
from web.pages import moment, reader_language, reader_zone, render
from web.responses import utc_text

routes = web.RouteTableDef()

KEY_MAX = 64
# a JSON pointer of the domain → the form's field
_FIELDS = {
    "/client/name": "name",
    "/client/email": "email",
    "/answers/reason": "reason",
    "/consent": "consent",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """What the visitor typed, kept through every error."""

    name: str = ""
    email: str = ""
    reason: str = ""
    consent: bool = False
    website: str = ""  # a field that people do not see

    @classmethod
    def of(cls, form: Mapping[str, object]) -> Typed:
        return cls(
            name=_text(form, "name", 1_000),
            email=_text(form, "email", 1_000),
            reason=_text(form, "reason", 20_000).replace("\r\n", "\n"),
            consent=_text(form, "consent", 10) == "yes",
            website=_text(form, "website", 100),
        )


@routes.get("/book/{service}/{specialist}/details")
@access(Access.PUBLIC)
async def details(request: web.Request) -> web.StreamResponse:
    """The form for one start. A start that cannot be read leads back to the calendar."""
    await throttle(request, READ)
    offer = await _offer(request)
    start = parse_start(request.query.get("start"))
    if start is None or start < request.app[CLOCK]():
        raise web.HTTPFound(offer.url)
    return _form(request, offer, start, Typed(), secrets.token_urlsafe(16))


@routes.post("/book/{service}/{specialist}/details")
@access(Access.PUBLIC)
async def book(request: web.Request) -> web.StreamResponse:
    """303 to the confirmation page; 422 with what is wrong; 409 with other times. What was typed stays."""
    await throttle(request, BOOK)
    offer = await _offer(request)
    form = await request.post()
    typed = Typed.of(form)
    key = _text(form, "key", KEY_MAX) or secrets.token_urlsafe(16)
    start = parse_start(_text(form, "start", 40))
    if start is None:
        raise web.HTTPSeeOther(offer.url)
    if typed.website:
        problem = _("Please leave the hidden field empty, then send the form again.")
        return _form(request, offer, start, replace(typed, website=""), key, problems={"form": problem}, status=422)
    wish = BookingRequest(
        practice_id=request.app[PRACTICE].id,
        service=offer.service.id,
        specialist=offer.person.id if offer.person is not None else ANY,
        start=start,
        zone=reader_zone(request),
        name=typed.name,
        email=typed.email,
        answers={"reason": typed.reason} if typed.reason.strip() else {},
        consent=typed.consent,
        language=reader_language(request),
        # pressed twice, or sent again by the browser: one booking
        idempotency_key=f"page:{key}:{utc_text(start)}" if key.isascii() and key.isprintable() else None,
    )
    try:
        async with request.app[DATABASE].write() as session:
            booked = await bookings.book(session, request.app[VAULT], wish, request.app[CLOCK]())
    except Invalid as error:
        problems = {_FIELDS.get(one.pointer, one.pointer.strip("/")): _(one.message) for one in error.problems}
        return _form(request, offer, start, typed, key, problems=problems, status=422)
    except SlotTaken as error:
        return _form(request, offer, start, typed, key, alternatives=error.alternatives, taken=True, status=409)
    except Conflict as error:
        return _refused(request, offer, start, typed, error)
    response = web.Response(status=303, headers={"Location": f"/manage/{booked.id}/confirmed"})
    give_capability(request, response, booked.id, request.app[VAULT].capability(MANAGE, booked.id))
    return response


async def _offer(request: web.Request) -> Offer:
    async with request.app[DATABASE].read() as session:
        offer = await load_offer(request, session, request.match_info["service"], request.match_info["specialist"])
    if offer is None:
        raise web.HTTPNotFound
    return offer


def _refused(request: web.Request, offer: Offer, start: datetime, typed: Typed, error: Refused) -> web.Response:
    """The same page was sent with other contents: a new key makes the next try a request of its own."""
    problems = {"form": _("This booking was already made. To make another one, please send the form again.")}
    if error.code != "idempotency_mismatch":
        problems = {"form": _(error.message)}
    return _form(request, offer, start, typed, secrets.token_urlsafe(16), problems=problems, status=error.status)


def _form(
    request: web.Request,
    offer: Offer,
    start: datetime,
    typed: Typed,
    key: str,
    *,
    problems: Mapping[str, str] | None = None,
    alternatives: Sequence[Alternative] = (),
    taken: bool = False,
    status: int = 200,
) -> web.Response:
    zone = reader_zone(request)
    end = start + timedelta(minutes=offer.service.duration_minutes)
    return render(
        request,
        "booking/details.html",
        {
            "offer": offer,
            "start": start,
            "end": end,
            "start_value": utc_text(start),
            "back_url": f"{offer.url}?date={_local_day(start, zone)}",
            "action": f"{offer.url}/details",
            "typed": typed,
            "key": key,
            "problems": problems or {},
            "taken": taken,
            "alternatives": [TimeChoice(utc_text(one.start), moment(one.start, zone), "") for one in alternatives],
        },
        status,
    )


def _local_day(at: datetime, zone: str) -> str:
    return at.astimezone(ZoneInfo(zone)).date().isoformat()


def _text(form: Mapping[str, object], name: str, limit: int) -> str:
    """A text field, cut at `limit`; files and missing fields are empty."""
    value = form.get(name, "")
    return value[:limit] if isinstance(value, str) else ""
