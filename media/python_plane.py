"""The packet plane in Python: sockets, SRTP and forwarding in one thread, without a task or an object tree
per packet.

A datagram takes this way: `read_ready` → `_handle` (first byte) → `_on_rtp` (unprotect, header,
`ReceiveStream`) → `Forward.push` per subscriber → `_send` (protect, sendto). Whatever a peer sends is dropped
and counted at worst; nothing raises.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

from media import packets, rtcp
from media.forwarder import FIRST_SEQUENCE_NUMBERS, Forward, MediaPacket
from media.packets import MalformedPacket
from media.payloads import KEY_FRAME_START
from media.plane import (
    Address,
    Arrivals,
    FirstPacket,
    ForwardSpec,
    HeaderExtensions,
    KeyFrameWanted,
    PlaneCounters,
    Record,
    Rtcp,
    SenderReport,
    Sent,
    SrtpKeys,
    StreamStats,
    TrackSpec,
    UnknownSsrc,
)
from media.plane_inbox import ControlInbox
from media.plane_state import Subscription, Track, Transport
from media.srtp import MAX_TRAILER, Buffer, protect, protect_rtcp, status_word, unprotect, unprotect_rtcp

MAX_DATAGRAM: Final = 2048  # Ethernet's 1500 and some; longer ones are dropped
BATCH: Final = 64  # datagrams read per wake, so that timers and other sockets get their turn
MAX_RECORDS: Final = 8192
MAX_LOG: Final = 4096  # arrivals or sends between two drains of one transport
MAX_RTCP_RECORDS: Final = 256  # of one transport between two drains
MAX_UNBOUND_SSRCS: Final = 32  # authenticated SSRCs of one transport that nobody bound
MAX_SSRCS: Final = 256  # all SSRCs that a transport ever had: libsrtp keeps state for each
_SHORTEST_SRTP: Final = packets.HEADER_LENGTH + 10  # header and the shorter tag
_SHORTEST_SRTCP: Final = 8 + 4 + 10
KEY_FRAME_INTERVAL_S: Final = 0.5
_STALLED_S: Final = 1.0  # a source that is silent this long is not asked for key frames
_NOBODY: Final = 1  # SSRC that the relay reports as
_MSG_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
_HEADER: Final = packets.HEADER.unpack_from
_VALUES: Final = (b"", b"", b"")


class PythonPlane:
    """`media.plane.Plane` on non-blocking UDP `sockets`; a socket's index is its `local`. `clock` gives
    monotonic seconds.

    Register `read_ready(local)` with the event loop's add_reader for each socket, call `tick` every 20 ms and
    `drain` often.
    """

    def __init__(self, sockets: Sequence[socket.socket], clock: Callable[[], float]) -> None:
        self.counters = PlaneCounters()
        self._sockets = tuple(sockets)
        self._clock = clock
        for each in self._sockets:
            each.setblocking(False)
        self._in = Buffer(MAX_DATAGRAM + 1)
        # a rewritten header may be longer than the received one by a whole extension block
        self._out = Buffer(MAX_DATAGRAM + 1100 + MAX_TRAILER)
        self._slots = [0] * packets.SLOTS
        self._packet = MediaPacket()
        self._by_address: tuple[dict[Address, Transport], ...] = tuple({} for _ in self._sockets)
        self._transports: dict[int, Transport] = {}
        self._tracks: dict[int, Track] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._records: list[Record] = []
        self._inbox = ControlInbox()
        self._random = random.SystemRandom()

    # ---- commands ----

    def add_transport(self, transport: int, keys: SrtpKeys, extensions: HeaderExtensions) -> None:
        if transport in self._transports:
            raise ValueError(f"transport {transport} exists")
        self._transports[transport] = Transport(transport, keys, extensions)

    def set_address(self, transport: int, address: Address, local: int = 0) -> None:
        state = self._transports[transport]
        host, port = address[0], address[1]
        ipaddress.ip_address(host)  # a name would be looked up by every sendto
        if not 0 < port < 65536:
            raise ValueError(f"port {port} is out of range")
        by_address = self._by_address[local]
        self._forget_address(state)
        state.address = (host, port)
        state.local = local
        state.sendto = self._sockets[local].sendto
        by_address[state.address] = state

    def _forget_address(self, state: Transport) -> None:
        if state.address is not None and self._by_address[state.local].get(state.address) is state:
            del self._by_address[state.local][state.address]

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

    def map_timestamp(self, forward: int, ssrc: int, rtp_timestamp: int) -> int | None:
        subscription = self._subscriptions[forward]
        if subscription.track is None:
            return None
        source = subscription.track.transport.sources.get(ssrc)
        return None if source is None else subscription.forward.map_timestamp(source, rtp_timestamp)

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
        self._forget_address(state)
        for track in list(state.tracks):
            self.remove_track(track)
        for forward in list(state.subscriptions):
            self.remove_forward(forward)

    def set_rtt(self, transport: int, rtt_s: float) -> None:
        self._transports[transport].rtt_s = min(max(rtt_s, 0.0), 2.0)

    # ---- reading ----

    def read_ready(self, local: int = 0) -> None:
        """Handle up to 64 datagrams that wait on socket `local`."""
        receive = self._sockets[local].recvfrom_into
        buffer = self._in.bytes
        for _ in range(BATCH):
            try:
                length, source = receive(buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error for something that was sent earlier; the socket goes on.
                self._drop("receive_error")
                continue
            if len(source) != 2:
                source = source[:2]  # IPv6: flow and scope are not part of an address here
            self._handle(length, source, local, self._clock())

    def on_datagram(self, data: bytes, source: Address, local: int, now: float) -> None:
        """Handle one datagram that was read elsewhere."""
        length = min(len(data), MAX_DATAGRAM + 1)
        self._in.bytes[:length] = data[:length]
        self._handle(length, source, local, now)

    def _handle(self, length: int, source: Address, local: int, now: float) -> None:
        self.counters.received += 1
        if length == 0:
            self._drop("empty")
            return
        if length > MAX_DATAGRAM:
            self._drop("too_long")
            return
        buffer = self._in.bytes
        first = buffer[0]
        if 128 <= first <= 191:
            transport = self._by_address[local].get(source)
            if transport is None:
                self._drop("unknown_source")
                return
            if length < _SHORTEST_SRTP:
                self._drop("srtp_short")
                return
            try:
                if 192 <= buffer[1] <= 223:
                    self._on_rtcp(transport, length, now)
                else:
                    self._on_rtp(transport, length, now)
            except MalformedPacket as error:
                self._drop(error.reason)
        elif first <= 3 or 20 <= first <= 63:
            known = source in self._by_address[local]
            reason = self._inbox.put(bytes(self._in.view[:length]), source, local, known)
            if reason is not None:
                self._drop(reason)
        else:
            self._drop("first_byte")

    def _drop(self, reason: str) -> None:
        dropped = self.counters.dropped
        dropped[reason] = dropped.get(reason, 0) + 1

    # ---- media ----

    def _on_rtp(self, transport: Transport, length: int, now: float) -> None:
        incoming = self._in
        buffer = incoming.bytes
        _, second, sequence_number, timestamp, ssrc = _HEADER(buffer)
        source = transport.sources.get(ssrc)
        if source is None and not transport.may_add(ssrc, MAX_UNBOUND_SSRCS, MAX_SSRCS):
            self._drop("too_many_ssrcs")
            return
        incoming.length[0] = length
        status = unprotect(transport.receive, incoming.pointer, incoming.length)
        if status:
            self._drop(status_word(status))
            return
        length = incoming.length[0]
        profile, at, start, end = packets.locate(buffer, length)
        slots = self._slots
        if profile:
            slots[:] = packets.NO_EXTENSIONS
            packets.read_extensions(buffer, profile, at, start, transport.slot_table, slots)
            slot = slots[packets.TRANSPORT_CC]
            if slot & 0xFF >= 2:
                if len(transport.arrivals) < MAX_LOG:
                    at = slot >> 8
                    transport.arrivals.append((buffer[at] << 8 | buffer[at + 1], int(now * 1e6)))
                else:
                    self._drop("arrival_log_full")
        if source is None:
            self._on_unbound(transport, ssrc, second & 0x7F, profile != 0)
            return
        primary = source.primary
        retransmitted = primary is not None
        track = source.track
        spec = track.spec
        payload_type = second & 0x7F
        if primary is not None:
            if payload_type != spec.rtx_payload_type:
                self._drop("payload_type")
                return
            source.stream.receive(sequence_number, timestamp, length, now)
            if start == end:
                self._drop("rtx_padding")
                return
            sequence_number = packets.original_sequence_number(buffer, start, end)
            start += 2
            source = primary
        elif payload_type != spec.payload_type:
            self._drop("payload_type")
            return
        stream = source.stream
        sequence = stream.receive(sequence_number, timestamp, length, now, retransmitted)
        if sequence < 0:
            self._drop("duplicate" if sequence == -1 else "too_old" if sequence == -2 else "suspicious")
            return
        if source is not track.primary:
            self._drop("replaced_ssrc")
            return
        key_frame = track.video and start < end and track.key_frame_start(buffer, start, end)
        if not track.started:
            track.started = True
            self._record(FirstPacket(track.id, now))
        if key_frame:
            stream.stats.key_frames += 1
            stream.forget_before(sequence)
            track.key_frame_due = False
        if stream.discontinuity:
            for subscription in track.subscriptions:
                subscription.forward.close()
        if track.subscriptions:
            packet = self._packet
            packet.source = source
            packet.sequence = sequence
            packet.timestamp = timestamp
            packet.marker = second >= 0x80
            packet.newest = sequence == stream.highest
            packet.key_frame = key_frame
            packet.payload = bytes(incoming.view[start:end])
            if profile and (slots[6] or slots[7] or slots[8]):
                self._pass_extensions(packet, slots)
            else:
                packet.extra = 0
                packet.values = _VALUES
            self._forward(track, packet, now)

    def _pass_extensions(self, packet: MediaPacket, slots: list[int]) -> None:
        buffer = self._in.bytes
        level = slots[packets.AUDIO_LEVEL]
        orientation = slots[packets.VIDEO_ORIENTATION]
        descriptor = slots[packets.DEPENDENCY_DESCRIPTOR]
        # Both have one byte of value (RFC 6464, 3GPP TS 26.114); others are not passed on.
        if level & 0xFF != 1:
            level = 0
        if orientation & 0xFF != 1:
            orientation = 0
        packet.extra = level & 0xFF | (orientation & 0xFF) << 8 | (descriptor & 0xFF) << 16
        packet.values = (
            packets.slot_bytes(buffer, level),
            packets.slot_bytes(buffer, orientation),
            packets.slot_bytes(buffer, descriptor),
        )

    def _forward(self, track: Track, packet: MediaPacket, now: float) -> None:
        out = self._out.bytes
        send_time = int(now * 262144) & 0xFFFFFF
        waiting = False
        for subscription in track.subscriptions:
            transport = subscription.transport
            machine = subscription.forward
            length = machine.push(out, packet, transport.next_sequence, send_time, now)
            if length:
                self._send(transport, length, now, subscription.numbered)
                self.counters.forwarded += 1
            elif machine.waiting:
                waiting = True
        if waiting:
            self._want_key_frame(track, now)

    def _send(self, transport: Transport, length: int, now: float, numbered: bool) -> None:
        """Protect and send what lies in the out buffer. `numbered`: it carries a new transport-wide sequence
        number."""
        outgoing = self._out
        size = outgoing.length
        size[0] = length
        status = protect(transport.send, outgoing.pointer, size)
        if status:
            self._drop("protect_failed")
            return
        length = size[0]
        if numbered:
            number = transport.next_sequence
            if len(transport.sent) < MAX_LOG:
                transport.sent.append((number, int(now * 1e6), length))
            else:
                self._drop("send_log_full")
            transport.next_sequence = (number + 1) & 0xFFFF
        sendto = transport.sendto
        if sendto is None:
            self._drop("no_address")
            return
        try:
            sendto(outgoing.view[:length], _MSG_DONTWAIT, transport.address)
        except BlockingIOError:
            self._drop("send_queue_full")
        except OSError:
            self._drop("send_error")

    def _on_unbound(self, transport: Transport, ssrc: int, payload_type: int, extended: bool) -> None:
        transport.authenticated.add(ssrc)
        self._drop("unbound_ssrc")
        slots = self._slots if extended else packets.NO_EXTENSIONS
        buffer = self._in.bytes
        mid, rid, repaired = (
            packets.slot_text(buffer, slots[s]) for s in (packets.MID, packets.RID, packets.REPAIRED_RID)
        )
        if transport.report_unbound(ssrc, (mid, rid, repaired)):
            self._record(UnknownSsrc(transport.id, ssrc, payload_type, mid, rid, repaired))

    # ---- RTCP ----

    def _on_rtcp(self, transport: Transport, length: int, now: float) -> None:
        incoming = self._in
        if length < _SHORTEST_SRTCP:
            self._drop("srtcp_short")
            return
        ssrc = int.from_bytes(incoming.view[4:8], "big")
        if ssrc not in transport.sources and not transport.may_add(ssrc, MAX_UNBOUND_SSRCS, MAX_SSRCS):
            self._drop("too_many_ssrcs")
            return
        incoming.length[0] = length
        status = unprotect_rtcp(transport.receive, incoming.pointer, incoming.length)
        if status:
            self._drop(status_word(status))
            return
        transport.authenticated.add(ssrc)
        data = bytes(incoming.view[: incoming.length[0]])
        chunks = rtcp.split(data)
        report = False
        for chunk in chunks:
            kind = chunk.packet_type
            if kind == rtcp.RTPFB and chunk.subtype == rtcp.NACK_FORMAT:
                self._on_nack(transport, rtcp.feedback_ssrcs(data, chunk)[1], rtcp.parse_nack(data, chunk), now)
                continue
            report = True
            if kind == rtcp.SR:
                info = rtcp.parse_sender_report(data, chunk)
                source = transport.sources.get(info.ssrc)
                if source is not None:
                    source.sender_report = (info.ntp, info.rtp, now)
            elif kind == rtcp.PSFB and chunk.subtype == rtcp.PLI_FORMAT:
                self._on_picture_lost(transport, rtcp.feedback_ssrcs(data, chunk)[1], now)
            elif kind == rtcp.PSFB and chunk.subtype == rtcp.FIR_FORMAT:
                for media_ssrc, _ in rtcp.parse_fir(data, chunk):
                    self._on_picture_lost(transport, media_ssrc, now)
        if report:
            if transport.rtcp_records >= MAX_RTCP_RECORDS:
                self._drop("rtcp_flood")
            else:
                transport.rtcp_records += 1
                self._record(Rtcp(transport.id, data, now))

    def _on_nack(self, transport: Transport, media_ssrc: int, lost: list[int], now: float) -> None:
        subscription = transport.by_ssrc.get(media_ssrc)
        if subscription is None:
            self._drop("nack_unknown_ssrc")
            return
        machine = subscription.forward
        send_time = packets.abs_send_time(now)
        numbered = subscription.numbered and machine.uses_rtx
        for stored in machine.answer_nack(lost, now, transport.rtt_s):
            length = machine.write_resend(self._out.bytes, stored, transport.next_sequence, send_time)
            self._send(transport, length, now, numbered)

    def _on_picture_lost(self, transport: Transport, media_ssrc: int, now: float) -> None:
        subscription = transport.by_ssrc.get(media_ssrc)
        if subscription is None or subscription.track is None or not subscription.track.video:
            self._drop("pli_unknown_ssrc")
        elif not subscription.forward.paused:
            if subscription.allow_picture_loss(now):
                self._want_key_frame(subscription.track, now)
            else:
                self._drop("pli_throttled")

    def _want_key_frame(self, track: Track, now: float) -> None:
        """Ask the publisher for a key frame: the first time at once, then at most every 500 ms; `tick` makes
        up for it."""
        if not track.video:
            return
        primary = track.primary
        if primary is None or now - track.key_frame_asked_at < KEY_FRAME_INTERVAL_S:
            track.key_frame_due = True
            return
        track.key_frame_due = False
        track.key_frame_asked_at = now
        self._record(KeyFrameWanted(track.id, primary.stream.ssrc))

    def send_rtcp(self, transport: int, compound: bytes) -> None:
        state = self._transports[transport]
        outgoing = self._out
        length = len(compound)
        if length > MAX_DATAGRAM:
            raise ValueError("the compound is longer than a datagram")
        if state.sendto is None:
            self._drop("no_address")
            return
        outgoing.bytes[:length] = compound
        outgoing.length[0] = length
        if protect_rtcp(state.send, outgoing.pointer, outgoing.length):
            self._drop("protect_failed")
            return
        self._send_to(state.sendto, outgoing.view[: outgoing.length[0]], state.address)

    def send_raw(self, data: bytes, address: Address, local: int = 0) -> None:
        self._send_to(self._sockets[local].sendto, data, address)

    def _send_to(self, sendto: Callable[..., int], data: bytes | memoryview, address: Address | None) -> None:
        try:
            sendto(data, _MSG_DONTWAIT, address)
        except BlockingIOError:
            self._drop("send_queue_full")
        except OSError:
            self._drop("send_error")

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
        timestamp = subscription.forward.map_timestamp(track.primary, rtp + round(elapsed * track.spec.clock_rate_hz))
        if timestamp is None:
            return None
        stats = subscription.forward.snapshot()
        ntp = (ntp + round(elapsed * (1 << 32))) & 0xFFFFFFFFFFFFFFFF
        return SenderReport(ntp, timestamp, stats.packets, stats.bytes)

    # ---- time ----

    def tick(self, now: float) -> None:
        for track in self._tracks.values():
            primary = track.primary
            if primary is None:
                continue
            stream = primary.stream
            if stream.missing:
                lost = stream.due_nacks(now, track.transport.rtt_s)
                if lost:
                    compound = rtcp.build_receiver_report(_NOBODY) + rtcp.build_nack(_NOBODY, stream.ssrc, lost)
                    self.send_rtcp(track.transport.id, compound)
            if stream.broken:
                stream.broken = False
                self._want_key_frame(track, now)
            if track.key_frame_due and now - stream.stats.last_packet_at < _STALLED_S:
                self._want_key_frame(track, now)

    def _record(self, record: Record) -> None:
        if len(self._records) < MAX_RECORDS:
            self._records.append(record)
        else:
            self._drop("records_full")

    def drain(self) -> list[Record]:
        records: list[Record] = [*self._inbox.take(), *self._records]
        self._records.clear()
        for transport in self._transports.values():
            transport.rtcp_records = 0
            if transport.arrivals:
                records.append(Arrivals(transport.id, transport.arrivals))
                transport.arrivals = []
            if transport.sent:
                records.append(Sent(transport.id, transport.sent))
                transport.sent = []
        return records
