"""The relay's public face: what the signaling hub may ask of a media process and what it is told.

Everything here is a plain, serialisable value, because the same interface is called directly in one process
and over Redis between processes (signaling/remote_relay.py). Each browser has two connections with the relay:

* publish: the browser offers, the relay answers (`Relay.publish`);
* subscribe: the relay offers (`SubscribeOffer` event), the browser answers (`Relay.answer`).

Errors: every command raises `RelayError` with a stable `code`; nothing else leaves the relay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import msgspec

Kind = Literal["audio", "video"]
Source = Literal["camera", "microphone", "screen", "screen_audio"]
Direction = Literal["publish", "subscribe"]
TransportState = Literal["connecting", "connected", "disconnected", "closed"]
Route = Literal["udp", "relayed"]


class RelayError(Exception):
    """A command the relay could not carry out.

    code: `bad_sdp` (the caller's SDP cannot be used), `no_room`, `no_participant`, `no_track`,
    `stale_revision`, `too_many` (a cap was reached), `draining`, `unavailable` (no media process answered).
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One published track. `id` is unique in the room and is the `a=msid` track id that subscribers see."""

    id: str
    participant: str
    kind: Kind
    source: Source
    codec: str  # "VP8", "opus"


class TrackAdded(msgspec.Struct, frozen=True, kw_only=True, tag="track_added"):
    """The first packet of a track came (not merely its SDP)."""

    room: str
    track: Track


class TrackRemoved(msgspec.Struct, frozen=True, kw_only=True, tag="track_removed"):
    room: str
    participant: str
    track_id: str


class SubscribeOffer(msgspec.Struct, frozen=True, kw_only=True, tag="subscribe_offer"):
    """The subscribe connection needs (re)negotiation. `tracks` maps the offer's mid → Track. Answer with the
    same revision; an answer to an older revision is `stale_revision` and harmless."""

    room: str
    participant: str
    revision: int
    offer: str
    tracks: dict[str, Track]


class TransportChanged(msgspec.Struct, frozen=True, kw_only=True, tag="transport_changed"):
    room: str
    participant: str
    direction: Direction
    state: TransportState
    # "relayed" when the selected remote address belongs to a TURN server (CONSULT_TURN_URLS) or a relay
    # candidate
    route: Route | None = None


class QualitySample(msgspec.Struct, frozen=True, kw_only=True, tag="quality_sample"):
    """What the relay measured for one direction of one participant over the last `interval_ms` (every 5
    s)."""

    room: str
    participant: str
    direction: Direction
    kind: Kind
    source: Source
    codec: str
    interval_ms: int
    bitrate_bps: int
    packets: int
    packets_lost: int
    loss: float  # 0..1
    jitter_ms: float | None
    rtt_ms: float | None


class RelayStopping(msgspec.Struct, frozen=True, kw_only=True, tag="relay_stopping"):
    """This relay drains: rooms on it must be placed anew."""


class RoomClosed(msgspec.Struct, frozen=True, kw_only=True, tag="room_closed"):
    """The relay dropped the room (idle or asked for)."""

    room: str


RelayEvent = TrackAdded | TrackRemoved | SubscribeOffer | TransportChanged | QualitySample | RelayStopping | RoomClosed


class Relay(Protocol):
    """One media process as seen by the hub. Rooms and participants come into being on first use."""

    async def publish(self, room: str, participant: str, offer: str, sources: Mapping[str, Source]) -> str:
        """Answer a browser's offer on the publish connection: the first one, a renegotiation, or an ICE
        restart (new ufrag). `sources` maps mid → what the track shows; a mid that is missing defaults to
        camera/microphone by kind. A new DTLS fingerprint or a new SDP session id replaces the connection.
        Returns the answer SDP."""
        ...

    async def subscribe(self, room: str, participant: str, *, fresh: bool = False) -> None:
        """Ask for a `SubscribeOffer` now (also when there is no track yet: then it comes with the first one).
        `fresh=True` throws the old subscribe connection away and starts a new one."""
        ...

    async def answer(self, room: str, participant: str, revision: int, answer: str) -> None:
        """The browser's answer to the `SubscribeOffer` of this revision."""
        ...

    async def restart_subscribe(self, room: str, participant: str) -> None:
        """New ICE credentials on the subscribe connection; a `SubscribeOffer` follows."""
        ...

    async def set_paused(self, room: str, participant: str, track_id: str, paused: bool) -> None:
        """Stop or resume forwarding one track to this participant; resuming asks for a key frame."""
        ...

    async def watch(self, room: str, viewer: str, publisher: str, offer: str) -> str:
        """WHEP: answer a recvonly offer with the publisher's microphone and camera. Returns the answer
        SDP."""
        ...

    async def add_candidates(self, room: str, participant: str, direction: Direction, fragment: str) -> str:
        """WHIP/WHEP PATCH (RFC 9725 section 4.3): an `application/trickle-ice-sdpfrag` with candidates or an
        ICE restart. Returns the server's fragment for a restart, else an empty string."""
        ...

    async def leave(self, room: str, participant: str) -> None:
        """Close both connections of a participant and remove the tracks. Unknown ones are fine."""
        ...

    async def close_room(self, room: str) -> None: ...

    def on_event(self, listener: Callable[[RelayEvent], None]) -> None:
        """Register the one listener. It is called on the event loop and must not block."""
        ...
