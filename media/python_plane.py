"""The packet plane in Python: sockets, SRTP and forwarding in one thread, without a task or an object tree per
packet.

This module has the commands, the statistics and the timers; what runs per packet is in media/packet_path.py.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

from media.forwarder import FIRST_SEQUENCE_NUMBERS, Forward
from media.packet_path import PacketPath
from media.payloads import KEY_FRAME_START
from media.plane import (
    Address,
    Arrivals,
    ForwardSpec,
    HeaderExtensions,
    Record,
    SenderReport,
    Sent,
    SrtpKeys,
    StreamStats,
    TrackSpec,
)
from media.plane_output import MAX_DATAGRAM
from media.plane_state import Subscription, Track, Transport

_STALLED_S: Final = 1.0  # a source that is silent this long is not asked for key frames
_HISTORY_S: Final = 1.5  # an older hole is closed by a key frame sooner than by a retransmission
_MAX_PATHS: Final = 16


class PythonPlane(PacketPath):
    """`media.plane.Plane` on non-blocking UDP `sockets`; a socket's index is its `local`. `clock` gives monotonic
    seconds.

    Register `read_ready(local)` with the event loop's add_reader for each socket, call `tick` every 20 ms and `drain`
    often.
    """

    def __init__(self, sockets: Sequence[socket.socket], clock: Callable[[], float]) -> None:
        super().__init__(sockets, clock)
        self._transports: dict[int, Transport] = {}
        self._tracks: dict[int, Track] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._random = random.SystemRandom()

    # ---- commands ----

    def add_transport(self, transport: int, keys: SrtpKeys, extensions: HeaderExtensions) -> None:
        if transport in self._transports:
            raise ValueError(f"transport {transport} exists")
        self._transports[transport] = Transport(transport, keys, extensions)

    def set_address(self, transport: int, address: Address, local: int = 0) -> None:
        state = self._transports[transport]
        checked = _checked(address)
        by_address = self._by_address[local]
        self._forget_addresses(state)
        state.address = checked
        state.sendto = self._sockets[local].sendto
        state.paths.add((local, checked))
        by_address[checked] = state

    def accept_from(self, transport: int, address: Address, local: int = 0) -> None:
        state = self._transports[transport]
        path = (local, _checked(address))
        by_address = self._by_address[local]
        if len(state.paths) >= _MAX_PATHS and path not in state.paths:
            self._drop("too_many_paths")
            return
        state.paths.add(path)
        by_address[path[1]] = state

    def _forget_addresses(self, state: Transport) -> None:
        for local, address in state.paths:
            if self._by_address[local].get(address) is state:
                del self._by_address[local][address]
        state.paths.clear()

    def add_track(self, transport: int, track: int, spec: TrackSpec) -> None:
        if track in self._tracks:
            raise ValueError(f"track {track} exists")
        state = self._transports[transport]
        state.add_extensions(spec.extensions)
        self._tracks[track] = state.tracks[track] = Track(track, spec, state, KEY_FRAME_START[spec.codec])

    def bind_ssrc(self, transport: int, ssrc: int, track: int, *, rtx_for: int | None = None) -> None:
        state = self._transports[transport]
        owner = self._tracks[track]
        if owner.transport is not state:
            raise KeyError(track)
        primary = None
        if rtx_for is not None:
            primary = state.sources[rtx_for]
        source = state.sources.get(ssrc)
        if source is None or source.track is not owner or source.primary is not primary:
            source = state.bind(ssrc, owner, primary)
        if primary is None and owner.primary is not source:
            owner.replace_primary(source)
            if any(s.forward.waiting for s in owner.subscriptions):
                owner.key_frame_due = True

    def add_forward(self, forward: int, transport: int, track: int, spec: ForwardSpec) -> None:
        if forward in self._subscriptions:
            raise ValueError(f"forward {forward} exists")
        state = self._transports[transport]
        owner = self._tracks[track]
        start = state.sequences.get(spec.ssrc)
        rtx_start = state.sequences.get(spec.rtx_ssrc) if spec.rtx_ssrc is not None else None
        machine = Forward(
            spec,
            video=owner.video,
            clock_rate_hz=owner.spec.clock_rate_hz,
            start=self._random.randrange(FIRST_SEQUENCE_NUMBERS) if start is None else start,
            rtx_start=self._random.randrange(FIRST_SEQUENCE_NUMBERS) if rtx_start is None else rtx_start,
        )
        subscription = self._subscriptions[forward] = Subscription(forward, state, machine)
        state.add_subscription(subscription)
        self._attach(subscription, owner)

    def set_source(self, forward: int, track: int) -> None:
        subscription = self._subscriptions[forward]
        owner = self._tracks[track]
        subscription.detach()
        subscription.forward.close()
        self._attach(subscription, owner)

    def _attach(self, subscription: Subscription, owner: Track) -> None:
        subscription.track = owner
        owner.subscriptions.append(subscription)
        # A source that has not sent anything yet starts with a key frame by itself.
        if subscription.forward.waiting and owner.started:
            self._want_key_frame(owner, self._clock())

    def set_paused(self, forward: int, paused: bool) -> None:
        subscription = self._subscriptions[forward]
        machine = subscription.forward
        if machine.paused == paused:
            return
        machine.set_paused(paused)
        if machine.waiting and subscription.track is not None:
            self._want_key_frame(subscription.track, self._clock())

    def set_target(self, forward: int, layer: int) -> None:
        if forward not in self._subscriptions:
            raise KeyError(forward)
        if layer != 0:
            raise ValueError("a track has one layer")

    def remove_forward(self, forward: int) -> None:
        subscription = self._subscriptions.pop(forward, None)
        if subscription is not None:
            subscription.detach()
            subscription.transport.remove_subscription(subscription)

    def remove_track(self, track: int) -> None:
        owner = self._tracks.pop(track, None)
        if owner is None:
            return
        owner.transport.remove_track(owner)
        for subscription in owner.subscriptions:
            subscription.track = None
            subscription.forward.close()
        owner.subscriptions.clear()

    def remove_transport(self, transport: int) -> None:
        state = self._transports.pop(transport, None)
        if state is None:
            return
        self._forget_addresses(state)
        for track in list(state.tracks):
            self.remove_track(track)
        for forward in list(state.subscriptions):
            self.remove_forward(forward)

    def set_rtt(self, transport: int, rtt_s: float) -> None:
        self._transports[transport].rtt_s = min(max(rtt_s, 0.0), 2.0)

    # ---- sending for the control plane ----

    def send_rtcp(self, transport: int, compound: bytes) -> None:
        state = self._transports[transport]
        if len(compound) > MAX_DATAGRAM:
            raise ValueError("the compound is longer than a datagram")
        self._send_rtcp(state, compound)

    def send_raw(self, data: bytes, address: Address, local: int = 0) -> None:
        self._send_to(self._sockets[local].sendto, data, address)

    # ---- statistics ----

    def stream_stats(self, transport: int) -> dict[int, tuple[int, StreamStats]]:
        sources = self._transports[transport].sources
        return {ssrc: (s.track.id, s.stream.snapshot()) for ssrc, s in sources.items()}

    def forward_stats(self, forward: int) -> StreamStats:
        return self._subscriptions[forward].forward.snapshot()

    def sender_report(self, forward: int, now: float) -> SenderReport | None:
        subscription = self._subscriptions[forward]
        track = subscription.track
        if track is None or track.primary is None or track.primary.sender_report is None:
            return None
        ntp, rtp, at = track.primary.sender_report
        elapsed = now - at
        timestamp = subscription.forward.map_timestamp(
            track.primary.stream, rtp + round(elapsed * track.spec.clock_rate_hz)
        )
        if timestamp is None:
            return None
        stats = subscription.forward.snapshot()
        ntp = (ntp + round(elapsed * (1 << 32))) & 0xFFFFFFFFFFFFFFFF
        return SenderReport(ntp, timestamp, stats.packets, stats.bytes)

    # ---- time ----

    def tick(self, now: float) -> None:
        self._notice_standstill(self._clock())
        self._ticked_at = self._clock()
        for track in self._tracks.values():
            primary = track.primary
            if primary is None:
                continue
            stream = primary.stream
            if not track.watched:
                stream.forget_before(stream.highest)
                stream.broken = False
                continue
            if stream.missing:
                self._ask_for_missing(track, stream, now)
            if stream.broken:
                stream.broken = False
                self._want_key_frame(track, now)
            if track.key_frame_due and now - stream.stats.last_packet_at < _STALLED_S:
                self._want_key_frame(track, now)
        for subscription in self._subscriptions.values():
            subscription.forward.forget_sent_before(now - _HISTORY_S)
        for transport in self._transports.values():
            if transport.arrivals:
                self._record(Arrivals(transport.id, transport.arrivals))
                transport.arrivals = []
            if transport.sent:
                self._record(Sent(transport.id, transport.sent))
                transport.sent = []

    def drain(self) -> list[Record]:
        inbox = self._inbox.take()
        if not self._records:
            return inbox
        records = [*inbox, *self._records]
        self._records.clear()
        self._rtcp_records.clear()
        return records


def _checked(address: Address) -> Address:
    """ValueError when nothing can be sent there, or a name would have to be looked up by every sendto."""
    host, port = address[0], address[1]
    ipaddress.ip_address(host)
    if not 0 < port < 65536:
        raise ValueError(f"port {port} is out of range")
    return host, port
