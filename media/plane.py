"""The packet plane: socket-side work on every packet, with no state shared with the control plane.

Unknown ids in a command raise KeyError, ids that are taken and values that no packet can carry ValueError; removing
what is not there is fine.

Control → plane: the methods of `Plane`. Plane → control: records, drained in batches by `Plane.drain`. A
native twin can replace `PythonPlane` behind the same interface; both run the same tests.

Identifiers: a transport (one ICE/DTLS connection), a track (one published RTP source) and a forward (one
track to one subscribing transport) are small integers chosen by the control plane. Times are seconds of a
monotonic clock (`now`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """Keying material of one DTLS-SRTP association (RFC 5764 section 4.2), from the relay's side."""

    # the IANA SRTP protection profile: 0x0001 AES128_CM_SHA1_80, 0x0007 AEAD_AES_128_GCM, 0x0008 AEAD_AES_256_GCM
    profile: int
    receive_key: bytes  # master key + salt for what the peer sends
    send_key: bytes


@dataclass(frozen=True, slots=True)
class HeaderExtensions:
    """Negotiated one-byte/two-byte header extension ids (RFC 8285) by role; 0 = not negotiated."""

    mid: int = 0
    rid: int = 0
    repaired_rid: int = 0
    transport_cc: int = 0
    abs_send_time: int = 0
    audio_level: int = 0
    video_orientation: int = 0
    dependency_descriptor: int = 0


@dataclass(frozen=True, slots=True)
class TrackSpec:
    """What a publisher negotiated for one m-section."""

    kind: Literal["audio", "video"]
    codec: Literal["VP8", "opus", "H264", "VP9"]
    clock_rate_hz: int
    payload_type: int
    rtx_payload_type: int | None
    extensions: HeaderExtensions
    nack: bool


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """How a track is rewritten for one subscriber: the ids are the subscriber's."""

    ssrc: int
    rtx_ssrc: int | None
    payload_type: int
    rtx_payload_type: int | None
    mid: str
    extensions: HeaderExtensions
    # how many packets stay for retransmission
    history_packets: int = 1024


# ---- records, plane → control ----


class ControlDatagram(NamedTuple):
    """A STUN (0–3) or DTLS (20–63) datagram for the control plane (RFC 9443 first byte)."""

    data: bytes
    source: Address
    local: int  # index of the local socket it came in on


class UnknownSsrc(NamedTuple):
    """The first authenticated packet of an SSRC that nobody bound; bind it or it stays dropped (and
    counted)."""

    transport: int
    ssrc: int
    payload_type: int
    mid: str | None
    rid: str | None
    repaired_rid: str | None


class Rtcp(NamedTuple):
    """A decrypted RTCP compound packet that the plane did not consume itself. The plane consumes generic
    NACKs for its forwards (answers from the cache) and reports everything else, SR and RR included. A
    subscriber's PLI or FIR is in the record too, but the plane has already acted on it (`KeyFrameWanted`):
    do not act on it twice. Validated: the lengths of all packets in it add up (a reduced-size one, RFC 5506,
    is accepted)."""

    transport: int
    data: bytes
    received_at: float


class KeyFrameWanted(NamedTuple):
    """A forward needs a key frame of this track (PLI/FIR of a subscriber, start, resume, or an unrecoverable
    gap). Already throttled (the first at once, then at most one per 500 ms and track) and repeated until a
    key frame comes: send one PLI to `ssrc`, the publisher's, for each record."""

    track: int
    ssrc: int


class FirstPacket(NamedTuple):
    """The first media packet of a bound track."""

    track: int
    at: float


class Arrivals(NamedTuple):
    """Arrival log of one publishing transport for transport-cc feedback: (transport-wide sequence number,
    arrival in µs of the plane's clock), in order of arrival."""

    transport: int
    packets: list[tuple[int, int]]


class Sent(NamedTuple):
    """Send log of one subscribing transport for the estimator: (transport-wide sequence number, sent in µs,
    bytes)."""

    transport: int
    packets: list[tuple[int, int, int]]


Record = ControlDatagram | UnknownSsrc | Rtcp | KeyFrameWanted | FirstPacket | Arrivals | Sent


@dataclass(slots=True)
class StreamStats:
    """Cumulative counters of one received SSRC or one forward; the control plane takes differences."""

    packets: int = 0
    bytes: int = 0
    packets_lost: int = 0  # RFC 3550 A.3 cumulative, for a receiving stream
    highest_sequence: int = 0  # extended
    jitter: float = 0.0  # RTP clock units, RFC 3550 A.8
    retransmitted: int = 0
    nacks: int = 0
    key_frames: int = 0
    last_rtp_timestamp: int = 0
    last_packet_at: float = 0.0


class SenderReport(NamedTuple):
    """Sender info of an SR (RFC 3550 section 6.4.1) for one forward, on the publisher's clock. `ntp` is the
    64-bit NTP timestamp, `rtp` the same instant in the forward's rewritten timestamps. `ntp` grows with
    `now`, so the middle 32 bits that come back as LSR name the report: keep {LSR: now} to compute the round
    trip time."""

    ntp: int
    rtp: int
    packets: int
    octets: int  # payload only


@dataclass(slots=True)
class PlaneCounters:
    """Why packets were dropped, for /metrics."""

    received: int = 0
    forwarded: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason → count


class Plane(Protocol):
    """See the module docstring. All calls come from one thread."""

    counters: PlaneCounters

    def add_transport(self, transport: int, keys: SrtpKeys, extensions: HeaderExtensions) -> None: ...
    def set_address(self, transport: int, address: Address, local: int = 0) -> None:
        """Where this transport sends to and receives from (older addresses are forgotten)."""
        ...

    def accept_from(self, transport: int, address: Address, local: int = 0) -> None:
        """Another source of this transport's media, until the next `set_address`: a path that is checked but not
        nominated. A browser that restarts ICE sends on its new path up to 2.5 s before it nominates it."""
        ...

    def add_track(self, transport: int, track: int, spec: TrackSpec) -> None: ...
    def bind_ssrc(self, transport: int, ssrc: int, track: int, *, rtx_for: int | None = None) -> None:
        """`rtx_for` is the primary SSRC when `ssrc` carries its retransmissions (RFC 4588). A second primary
        SSRC on the same track replaces the first one (the publisher reloaded); its forwards go on without a
        break."""
        ...

    def add_forward(self, forward: int, transport: int, track: int, spec: ForwardSpec) -> None: ...
    def set_source(self, forward: int, track: int) -> None:
        """Feed a forward from another track (the publisher came back with a new connection): sequence
        numbers and timestamps go on, video starts at the next key frame, which is asked for at once. The old
        track may be gone."""
        ...

    def set_paused(self, forward: int, paused: bool) -> None: ...
    def set_target(self, forward: int, layer: int) -> None:
        """Which simulcast layer to forward. One layer today; the place for the next step."""
        ...

    def remove_forward(self, forward: int) -> None: ...
    def remove_track(self, track: int) -> None:
        """Forwards of the track fall silent but stay, until `set_source` or `remove_forward`."""
        ...

    def remove_transport(self, transport: int) -> None: ...

    def send_rtcp(self, transport: int, compound: bytes) -> None:
        """Protect and send a plain compound RTCP packet."""
        ...

    def send_raw(self, data: bytes, address: Address, local: int = 0) -> None:
        """A STUN or DTLS datagram of the control plane, as it is."""
        ...

    def stream_stats(self, transport: int) -> dict[int, tuple[int, StreamStats]]:
        """Received streams of a transport: ssrc → (track, stats)."""
        ...

    def forward_stats(self, forward: int) -> StreamStats: ...

    def sender_report(self, forward: int, now: float) -> SenderReport | None:
        """What an SR for this forward says now; None until the publisher's own SR came or nothing was sent
        yet."""
        ...

    def set_rtt(self, transport: int, rtt_s: float) -> None:
        """The measured round trip time. It paces NACKs to a publisher and repeated resends to a subscriber;
        until told, 100 ms is assumed."""
        ...

    def tick(self, now: float) -> None:
        """Send due NACKs for gaps of received streams, repeat key frame requests, and turn the logs of arrivals and
        sends into records (call every 20 ms)."""
        ...

    def drain(self) -> list[Record]:
        """All records since the last call: STUN and DTLS first, then the others in order. Cheap when there are none,
        so that it can be called after every read."""
        ...
