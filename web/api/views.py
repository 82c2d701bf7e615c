"""The REST API of the public contract (docs: /api/v1/openapi.json)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from consult.booking import admission, availability, bookings, links
from consult.booking.requests import BookingRequest
from consult.booking.services import find_service, list_services, list_specialists, rules_of
from consult.errors import Invalid, Problem
from consult.record import queries
from consult.record.quality import StreamSummary
from consult.record.timeline import ParticipantLog
from web import i18n
from web.access import Access, access, api_caller
from web.api import schema
from web.api.openapi import document
from web.api.operations import OPERATIONS, json_response, operation
from web.api.throttle import API, BOOK, READ
from web.booking.month import day_bounds
from web.keys import CLOCK, DATABASE, PRACTICE, SETTINGS, VAULT
from web.pages import reader_language
from web.responses import utc_text

routes = web.RouteTableDef()

SLOT_DAYS_MAX = 62
SLOT_DAYS_DEFAULT = 7
_INPUT = {400: ("bad_json",), 413: ("too_large",), 415: ("unsupported_media_type",), 422: ("invalid",)}
_BUSY = {429: ("too_many",), 503: ("unavailable",)}
_TOKEN = {401: ("unauthorized",)}


@operation(
    routes,
    READ,
    method="GET",
    path="/api/v1/services",
    summary="Services that can be booked, and who gives them",
    rule=Access.PUBLIC,
    status=200,
    answer=schema.ServiceList,
    errors=_BUSY,
)
async def services(request: web.Request, _query: None, _body: None) -> web.StreamResponse:
    async with request.app[DATABASE].read() as session:
        offered = await list_services(session, request.app[PRACTICE].id)
    found = [
        schema.Service(
            id=one.service.id,
            slug=one.service.slug,
            name=one.service.name,
            description=one.service.description,
            duration_minutes=one.service.duration_minutes,
            specialists=list(one.specialist_ids),
        )
        for one in offered
    ]
    return json_response(schema.ServiceList(services=found))


@operation(
    routes,
    READ,
    method="GET",
    path="/api/v1/specialists",
    summary="Specialists who can be booked",
    rule=Access.PUBLIC,
    status=200,
    answer=schema.SpecialistList,
    errors=_BUSY,
)
async def specialists(request: web.Request, _query: None, _body: None) -> web.StreamResponse:
    async with request.app[DATABASE].read() as session:
        cards = await list_specialists(session, request.app[VAULT], request.app[PRACTICE].id)
    found = [
        schema.Specialist(
            id=card.id,
            slug=card.slug,
            name=card.name,
            title=card.title,
            about=card.about,
            zone=card.zone,
            services=list(card.service_ids),
        )
        for card in cards
    ]
    return json_response(schema.SpecialistList(specialists=found))


@operation(
    routes,
    READ,
    method="GET",
    path="/api/v1/slots",
    summary="Free slots of a service; each of them can be booked",
    rule=Access.PUBLIC,
    status=200,
    answer=schema.SlotList,
    query=schema.SlotQuery,
    errors={304: (), 422: ("invalid",), **_BUSY},
    headers={"If-None-Match": "The ETag of an earlier answer: 304 when nothing has changed."},
)
async def slots(request: web.Request, query: schema.SlotQuery, _body: None) -> web.StreamResponse:
    now = request.app[CLOCK]()
    start, end = _window(query, now)
    async with request.app[DATABASE].read() as session:
        service = await find_service(session, request.app[PRACTICE].id, query.service)
        if service is None:
            raise Invalid([Problem("/service", "unknown", "Please choose one of the services offered.")])
        people = service.specialist_ids
        if query.specialist not in ("", bookings.ANY_SPECIALIST):
            if query.specialist not in people:
                raise Invalid([Problem("/specialist", "unknown", "Please choose one of the specialists offered.")])
            people = (query.specialist,)
        offered = await availability.offer(session, rules_of(service.service), people, start, end, now)
    answer = schema.SlotList(
        slots=[
            schema.Slot(start=utc_text(one.start), end=utc_text(one.end), specialist=one.specialist_id)
            for one in offered
        ]
    )
    body = msgspec.json.encode(answer)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)


def _window(query: schema.SlotQuery, now: datetime) -> tuple[datetime, datetime]:
    """The UTC bounds of the days asked for. Raises Invalid."""
    if i18n.valid_zone(query.zone) is None:
        raise Invalid([Problem("/zone", "zone", "Please give an IANA time zone such as Europe/Berlin.")])
    first = query.from_day or now.astimezone(ZoneInfo(query.zone)).date()
    if not 2000 <= first.year <= 2200:
        raise Invalid([Problem("/from", "range", "Please give a day from 2000 to 2200.")])
    last = query.to_day or first + timedelta(days=SLOT_DAYS_DEFAULT - 1)
    if last < first:
        raise Invalid([Problem("/to", "range", "The last day must not be before the first.")])
    if (last - first).days >= SLOT_DAYS_MAX:
        raise Invalid([Problem("/to", "range", "Please ask for at most 62 days at once.")])
    return day_bounds(first, last, query.zone)


@operation(
    routes,
    BOOK,
    method="POST",
    path="/api/v1/bookings",
    summary="Book a slot",
    rule=Access.PUBLIC,
    status=201,
    answer=schema.Booking,
    body=schema.NewBooking,
    errors={**_INPUT, 409: ("slot_taken", "idempotency_mismatch"), **_BUSY},
    headers={"Idempotency-Key": "1 to 255 printable characters: the same key and body give the same booking."},
)
async def book(request: web.Request, _query: None, body: schema.NewBooking) -> web.StreamResponse:
    vault, public_url = request.app[VAULT], request.app[SETTINGS].public_url
    wish = BookingRequest(
        practice_id=request.app[PRACTICE].id,
        service=body.service,
        specialist=body.specialist,
        start=body.start,
        zone=body.zone,
        name=body.client.name,
        email=body.client.email,
        answers=body.answers,
        consent=body.consent,
        language=body.language or reader_language(request),
        idempotency_key=request.headers.get("Idempotency-Key"),
    )
    async with request.app[DATABASE].write() as session:
        booked = await bookings.book(session, vault, wish, request.app[CLOCK]())
    answer = schema.Booking(
        id=booked.id,
        status=booked.status,
        start=utc_text(booked.start),
        end=utc_text(booked.end),
        specialist=booked.specialist_id,
        join_url=links.join_url(public_url, vault, booked.consultation_id, booked.client_participant_id),
        manage_url=links.manage_url(public_url, vault, booked.id),
        ics_url=links.ics_url(public_url, vault, booked.id),
    )
    return json_response(answer, status=201)


@operation(
    routes,
    API,
    method="POST",
    path="/api/v1/consultations",
    summary="Open a consultation that can be joined now",
    rule=Access.API_TOKEN,
    status=201,
    answer=schema.Consultation,
    body=schema.NewConsultation,
    body_optional=True,
    errors={**_INPUT, **_TOKEN, **_BUSY},
)
async def open_consultation(request: web.Request, _query: None, body: schema.NewConsultation) -> web.StreamResponse:
    async with request.app[DATABASE].write() as session:
        opened = await admission.create_consultation(
            session, api_caller(request).practice_id, body.encryption, request.app[CLOCK]()
        )
    location = f"/api/v1/consultations/{opened.id}"
    return json_response(schema.Consultation(id=opened.id), status=201, headers={"Location": location})


@operation(
    routes,
    API,
    method="POST",
    path="/api/v1/consultations/{id}/tokens",
    summary="A seat in a consultation: its token for WHIP and WHEP, and its join link",
    rule=Access.API_TOKEN,
    status=201,
    answer=schema.Token,
    body=schema.NewToken,
    body_optional=True,
    errors={**_INPUT, **_TOKEN, 404: ("not_found",), 409: ("over", "cancelled", "full"), **_BUSY},
)
async def add_token(request: web.Request, _query: None, body: schema.NewToken) -> web.StreamResponse:
    id, vault = request.match_info["id"], request.app[VAULT]
    async with request.app[DATABASE].write() as session:
        seat, token = await admission.add_participant(
            session, vault, api_caller(request).practice_id, id, body.role, body.name, request.app[CLOCK]()
        )
    join_url = links.join_url(request.app[SETTINGS].public_url, vault, seat.consultation_id, seat.participant_id)
    return json_response(schema.Token(participant=seat.participant_id, token=token, join_url=join_url), status=201)


@operation(
    routes,
    API,
    method="GET",
    path="/api/v1/consultations/{id}",
    summary="The session log: who was there and when, how they were connected, and how well",
    rule=Access.API_TOKEN,
    status=200,
    answer=schema.SessionLog,
    errors={**_TOKEN, 404: ("not_found",), **_BUSY},
)
async def session_log(request: web.Request, _query: None, _body: None) -> web.StreamResponse:
    scope = queries.Scope(api_caller(request).practice_id)
    async with request.app[DATABASE].read() as session:
        found = await queries.get_session(
            session, request.app[VAULT], scope, _printable(request.match_info["id"]), request.app[CLOCK]()
        )
    row = found.row
    return json_response(
        schema.SessionLog(
            id=row.id,
            status=row.status,
            encryption="transport" if row.encryption == "transport" else "end_to_end",
            opens_at=utc_text(found.opens_at),
            closes_at=utc_text(found.closes_at),
            started_at=utc_text(row.started_at) if row.started_at else None,
            ended_at=utc_text(row.ended_at) if row.ended_at else None,
            duration_seconds=row.duration_seconds,
            verdict=row.verdict,
            participants=[_participant(one) for one in found.participants],
            events=[
                schema.LoggedEvent(
                    at=utc_text(one.at), kind=one.kind, participant=one.participant_id, detail=one.detail
                )
                for one in found.events
            ],
        )
    )


def _participant(one: ParticipantLog) -> schema.LoggedParticipant:
    return schema.LoggedParticipant(
        id=one.id,
        name=one.name,
        role=one.role,
        joins=[
            schema.Stay(
                joined_at=utc_text(stay.joined_at),
                left_at=utc_text(stay.left_at) if stay.left_at else None,
                reason=stay.reason,
            )
            for stay in one.stays
        ],
        waited_seconds=one.waited_seconds,
        seconds=one.seconds,
        reconnects=one.reconnects,
        route=one.route or None,
        codecs=list(one.codecs),
        quality=[_quality(stream) for stream in one.streams],
    )


def _quality(stream: StreamSummary) -> schema.Quality:
    """Rounded to what was measured: a tenth of a millisecond, a hundredth of a percent."""
    rounded = {
        name: round(value, 4 if name == "mean_loss" else 1)
        for name, value in asdict(stream).items()
        if isinstance(value, float)
    }
    return schema.Quality(**asdict(stream) | rounded)


def _printable(id: str) -> str:
    """PostgreSQL refuses NUL in text: what cannot be an id becomes one that nobody has."""
    return id if id.isascii() and id.isprintable() and len(id) <= 64 else "-"


@routes.get("/api/v1/openapi.json")
@access(Access.PUBLIC)
async def openapi(request: web.Request) -> web.StreamResponse:
    """The OpenAPI 3.1 document of everything above."""
    response = web.Response(
        body=msgspec.json.encode(document(OPERATIONS, request.app[SETTINGS].public_url)),
        content_type="application/json",
    )
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
