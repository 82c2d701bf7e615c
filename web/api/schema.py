"""What the REST API takes and gives. Validation and the OpenAPI document are both made from these types.

Times are UTC, ISO 8601 with Z. Ids are opaque.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Id = Annotated[str, Meta(min_length=1, max_length=64, description="Opaque id.", examples=["5f0c1b…"])]
Instant = Annotated[
    str,
    Meta(
        min_length=16,
        max_length=40,
        description="UTC, ISO 8601, e.g. 2026-03-29T08:30:00Z. On input any offset is accepted.",
        extra_json_schema={"format": "date-time"},
    ),
]
Zone = Annotated[str, Meta(min_length=1, max_length=64, description="IANA time zone.", examples=["Europe/Berlin"])]
Url = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
# What the domain checks field by field is only limited in size here: a shape that refuses one field would hide what is
# wrong with the others.
GivenId = Annotated[str, Meta(max_length=64, description="An id of the catalogue.")]
GivenInstant = Annotated[
    str,
    Meta(
        max_length=64,
        description="ISO 8601 with an offset, e.g. 2026-03-29T08:30:00Z.",
        extra_json_schema={"format": "date-time"},
    ),
]
GivenZone = Annotated[str, Meta(max_length=64, description="IANA time zone.", examples=["Europe/Berlin"])]
Encryption = Annotated[
    Literal["end_to_end", "transport"],
    Meta(
        description="end_to_end: only the participants' browsers hold the media keys. transport: encrypted on the way, "
        "readable by the relay; needed for devices over WHIP and WHEP."
    ),
]


class _In(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Input: unknown fields are refused."""


class _Out(msgspec.Struct, kw_only=True):
    pass


# ---- booking ------------------------------------------------------------------------------------------------------


class Service(_Out):
    id: Id
    slug: str
    name: str
    description: str
    duration_minutes: int
    specialists: list[Id]


class ServiceList(_Out):
    services: list[Service]


class Specialist(_Out):
    id: Id
    slug: str
    name: str
    title: str
    about: str
    zone: Zone
    services: list[Id]


class SpecialistList(_Out):
    specialists: list[Specialist]


class SlotQuery(_In, rename={"from_day": "from", "to_day": "to"}):
    service: Id
    specialist: Annotated[str, Meta(max_length=64, description="An id, or `any` (the default).")] = "any"
    from_day: Annotated[date | None, Meta(description="First day in `zone`; today when left out.")] = None
    to_day: Annotated[
        date | None, Meta(description="Last day in `zone`, at most 62 days in all; a week when left out.")
    ] = None
    zone: Zone = "UTC"


class Slot(_Out):
    start: Instant
    end: Instant
    specialist: Id


class SlotList(_Out):
    slots: list[Slot]


class Client(_In):
    name: Annotated[str, Meta(max_length=1_000)]
    email: Annotated[str, Meta(max_length=1_000, extra_json_schema={"format": "email"})]


Answers = dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=10_000)]]


class NewBooking(_In):
    service: GivenId
    start: GivenInstant
    zone: GivenZone
    client: Client
    consent: Annotated[bool, Meta(description="The client agrees to the terms and the privacy notice. Must be true.")]
    specialist: Annotated[str, Meta(max_length=64, description="An id; null or `any`: whoever is free.")] | None = None
    answers: Annotated[Answers, Meta(max_length=32, description='Answers of the form, such as {"reason": "…"}.')] = {}
    language: Annotated[Literal["en", "ru"] | None, Meta(description="Of the client's mails and pages.")] = None


class Booking(_Out):
    id: Id
    status: Annotated[str, Meta(description="confirmed, or pending where the specialist confirms.")]
    start: Instant
    end: Instant
    specialist: Id
    join_url: Url
    manage_url: Url
    ics_url: Url


# ---- consultations ------------------------------------------------------------------------------------------------


class NewConsultation(_In):
    encryption: Encryption = "end_to_end"


class Consultation(_Out):
    id: Id


class NewToken(_In):
    role: Annotated[Literal["participant", "viewer"], Meta(description="A viewer receives and publishes nothing.")] = (
        "participant"
    )
    name: Annotated[str, Meta(min_length=1, max_length=200)] = "Guest"


class Token(_Out):
    participant: Id
    token: Annotated[str, Meta(description="Bearer token of WHIP and WHEP, and the fragment of the join link.")]
    join_url: Url


class Stay(_Out):
    """From a join to the leave. `reason` is a short code, empty for a hang-up."""

    joined_at: Instant
    left_at: Instant | None
    reason: str


class Quality(_Out):
    """One direction of one source over the whole session. Loss is 0..1; null was never measured."""

    direction: Literal["publish", "subscribe"]
    kind: Literal["audio", "video"]
    source: str
    codec: str
    seconds: int
    median_rtt_ms: float | None
    mean_loss: float | None
    mean_jitter_ms: float | None
    mean_bitrate_bps: int
    freezes: int
    width: int | None
    height: int | None
    verdict: Literal["good", "non_optimal", "poor", "lost"] | None


class LoggedParticipant(_Out):
    id: Id
    name: str
    role: str
    joins: list[Stay]
    waited_seconds: int
    seconds: int
    reconnects: int
    route: Annotated[str | None, Meta(description="udp: direct. relayed: over a TURN server. null: no media.")]
    codecs: list[str]
    quality: list[Quality]


class LoggedEvent(_Out):
    at: Instant
    kind: str
    participant: Id | None
    detail: str


class SessionLog(_Out):
    id: Id
    status: Literal["upcoming", "open", "live", "ended", "missed", "cancelled"]
    encryption: Encryption
    opens_at: Instant
    closes_at: Instant
    started_at: Annotated[Instant | None, Meta(description="When two people were in it for the first time.")]
    ended_at: Instant | None
    duration_seconds: int | None
    verdict: Annotated[str | None, Meta(description="The worst stream: good, non_optimal, poor, lost.")]
    participants: list[LoggedParticipant]
    events: list[LoggedEvent]


# ---- errors (RFC 9457) ---------------------------------------------------------------------------------------------


class FieldError(_Out):
    pointer: Annotated[str, Meta(description="JSON pointer (RFC 6901) into the body, or /NAME of a parameter.")]
    code: str
    detail: str


class Problem(_Out, omit_defaults=True):
    type: str
    title: str
    status: int
    code: Annotated[str, Meta(description="Stable: programs decide by this one.")]
    detail: str = ""
    errors: list[FieldError] = []
    alternatives: list[Slot] = []


# ---- the manage page's script ---------------------------------------------------------------------------------------


class ManageToken(_In):
    token: Annotated[str, Meta(min_length=1, max_length=200)]
