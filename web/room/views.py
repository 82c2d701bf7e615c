"""The call page: one document for everybody, and the two requests of its script.

The link's secret rides in the fragment and never reaches the server with the page. The script posts it: `preview`
tells what the pre-join page shows, `ticket` exchanges it for the single-use ticket of one WebSocket. Without a token,
a signed-in specialist's session proves their own seat.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from aiohttp import web

from consult.booking import admission
from consult.errors import Invalid, NotFound, Problem
from web.access import Access, access, signed_in
from web.api.throttle import READ, throttle
from web.i18n import gettext
from web.keys import CLOCK, DATABASE, PRACTICE, VAULT, ZONE
from web.pages import render
from web.responses import utc_text
from web.room.texts import call_texts

routes = web.RouteTableDef()

BODY_BYTES_MAX = 1_024


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of both POSTs. `token` is the join link's fragment; absent, the session is asked."""

    token: str | None = None


class Person(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str


class Preview(msgspec.Struct, frozen=True):
    """What the pre-join page shows to the holder of this seat. Times are ISO 8601 UTC."""

    status: admission.Phase
    opens_at: str
    closes_at: str
    starts_at: str | None  # None for an ad-hoc consultation, which has no appointment
    ends_at: str | None
    server_time: str
    service: str
    specialist: str
    participant: Person


class Ticket(msgspec.Struct, frozen=True):
    """`ticket` opens one WebSocket until `expires_at`."""

    ticket: str
    expires_at: str
    participant: Person


@routes.get("/join/{id}")
@access(Access.PUBLIC)
async def join_page(request: web.Request) -> web.StreamResponse:
    """The page tells nothing about the consultation, not even whether there is one: that takes the secret."""
    context = {"texts": call_texts(gettext), "request_zone": request.get(ZONE, "")}
    page = render(request, "room/join.html", context)
    # all the call's texts are in it; it holds no secret that a compressed length could tell
    page.enable_compression()
    return page


@routes.post("/join/{id}/preview")
@access(Access.CAPABILITY)
async def preview(request: web.Request) -> web.StreamResponse:
    await throttle(request, READ)
    proof = await _proof(request)
    now = request.app[CLOCK]()
    vault = request.app[VAULT]
    async with request.app[DATABASE].read() as session:
        seat, _ = await admission.find_seat(session, vault, request.match_info["id"], proof)
        found = await admission.join_preview(session, vault, seat.consultation_id, now)
    if found.practice_id != request.app[PRACTICE].id:
        raise _no_such()
    return _json(
        Preview(
            status=found.phase,
            opens_at=utc_text(found.opens_at),
            closes_at=utc_text(found.closes_at),
            starts_at=_text(found.start),
            ends_at=_text(found.end),
            server_time=utc_text(now),
            service=found.service_name or "",
            specialist=found.specialist_name or "",
            participant=_person(seat),
        )
    )


@routes.post("/join/{id}/ticket")
@access(Access.CAPABILITY)
async def ticket(request: web.Request) -> web.StreamResponse:
    await throttle(request, READ)
    proof = await _proof(request)
    now = request.app[CLOCK]()
    async with request.app[DATABASE].write() as session:
        issued = await admission.issue_ticket(session, request.app[VAULT], request.match_info["id"], proof, now)
    return _json(Ticket(issued.ticket, utc_text(issued.expires_at), _person(issued.seat)))


async def _proof(request: web.Request) -> str | admission.Account:
    """The token in the body, else the session's account. Raises Invalid, or NotFound when there is neither."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    if request.content_length is None or request.content_length > BODY_BYTES_MAX:
        raise web.HTTPRequestEntityTooLarge(max_size=BODY_BYTES_MAX, actual_size=request.content_length or 0)
    try:
        body = msgspec.json.decode(await request.read(), type=Proof)
    except msgspec.MsgspecError:
        raise Invalid([Problem("/token", "malformed", "Please open your link again.")]) from None
    if body.token is not None:
        return body.token
    identity = signed_in(request)
    if identity is None:
        raise _no_such()
    return admission.Account(identity.person_id, identity.practice_id)


def _no_such() -> NotFound:
    # one answer for a wrong secret, a wrong consultation and another practice's: nothing to learn by trying
    return NotFound("This link does not open a consultation. Please check that it is complete.")


def _person(seat: admission.Seat) -> Person:
    return Person(seat.participant_id, seat.name, seat.role)


def _text(value: datetime | None) -> str | None:
    return utc_text(value) if value is not None else None


def _json(document: Preview | Ticket) -> web.Response:
    response = web.Response(body=msgspec.json.encode(document), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
