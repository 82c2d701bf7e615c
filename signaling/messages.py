"""THE wire schema of /ws: JSON text frames, each an object with `type`. The JavaScript side is generated from here
(`python -m signaling.generate`), the reader's guide is docs/protocol.md.

A browser opens /ws (Origin checked), and within 5 s sends `join` (a single-use ticket) or `resume` (the token of the
last `welcome`). The server answers `welcome`: a snapshot of everything the page needs, so a resume has nothing to
replay. `request` in a client message comes back in its answer or `error`. Unknown types and fields are refused.

The answers: publish → published; subscribe → done, then offer events; answer, pause, admit, refuse, send_chat,
finish → done; get_ice_servers → ice_servers. Everything may be answered by `error` instead.

Changes since the first draft: `ParticipantInfo.admitted` (false: in the waiting room, whatever the presence),
`Admitted.media_session`, the messages `started`, `get_ice_servers` and `ice_servers`, `Error.code` is a closed list
with `unavailable`; connections are kept whenever `media_session` is unchanged, also after a new `join`.
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
EndReason = Literal[
    "finished", "left", "refused", "removed", "signed_out", "cancelled", "expired", "replaced", "server"
]
ErrorCode = Literal[
    "malformed",
    "unknown_type",
    "too_large",
    "too_fast",
    "not_allowed",
    "not_admitted",
    "no_participant",
    "bad_ticket",
    "bad_resume",
    "join_first",
    "bad_sdp",
    "stale_revision",
    "media_unavailable",
    "unavailable",
    "too_many",
    "closed",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    pass


# ---- what browsers send -------------------------------------------------------------------------------------------


class Join(_Message, frozen=True, kw_only=True, tag="join"):
    """First message of a new page: the ticket from POST /join/ID/ticket."""

    ticket: Secret
    version: Literal[1] = 1
    microphone: bool = False
    camera: bool = False


class Resume(_Message, frozen=True, kw_only=True, tag="resume"):
    """First message after a lost socket. `last_chat` is the id of the last chat line the page has."""

    token: Secret
    last_chat: Id | None = None


class Ping(_Message, frozen=True, kw_only=True, tag="ping"):
    """Every 2 s at the latest; three missed ones and the hub takes the socket for lost."""

    n: Request


class Admit(_Message, frozen=True, kw_only=True, tag="admit"):
    """Specialist: let a waiting participant in."""

    request: Request
    participant: Id


class Refuse(_Message, frozen=True, kw_only=True, tag="refuse"):
    """Specialist: turn a waiting participant away, or remove one who is in."""

    request: Request
    participant: Id


class Publish(_Message, frozen=True, kw_only=True, tag="publish"):
    """The publish connection's offer: first, renegotiated, or with new ICE credentials. `sources`: mid → source."""

    request: Request
    offer: Sdp
    sources: Annotated[dict[Mid, Source], Meta(max_length=16)]


class Subscribe(_Message, frozen=True, kw_only=True, tag="subscribe"):
    """Ask for an `offer` on the subscribe connection. fresh: start a new connection; restart: new ICE credentials."""

    request: Request
    fresh: bool = False
    restart: bool = False


class Answer(_Message, frozen=True, kw_only=True, tag="answer"):
    """The answer to the `offer` of this revision."""

    request: Request
    revision: Request
    answer: Sdp


class Pause(_Message, frozen=True, kw_only=True, tag="pause"):
    """Stop or resume receiving one track (hidden page, audio only)."""

    request: Request
    track: Id
    paused: bool


class MediaState(_Message, frozen=True, kw_only=True, tag="media_state"):
    """What this participant is sending now; the others see it."""

    microphone: bool
    camera: bool
    screen: bool


class SendChat(_Message, frozen=True, kw_only=True, tag="send_chat"):
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


class Stats(_Message, frozen=True, kw_only=True, tag="stats"):
    """Every 5 s. Room for eight people: seven others with four tracks each, and one's own."""

    samples: Annotated[list[StatsSample], Meta(max_length=40)]


class GetIceServers(_Message, frozen=True, kw_only=True, tag="get_ice_servers"):
    """TURN credentials live for ten minutes: ask for fresh ones before an ICE restart or a new connection."""

    request: Request


class Leave(_Message, frozen=True, kw_only=True, tag="leave"):
    """Hang up. The seat stays: the page can join again with a new ticket while the consultation is open."""


class Finish(_Message, frozen=True, kw_only=True, tag="finish"):
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
    | GetIceServers
    | Leave
    | Finish
)


# ---- what the server sends ----------------------------------------------------------------------------------------


class ParticipantInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Someone in the room. Only specialists see who waits. `admitted` false: in the waiting room (also while
    `presence` is reconnecting). `since`: waiting or joined since, ISO 8601 UTC."""

    id: str
    name: str
    role: Role
    presence: Presence
    admitted: bool
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


class Welcome(_Message, frozen=True, kw_only=True, tag="welcome"):
    """The snapshot. `you.admitted` says whether to wait. `participants` are the others. A page whose media is alive
    and whose `media_session` is unchanged keeps its connections (also after a new `join`); otherwise it builds both
    anew. `media_session` is empty while no media process is free: `media_reset` follows. After a resume `chat` has
    only the lines after `last_chat`. `started_at`: since when two people talk."""

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


class Pong(_Message, frozen=True, kw_only=True, tag="pong"):
    n: int


class Admitted(_Message, frozen=True, kw_only=True, tag="admitted"):
    """You are in: start media. `participants`, `chat` and `media_session` as in `welcome` (who waits sees none)."""

    participants: list[ParticipantInfo]
    chat: list[ChatLine]
    media_session: str
    started_at: str | None


class Started(_Message, frozen=True, kw_only=True, tag="started"):
    """The second person is in: the conversation's clock runs from here."""

    started_at: str


class ParticipantChanged(_Message, frozen=True, kw_only=True, tag="participant_changed"):
    """Someone came, changed presence, or muted (also: a client now waits, told to specialists only)."""

    participant: ParticipantInfo


class ParticipantLeft(_Message, frozen=True, kw_only=True, tag="participant_left"):
    participant: str
    reason: EndReason


class Published(_Message, frozen=True, kw_only=True, tag="published"):
    request: int
    answer: str


class Offer(_Message, frozen=True, kw_only=True, tag="offer"):
    """The subscribe connection's offer; answer with the same revision. `tracks`: mid → track."""

    revision: int
    offer: str
    tracks: dict[str, TrackInfo]


class Done(_Message, frozen=True, kw_only=True, tag="done"):
    """A request without a result of its own was carried out."""

    request: int


class IceServers(_Message, frozen=True, kw_only=True, tag="ice_servers"):
    request: int
    ice_servers: list[IceServer]


class Chat(_Message, frozen=True, kw_only=True, tag="chat"):
    """A line, also to the one who wrote it (there `done` follows). The same id may come twice: show it once."""

    line: ChatLine


class MediaReset(_Message, frozen=True, kw_only=True, tag="media_reset"):
    """The relay was replaced: build both connections anew under this media session."""

    media_session: str


class Ended(_Message, frozen=True, kw_only=True, tag="ended"):
    """The socket closes after this. `reason` picks the text. After `left` the page offers to return; after `server`
    (a restart) it joins again by itself with a new ticket; media goes on meanwhile."""

    reason: EndReason


class Error(_Message, frozen=True, kw_only=True, tag="error"):
    """`request` is null when the message had none. The socket stays open, except when it answers `join` or `resume`
    or says join_first, and after a flood (too_fast again and again). By whose fault: the page's (malformed,
    unknown_type, too_large, join_first, bad_sdp, not_allowed, not_admitted, no_participant), a matter of time
    (too_fast, stale_revision: a newer offer is on its way; bad_ticket, bad_resume: get a new ticket), ours
    (unavailable, media_unavailable: try again in a second), final (closed, too_many)."""

    code: ErrorCode
    message: str
    request: int | None = None


ServerMessage = (
    Welcome
    | Pong
    | Admitted
    | Started
    | ParticipantChanged
    | ParticipantLeft
    | Published
    | Offer
    | Done
    | IceServers
    | Chat
    | MediaReset
    | Ended
    | Error
)
