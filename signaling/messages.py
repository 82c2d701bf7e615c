"""THE wire schema of /ws: JSON text frames, each an object with `type`. The JavaScript side is generated from here.

A browser opens /ws (Origin checked), and within 5 s sends `join` (a single-use ticket) or `resume` (the token of the
last `welcome`). The server answers `welcome`: a snapshot of everything the page needs, so a resume has nothing to
replay. `request` in a client message comes back in its answer or `error`. Unknown types and fields are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 65_536
HEARTBEAT_MS = 2_000

Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Secret = Annotated[str, Meta(min_length=16, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")]
Sdp = Annotated[str, Meta(min_length=1, max_length=60_000)]
Mid = Annotated[str, Meta(min_length=1, max_length=16)]
Request = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, Meta(min_length=1, max_length=4_000)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]

Role = Literal["specialist", "client", "participant", "viewer"]
Kind = Literal["audio", "video"]
Source = Literal["camera", "microphone", "screen", "screen_audio"]
Presence = Literal["waiting", "joined", "reconnecting"]
EndReason = Literal["finished", "left", "refused", "removed", "cancelled", "expired", "replaced", "server"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", omit_defaults=False):
    pass


# ---- what browsers send -------------------------------------------------------------------------------------------


class Join(_Message, tag="join"):
    """First message of a new page: the ticket from POST /join/ID/ticket."""

    ticket: Secret
    version: Literal[1] = 1
    microphone: bool = False
    camera: bool = False


class Resume(_Message, tag="resume"):
    """First message after a lost socket. `last_chat` is the id of the last chat line the page has."""

    token: Secret
    last_chat: Id | None = None


class Ping(_Message, tag="ping"):
    """Every 2 s at the latest; three missed ones and the hub takes the socket for lost."""

    n: Request


class Admit(_Message, tag="admit"):
    """Specialist: let a waiting participant in."""

    request: Request
    participant: Id


class Refuse(_Message, tag="refuse"):
    """Specialist: turn a waiting participant away, or remove one who is in."""

    request: Request
    participant: Id


class Publish(_Message, tag="publish"):
    """The publish connection's offer: first, renegotiated, or with new ICE credentials. `sources`: mid → source."""

    request: Request
    offer: Sdp
    sources: Annotated[dict[Mid, Source], Meta(max_length=16)]


class Subscribe(_Message, tag="subscribe"):
    """Ask for an `offer` on the subscribe connection. fresh: start a new connection; restart: new ICE credentials."""

    request: Request
    fresh: bool = False
    restart: bool = False


class Answer(_Message, tag="answer"):
    """The answer to the `offer` of this revision."""

    request: Request
    revision: Request
    answer: Sdp


class Pause(_Message, tag="pause"):
    """Stop or resume receiving one track (hidden page, audio only)."""

    request: Request
    track: Id
    paused: bool


class MediaState(_Message, tag="media_state"):
    """What this participant is sending now; the others see it."""

    microphone: bool
    camera: bool
    screen: bool


class SendChat(_Message, tag="send_chat"):
    """`id` is chosen by the page: the same id again is the same line (a retry after a lost socket)."""

    request: Request
    id: Id
    text: Text


class StatsSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One direction and source as the browser measured it over the last 5 s (W3C webrtc-stats)."""

    direction: Literal["publish", "subscribe"]
    kind: Kind
    source: Source
    bitrate_bps: Count
    codec: Annotated[str, Meta(max_length=16, pattern=r"^[A-Za-z0-9/_-]*$")] = ""
    loss: Ratio | None = None
    rtt_ms: Milliseconds | None = None
    jitter_ms: Milliseconds | None = None
    width: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    height: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    frames_per_second: Annotated[float, Meta(ge=0, le=480)] | None = None
    freezes: Annotated[int, Meta(ge=0, le=100_000)] | None = None


class Stats(_Message, tag="stats"):
    samples: Annotated[list[StatsSample], Meta(max_length=16)]


class Leave(_Message, tag="leave"):
    """Hang up. The seat stays: the page can join again with a new ticket while the consultation is open."""


class Finish(_Message, tag="finish"):
    """Specialist: end the consultation for everybody."""

    request: Request


ClientMessage = (
    Join
    | Resume
    | Ping
    | Admit
    | Refuse
    | Publish
    | Subscribe
    | Answer
    | Pause
    | MediaState
    | SendChat
    | Stats
    | Leave
    | Finish
)


# ---- what the server sends ----------------------------------------------------------------------------------------


class ParticipantInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Someone in the room. Clients never see others who wait; `since` is ISO 8601 UTC (waiting or joined since)."""

    id: str
    name: str
    role: Role
    presence: Presence
    since: str
    microphone: bool = False
    camera: bool = False
    screen: bool = False


class ChatLine(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    participant: str
    name: str
    text: str
    at: str


class IceServer(msgspec.Struct, frozen=True, kw_only=True):
    urls: list[str]
    username: str = ""
    credential: str = ""


class TrackInfo(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    participant: str
    kind: Kind
    source: Source


class Welcome(_Message, tag="welcome"):
    """The snapshot. `presence` of `you` says whether to wait. A page whose media is alive (resumed and
    `media_session` unchanged) keeps its connections; otherwise it builds both anew."""

    you: ParticipantInfo
    consultation: str
    encryption: Literal["end_to_end", "transport"]
    resume_token: str
    resumed: bool
    heartbeat_ms: int
    media_session: str
    participants: list[ParticipantInfo]
    chat: list[ChatLine]
    ice_servers: list[IceServer]
    server_time: str
    started_at: str | None
    closes_at: str


class Pong(_Message, tag="pong"):
    n: int


class Admitted(_Message, tag="admitted"):
    """You are in: start media. `participants` as in `welcome`."""

    participants: list[ParticipantInfo]
    started_at: str | None


class ParticipantChanged(_Message, tag="participant_changed"):
    """Someone came, changed presence, or muted (also: a client now waits, told to specialists only)."""

    participant: ParticipantInfo


class ParticipantLeft(_Message, tag="participant_left"):
    participant: str
    reason: EndReason


class Published(_Message, tag="published"):
    request: int
    answer: str


class Offer(_Message, tag="offer"):
    """The subscribe connection's offer; answer with the same revision. `tracks`: mid → track."""

    revision: int
    offer: str
    tracks: dict[str, TrackInfo]


class Done(_Message, tag="done"):
    """A request without a result of its own was carried out."""

    request: int


class Chat(_Message, tag="chat"):
    line: ChatLine


class MediaReset(_Message, tag="media_reset"):
    """The relay was replaced: build both connections anew under this media session."""

    media_session: str


class Ended(_Message, tag="ended"):
    """The socket closes after this. `reason` picks the text; `left` and `server` may join again."""

    reason: EndReason


class Error(_Message, tag="error"):
    """`code`: malformed, unknown_type, too_large, too_fast, not_allowed, not_admitted, no_participant, bad_ticket,
    bad_resume, join_first, bad_sdp, stale_revision, media_unavailable, too_many, closed. `request` null when the
    message had none. Only join_first, bad_ticket, bad_resume, too_fast and too_large close the socket."""

    code: str
    message: str
    request: int | None = None


ServerMessage = (
    Welcome
    | Pong
    | Admitted
    | ParticipantChanged
    | ParticipantLeft
    | Published
    | Offer
    | Done
    | Chat
    | MediaReset
    | Ended
    | Error
)
