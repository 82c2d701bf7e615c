"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): devices publish and watch over plain HTTP.

A device is a participant of the consultation without a socket: the hub seats it, so browsers in the room see its
media, and the relay answers its SDP. Only while the consultation's encryption is `transport`: a device holds no key.

    POST   /whip/ID                      SDP offer → 201 with the answer, Location and ETag
    POST   /whep/ID/PARTICIPANT          recvonly offer → 201 with that participant's microphone and camera
    PATCH  /{whip,whep}/ID/session/…     trickled candidates → 204; ICE restart → 200 with the server's fragment
    DELETE /{whip,whep}/ID/session/…     ends it

Every request carries the seat's token as a bearer token; no cookies are used, so any origin may call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import hdrs, web
from sqlalchemy import select

from consult.booking import admission, links
from consult.booking.models import Participant
from consult.errors import NotFound, Refused
from media.api import RelayError
from signaling.admission import Grant
from signaling.relay_commands import AddCandidates, Publish, Watch
from signaling.room import JoinRefused
from signaling.rooms import RoomUnavailable
from signaling.turn import ice_servers
from web.access import Access, access
from web.api.decoding import read_body
from web.api.devices import Device, Protocol, devices_of, new_etag
from web.api.throttle import MEDIA, throttle
from web.i18n import gettext as _
from web.keys import CLOCK, DATABASE, HUB, SETTINGS, VAULT
from web.responses import problem

routes = web.RouteTableDef()

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
SDP_BYTES_MAX = 65_536
FRAGMENT_BYTES_MAX = 16_384
# RelayError code → status; the others mean that the media process cannot serve now
_STATUS = {"bad_sdp": 400, "no_participant": 404, "no_track": 404, "no_room": 404}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answered(Exception):
    """A request that ends here with this response."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def device_route(
    method: str, path: str, protocol: Protocol
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Serve `handler(request, protocol)`; every answer may be read by any origin."""

    def attach(handler: Callable[..., object]) -> Callable[..., object]:
        @access(Access.CAPABILITY)
        async def handle(request: web.Request) -> web.StreamResponse:
            await throttle(request, MEDIA)
            try:
                response = await handler(request, protocol)  # type: ignore[misc]
            except Answered as answered:
                response = answered.response
            except RelayError as error:
                response = _relay_problem(error)
            assert isinstance(response, web.StreamResponse)
            return _readable(response)

        handle.__name__ = f"{protocol}_{getattr(handler, '__name__', method)}"
        routes.route(method, path)(handle)
        return handler

    return attach


@device_route("OPTIONS", "/whip/{id}", "whip")
@device_route("OPTIONS", "/whip/{id}/session/{session}", "whip")
@device_route("OPTIONS", "/whep/{id}/{participant}", "whep")
@device_route("OPTIONS", "/whep/{id}/session/{session}", "whep")
async def options(request: web.Request, protocol: Protocol) -> web.Response:
    """What may be sent here; also the preflight of other origins (RFC 9725 section 4.2)."""
    at_session = "session" in request.match_info
    response = web.Response(status=204)
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "PATCH, DELETE, OPTIONS" if at_session else "POST, OPTIONS"
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Authorization, Content-Type, If-Match"
    response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
    if at_session:
        response.headers["Accept-Patch"] = FRAGMENT
    else:
        response.headers["Accept-Post"] = SDP
    return response


@device_route("POST", "/whip/{id}", "whip")
async def publish(request: web.Request, protocol: Protocol) -> web.Response:
    grant = await _grant(request)
    if grant.role == "viewer":
        raise Answered(problem(403, "forbidden", _("A viewer's token does not publish.")))
    offer = await _text(request, SDP, SDP_BYTES_MAX)
    command = Publish(room=grant.consultation, participant=grant.participant, offer=offer, sources={})
    return await _connect(request, protocol, grant, command)


@device_route("POST", "/whep/{id}/{participant}", "whep")
async def watch(request: web.Request, protocol: Protocol) -> web.Response:
    grant = await _grant(request)
    publisher = request.match_info["participant"]
    if not await _has_seat(request, grant.consultation, publisher):
        raise Answered(problem(404, "not_found", _("This consultation has no such participant.")))
    offer = await _text(request, SDP, SDP_BYTES_MAX)
    command = Watch(room=grant.consultation, viewer=grant.participant, publisher=publisher, offer=offer)
    return await _connect(request, protocol, grant, command)


@device_route("PATCH", "/whip/{id}/session/{session}", "whip")
@device_route("PATCH", "/whep/{id}/session/{session}", "whep")
async def patch(request: web.Request, protocol: Protocol) -> web.Response:
    """Candidates (If-Match: the ETag) or an ICE restart (If-Match: *), RFC 9725 section 4.3."""
    device = await _device(request, protocol)
    fragment = await _text(request, FRAGMENT, FRAGMENT_BYTES_MAX)
    wanted = request.headers.get(hdrs.IF_MATCH)
    if wanted is None:
        raise Answered(problem(428, "precondition_required", _("Send the ETag of the session in If-Match.")))
    tags = [one.strip() for one in wanted.split(",")]
    # RFC 9110 writes the wildcard without quotes, the example of RFC 9725 section 4.3.3 with
    if not {"*", '"*"', device.etag} & set(tags):
        raise Answered(
            problem(412, "precondition_failed", _("ICE was restarted meanwhile: this is of an older session."))
        )
    command = AddCandidates(
        room=device.consultation, participant=device.participant, direction=device.direction, fragment=fragment
    )
    answer = await request.app[HUB].perform(command)
    if not answer:
        return web.Response(status=204, headers={hdrs.ETAG: device.etag})
    device.etag = new_etag()
    return web.Response(status=200, body=answer.encode(), content_type=FRAGMENT, headers={hdrs.ETAG: device.etag})


@device_route("DELETE", "/whip/{id}/session/{session}", "whip")
@device_route("DELETE", "/whep/{id}/session/{session}", "whep")
async def end(request: web.Request, protocol: Protocol) -> web.Response:
    """The device leaves. One that both publishes and watches leaves with the second of its connections."""
    device = await _device(request, protocol)
    if devices_of(request.app).remove(device):
        await request.app[HUB].detach(device.consultation, device.participant)
    return web.Response(status=200)


# ---- the steps ------------------------------------------------------------------------------------------------------


async def _connect(request: web.Request, protocol: Protocol, grant: Grant, command: Publish | Watch) -> web.Response:
    hub = request.app[HUB]
    try:
        await hub.attach(grant)
    except JoinRefused as refused:
        if refused.code == "closed":
            raise Answered(problem(409, "over", _("This consultation is over."))) from None
        raise Answered(_full()) from None
    except RoomUnavailable:
        raise RelayError("unavailable", "the room cannot be opened now") from None
    try:
        answer = await hub.perform(command)
    except RelayError:
        # the seat came with the connection and goes with it, unless another connection of this device lives
        if not devices_of(request.app).has(grant.participant):
            await hub.detach(grant.consultation, grant.participant)
        raise
    device = devices_of(request.app).add(protocol, grant.consultation, grant.participant)
    response = web.Response(status=201, body=answer.encode(), content_type=SDP)
    response.headers[hdrs.LOCATION] = device.path
    response.headers[hdrs.ETAG] = device.etag
    response.headers["Accept-Patch"] = FRAGMENT
    for link in _ice_links(request, grant.participant):
        response.headers.add(hdrs.LINK, link)
    return response


def _ice_links(request: web.Request, participant: str) -> list[str]:
    """STUN and TURN servers as Link headers (RFC 9725 section 4.6)."""
    settings = request.app[SETTINGS]
    found = []
    for server in ice_servers(settings.turn_urls, settings.turn_secret)(participant, request.app[CLOCK]()):
        login = f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
        found += [f'<{url}>; rel="ice-server"{login if server.username else ""}' for url in server.urls]
    return found


async def _grant(request: web.Request) -> Grant:
    """The seat of the bearer token in this consultation, when devices may use it now."""
    participant = _bearer(request)
    vault, now = request.app[VAULT], request.app[CLOCK]()
    id = request.match_info["id"]
    try:
        async with request.app[DATABASE].read() as session:
            preview = await admission.join_preview(session, vault, id, now)
            try:
                grant = await admission.grant_of_token(session, vault, id, participant, now)
            except NotFound:
                raise Answered(problem(403, "forbidden", _("This token belongs to another consultation."))) from None
    except NotFound:
        raise Answered(problem(404, "not_found", _("There is no such consultation."))) from None
    except admission.TicketRefused:
        code = {"early": "too_early", "cancelled": "cancelled"}.get(preview.phase, "over")
        raise Answered(problem(409, code, _("This consultation is not open now."))) from None
    if grant.encryption != "transport":
        text = _("This consultation is encrypted end to end: devices cannot take part. Open one with transport.")
        raise Answered(problem(409, "end_to_end_only", text))
    if grant.lobby and not grant.admitted and grant.role != "specialist":
        raise Answered(problem(403, "waiting", _("The specialist has not let this participant in yet.")))
    return Grant(**asdict(grant))


def _bearer(request: web.Request) -> str:
    """The token of Authorization when it is a seat's. Answers 401 otherwise (RFC 6750 section 3)."""
    scheme, _space, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        headers = {"WWW-Authenticate": "Bearer"}
        raise Answered(
            problem(401, "unauthorized", _("Send the participant's token as a bearer token."), headers=headers)
        )
    if len(token) > 200 or request.app[VAULT].token_id(links.JOIN, token) is None:
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise Answered(problem(401, "unauthorized", _("This token is not valid."), headers=headers))
    return token


async def _device(request: web.Request, protocol: Protocol) -> Device:
    """The connection of the URL, for the seat that made it."""
    token = _bearer(request)
    device = devices_of(request.app).get(protocol, request.match_info["id"], request.match_info["session"])
    if device is None:
        raise Answered(problem(404, "not_found", _("This session has ended.")))
    if request.app[VAULT].token_id(links.JOIN, token) != device.participant:
        raise Answered(problem(403, "forbidden", _("This token belongs to another participant.")))
    return device


async def _has_seat(request: web.Request, consultation: str, participant: str) -> bool:
    if not participant.isascii() or not participant.isprintable() or len(participant) > 64:
        return False
    async with request.app[DATABASE].read() as session:
        found = await session.scalar(
            select(Participant.id).where(
                Participant.id == participant,
                Participant.consultation_id == consultation,
                Participant.role != "viewer",
            )
        )
    return found is not None


async def _text(request: web.Request, content_type: str, limit: int) -> str:
    if request.content_type != content_type:
        raise Answered(
            problem(415, "unsupported_media_type", _("Send this as the type in `accept`."), accept=content_type)
        )
    try:
        body = (await read_body(request, limit)).decode("utf-8")
    except UnicodeDecodeError:
        raise Answered(problem(400, "bad_sdp", _("This is not a session description."))) from None
    except Refused as error:
        raise Answered(problem(error.status, error.code, error.message)) from None
    if not body.strip():
        raise Answered(problem(400, "bad_sdp", _("This is not a session description.")))
    return body


def _relay_problem(error: RelayError) -> web.Response:
    status = _STATUS.get(error.code, 503)
    if error.code == "too_many":
        return _full()
    if status == 503:
        text = _("The media server cannot take this now. Please try again in a moment.")
        return problem(503, "unavailable", text, headers={hdrs.RETRY_AFTER: "2"})
    code = "bad_sdp" if status == 400 else "not_found"
    return problem(status, code, error.detail if status == 400 else _("This session has ended."))


def _full() -> web.Response:
    text = _("This consultation is full.")
    return problem(503, "too_many", text, headers={hdrs.RETRY_AFTER: "30"})


def _readable(response: web.StreamResponse) -> web.StreamResponse:
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = (
        "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After"
    )
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
