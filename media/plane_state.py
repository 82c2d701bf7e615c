"""What the Python plane keeps per transport, track, received source and forward. Plain state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from media.forwarder import Forward, MediaPacket
from media.packets import Buffer, slot_table
from media.plane import Address, HeaderExtensions, SrtpKeys, TrackSpec
from media.receiving import ReceiveStream
from media.srtp import sessions

_MAX_REPORTS: Final = 4  # of one unbound SSRC: again when its mid or rid become known
# A viewer that cannot decode asks twice a second for ever (it has a wrong key, say). Four are answered at
# once, then one every three seconds, so that the publisher's picture does not suffer for it.
_PICTURE_LOSS_BURST: Final = 4.0
_PICTURE_LOSS_RATE: Final = 1 / 3
_MAX_HELD: Final = 256  # packets of one track; a key frame has up to a hundred

# A packet of MediaPacket's that waits: (sequence, timestamp, marker, extra, values, payload)
Held = tuple[int, int, bool, int, tuple[bytes, bytes, bytes], bytes]


class Source:
    """A bound SSRC of a publisher. `primary` is set on an RTX source. `sender_report`: (NTP, RTP timestamp,
    received at)."""

    __slots__ = ("primary", "sender_report", "stream", "track")

    def __init__(self, ssrc: int, track: Track, primary: Source | None) -> None:
        self.track = track
        self.primary = primary
        self.stream = ReceiveStream(ssrc, track.spec.clock_rate_hz, nack=track.spec.nack and primary is None)
        self.sender_report: tuple[int, int, float] | None = None


class Track:
    """A published track and who gets it."""

    __slots__ = (
        "_held_from",
        "held",
        "id",
        "key_frame_asked_at",
        "key_frame_due",
        "key_frame_start",
        "payload_type",
        "primary",
        "spec",
        "started",
        "subscriptions",
        "transport",
        "video",
    )

    def __init__(
        self,
        track: int,
        spec: TrackSpec,
        transport: Transport,
        key_frame_start: Callable[[Buffer, int, int], bool],
    ) -> None:
        self.id = track
        self.spec = spec
        self.transport = transport
        self.video = spec.kind == "video"
        self.payload_type = spec.payload_type
        self.key_frame_start = key_frame_start
        self.primary: Source | None = None
        self.started = False
        self.subscriptions: list[Subscription] = []
        self.key_frame_asked_at = -1e9
        self.key_frame_due = False
        # What came behind a hole while a forward waited for a key frame: its first packet may be in that hole.
        self.held: dict[int, Held] = {}
        self._held_from = 0

    def hold(self, packet: MediaPacket) -> None:
        """Keep this packet of the primary source, which a waiting forward could not start with."""
        if self.primary is None or not self.primary.stream.missing:
            self.held.clear()
            return
        sequence = packet.sequence
        if not self.held:
            self._held_from = self.primary.stream.hole_before(sequence)
            if self._held_from == sequence:
                return
        if sequence >= self._held_from and len(self.held) < _MAX_HELD:
            self.held[sequence] = (
                sequence,
                packet.timestamp,
                packet.marker,
                packet.extra,
                packet.values,
                packet.payload,
            )
        elif sequence >= self._held_from:
            self.held.clear()

    def holds(self, sequence: int) -> bool:
        """Whether everything that came behind `sequence` is held."""
        return bool(self.held) and sequence >= self._held_from

    @property
    def watched(self) -> bool:
        """Whether anybody gets this track now. What nobody sees is not worth repairing."""
        return any(not subscription.forward.paused for subscription in self.subscriptions)

    def replace_primary(self, source: Source) -> None:
        """From now on this source is forwarded; the first key frame of a new one is asked for at once."""
        self.primary = source
        self.held.clear()
        self.key_frame_asked_at = -1e9
        for subscription in self.subscriptions:
            subscription.forward.close()


class Subscription:
    """A forward with its place: the transport it goes to and the track it comes from (None: the track is
    gone)."""

    __slots__ = ("_loss_at", "_loss_tokens", "forward", "id", "numbered", "track", "transport")

    def __init__(self, forward: int, transport: Transport, machine: Forward) -> None:
        self.id = forward
        self.transport = transport
        self.forward = machine
        self.track: Track | None = None
        self.numbered = machine.spec.extensions.transport_cc != 0
        self._loss_tokens = _PICTURE_LOSS_BURST
        self._loss_at = 0.0

    def detach(self) -> None:
        if self.track is not None:
            self.track.subscriptions.remove(self)
            self.track = None

    def allow_picture_loss(self, now: float) -> bool:
        """Whether a PLI of this subscriber is acted on."""
        grown = self._loss_tokens + max(0.0, now - self._loss_at) * _PICTURE_LOSS_RATE
        self._loss_tokens = min(_PICTURE_LOSS_BURST, grown)
        self._loss_at = now
        if self._loss_tokens < 1:
            return False
        self._loss_tokens -= 1
        return True


class Transport:
    """One DTLS association. `receive` and `send` are libsrtp handles; sockets and addresses come with
    `set_address`."""

    __slots__ = (
        "_extensions",
        "_reported",
        "_sessions",
        "address",
        "arrivals",
        "authenticated",
        "by_ssrc",
        "id",
        "lone_number",
        "next_sequence",
        "paths",
        "receive",
        "rtt_s",
        "send",
        "sendto",
        "sent",
        "sequences",
        "slot_table",
        "sources",
        "subscriptions",
        "tracks",
        "unbound",
    )

    def __init__(self, transport: int, keys: SrtpKeys, extensions: HeaderExtensions) -> None:
        self.id = transport
        self._sessions = sessions(keys)
        self.receive: Any = self._sessions[0].handle
        self.send: Any = self._sessions[1].handle
        self._extensions = extensions
        self.slot_table = slot_table(extensions)
        self.lone_number = _lone_number(extensions)
        self.address: Address | None = None
        self.paths: set[tuple[int, Address]] = set()  # (local, address) that media is accepted from
        self.sendto: Callable[..., int] | None = None  # of the socket it is reached by
        self.rtt_s = 0.1
        self.tracks: dict[int, Track] = {}
        self.sources: dict[int, Source] = {}
        # SSRCs that libsrtp keeps state for
        self.authenticated: set[int] = set()
        self.unbound: set[int] = set()
        self._reported: dict[int, list[tuple[str | None, str | None, str | None]]] = {}
        self.subscriptions: dict[int, Subscription] = {}
        self.by_ssrc: dict[int, Subscription] = {}
        # where the numbers of a removed forward's SSRCs go on: a keystream is never used twice
        self.sequences: dict[int, int] = {}
        self.next_sequence = 0
        self.arrivals: list[tuple[int, int]] = []
        self.sent: list[tuple[int, int, int]] = []

    def add_extensions(self, extensions: HeaderExtensions) -> None:
        """A later m-section of the bundle may negotiate more; an id means the same in all of them (RFC
        8843)."""
        known = {f.name: getattr(self._extensions, f.name) for f in fields(HeaderExtensions)}
        added = {name: getattr(extensions, name) or old for name, old in known.items()}
        self._extensions = HeaderExtensions(**added)
        self.slot_table = slot_table(self._extensions)
        self.lone_number = _lone_number(self._extensions)

    def may_add(self, ssrc: int, unbound: int, total: int) -> bool:
        """Whether a packet of an unbound SSRC may reach libsrtp, which keeps state for each one that
        authenticates."""
        if ssrc in self.authenticated:
            return True
        return len(self.authenticated) < total and len(self.unbound) < unbound

    def report_unbound(self, ssrc: int, ids: tuple[str | None, str | None, str | None]) -> bool:
        """Whether to tell the control plane of this unbound SSRC: the first time and when more of its ids are
        known."""
        self.unbound.add(ssrc)
        reported = self._reported.setdefault(ssrc, [])
        if ids in reported or len(reported) >= _MAX_REPORTS or (reported and ids == (None, None, None)):
            return False
        reported.append(ids)
        return True

    def unreport(self, ssrc: int, ids: tuple[str | None, str | None, str | None]) -> None:
        """The report got lost: the next packet of this SSRC makes another one."""
        self._reported[ssrc].remove(ids)

    def bind(self, ssrc: int, track: Track, primary: Source | None) -> Source:
        source = self.sources[ssrc] = Source(ssrc, track, primary)
        self.authenticated.add(ssrc)
        self.unbound.discard(ssrc)
        self._reported.pop(ssrc, None)
        return source

    def add_subscription(self, subscription: Subscription) -> None:
        self.subscriptions[subscription.id] = subscription
        spec = subscription.forward.spec
        self.by_ssrc[spec.ssrc] = subscription

    def remove_subscription(self, subscription: Subscription) -> None:
        self.subscriptions.pop(subscription.id, None)
        machine = subscription.forward
        spec = machine.spec
        if self.by_ssrc.get(spec.ssrc) is subscription:
            del self.by_ssrc[spec.ssrc]
        self.sequences[spec.ssrc] = machine.next_sequence
        if spec.rtx_ssrc is not None:
            self.sequences[spec.rtx_ssrc] = machine.next_rtx_sequence

    def remove_track(self, track: Track) -> None:
        self.tracks.pop(track.id, None)
        track.primary = None  # no cycle keeps the association's keys in memory
        for ssrc in [ssrc for ssrc, source in self.sources.items() if source.track is track]:
            del self.sources[ssrc]


def _lone_number(extensions: HeaderExtensions) -> int:
    """How a one-byte extension block starts that holds only a transport-wide sequence number; -1: it cannot."""
    return extensions.transport_cc << 4 | 1 if extensions.transport_cc else -1
