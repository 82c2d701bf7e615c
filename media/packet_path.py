"""The way of a datagram through the Python plane: all that runs per packet. The commands are in
media/python_plane.py.

`read_ready` → `_handle` (first byte) → `_on_rtp` (unprotect, header, `ReceiveStream`) → `_forward` (`Forward.push`
per subscriber) → `_send` (protect, sendto). Whatever a peer sends is dropped and counted at worst; nothing raises.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Final

from media import packets, rtcp
from media.forwarder import MediaPacket
from media.packets import MalformedPacket
from media.plane import Address, FirstPacket, Rtcp, UnknownSsrc
from media.plane_inbox import ControlInbox
from media.plane_output import MAX_DATAGRAM, MAX_LOG, PlaneOutput
from media.plane_state import Held, Source, Subscription, Track, Transport
from media.receiving import DUPLICATE, TOO_OLD
from media.srtp import Buffer, status_word, unprotect, unprotect_rtcp

BATCH: Final = 64  # datagrams read per wake, so that timers and other sockets get their turn
MAX_RTCP_RECORDS: Final = 256  # of one transport between two drains
MAX_UNBOUND_SSRCS: Final = 32  # authenticated SSRCs of one transport that nobody bound
MAX_SSRCS: Final = 256  # all SSRCs that a transport ever had: libsrtp keeps state for each
# When the process stood still for so long, the media that waits in the socket is too old to be of use: a burst of it
# would move the viewers' clocks and fill their links, and the publisher's estimator would take the wait for congestion.
STANDSTILL_S: Final = 1.0
MAX_BACKLOG: Final = 16_384  # datagrams; more than any socket buffer holds
_SHORTEST_SRTP: Final = packets.HEADER_LENGTH + 10  # header and the shorter tag
_SHORTEST_SRTCP: Final = 8 + 4 + 10  # header and SSRC, SRTCP index, the shorter tag
_HEADER: Final = packets.HEADER.unpack_from
_NO_VALUES: Final = (b"", b"", b"")


class PacketPath(PlaneOutput):
    """The per-packet half of `PythonPlane`."""

    def __init__(self, sockets: Sequence[socket.socket], clock: Callable[[], float]) -> None:
        super().__init__(sockets, clock)
        self._in = Buffer(MAX_DATAGRAM + 1)
        self._slots = [0] * packets.SLOTS
        self._packet = MediaPacket()
        self._by_address: tuple[dict[Address, Transport], ...] = tuple({} for _ in self._sockets)
        self._inbox = ControlInbox()
        self._rtcp_records: dict[int, int] = {}  # transport → how many since the last drain
        self._ticked_at = clock()
        self._stale: set[int] = set()  # sockets with media from before a standstill
        self._gaps: list[Track] = []  # with new holes since the last read

    # ---- reading ----

    def read_ready(self, local: int = 0) -> None:
        """Handle up to 64 datagrams that wait on socket `local`."""
        clock = self._clock
        self._notice_standstill(clock())
        if local in self._stale:
            self._stale.discard(local)
            self._skip_backlog(local)
            return
        receive = self._sockets[local].recvfrom_into
        buffer = self._in.bytes
        for _ in range(BATCH):
            try:
                length, source = receive(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # An ICMP error for something that was sent earlier; the socket goes on.
                self._drop("receive_error")
                continue
            if len(source) != 2:
                source = source[:2]  # IPv6: flow and scope are not part of an address here
            self._handle(length, source, local, clock())
        if self._gaps:
            # Asked for at once, but what had only overtaken others and waited behind them is in by now.
            gaps, self._gaps = self._gaps, []
            for track in gaps:
                if track.primary is not None and track.watched:
                    self._ask_for_missing(track, track.primary.stream, clock())

    def _notice_standstill(self, now: float) -> None:
        """Called by reads and by ticks: after a standstill the loop may begin with either."""
        if now - self._ticked_at > STANDSTILL_S:
            self._ticked_at = now
            self._stale.update(range(len(self._sockets)))

    def _skip_backlog(self, local: int) -> None:
        """Read all that waits and leave the media out. Checks, handshakes and RTCP are handled: they say how things
        stand."""
        receive = self._sockets[local].recvfrom_into
        buffer = self._in.bytes
        now = self._clock()
        for _ in range(MAX_BACKLOG):
            try:
                length, source = receive(buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._drop("receive_error")
                continue
            if length >= 2 and 128 <= buffer[0] <= 191 and not 192 <= buffer[1] <= 223:
                self.counters.received += 1
                self._drop("standstill")
            else:
                self._handle(length, source[:2], local, now)

    def on_datagram(self, data: bytes, source: Address, local: int, now: float) -> None:
        """Handle one datagram that was read elsewhere."""
        length = min(len(data), MAX_DATAGRAM + 1)
        self._in.bytes[:length] = data[:length]
        self._handle(length, source, local, now)

    def _handle(self, length: int, source: Address, local: int, now: float) -> None:
        """The first byte says what it is (RFC 9443)."""
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

    # ---- media ----

    def _on_rtp(self, transport: Transport, length: int, now: float) -> None:
        incoming = self._in
        buffer = incoming.bytes
        _, second, sequence_number, timestamp, ssrc = _HEADER(buffer)
        source = transport.sources.get(ssrc)
        if source is None and not transport.may_add(ssrc, MAX_UNBOUND_SSRCS, MAX_SSRCS):
            self._drop("too_many_ssrcs")
            return
        size = incoming.length
        size[0] = length
        status = unprotect(transport.receive, incoming.pointer, size)
        if status:
            self._drop(status_word(status))
            return
        length = size[0]
        profile, at, start, end = packets.locate(buffer, length)
        extended = False
        if profile:
            # Most packets carry a transport-wide sequence number and nothing else.
            if start - at == 4 and buffer[at] == transport.lone_number and profile == packets.ONE_BYTE_PROFILE:
                at += 1
            else:
                extended = True
                slots = self._slots
                slots[:] = packets.NO_EXTENSIONS
                packets.read_extensions(buffer, profile, at, start, transport.slot_table, slots)
                slot = slots[packets.TRANSPORT_CC]
                at = slot >> 8 if slot & 0xFF >= 2 else 0
            if at:
                if len(transport.arrivals) < MAX_LOG:
                    transport.arrivals.append((buffer[at] << 8 | buffer[at + 1], int(now * 1e6)))
                else:
                    self._drop("arrival_log_full")
        payload_type = second & 0x7F
        if source is None:
            self._on_unbound(transport, ssrc, payload_type, extended)
            return
        track = source.track
        primary = source.primary
        if primary is None:
            if payload_type != track.payload_type:
                self._drop("payload_type")
                return
            sequence = source.stream.receive(sequence_number, timestamp, length, now)
        else:
            if payload_type != track.spec.rtx_payload_type:
                self._drop("payload_type")
                return
            source.stream.receive(sequence_number, timestamp, length, now)
            if start == end:
                self._drop("rtx_padding")
                return
            sequence_number = packets.original_sequence_number(buffer, start, end)
            start += 2
            source = primary
            sequence = source.stream.receive(sequence_number, timestamp, length, now, True)
        if sequence < 0:
            self._drop("duplicate" if sequence == DUPLICATE else "too_old" if sequence == TOO_OLD else "suspicious")
            return
        if source is not track.primary:
            self._drop("replaced_ssrc")
            return
        stream = source.stream
        key_frame = track.video and start < end and track.key_frame_start(buffer, start, end)
        if key_frame or stream.discontinuity or stream.opened or not track.started:
            self._on_turn(track, source, sequence, key_frame, now)
        if track.subscriptions:
            packet = self._packet
            packet.source = stream
            packet.sequence = sequence
            packet.timestamp = timestamp
            packet.marker = second >= 0x80
            packet.newest = sequence == stream.highest or (key_frame and track.holds(sequence))
            packet.key_frame = key_frame
            packet.payload = bytes(incoming.view[start:end])
            if extended:
                self._pass_extensions(packet)
            else:
                packet.extra = 0
                packet.values = _NO_VALUES
            self._forward(track, packet, now)

    def _on_turn(self, track: Track, source: Source, sequence: int, key_frame: bool, now: float) -> None:
        """What does not happen with every packet: the first one, a key frame, a hole, the end of an outage."""
        stream = source.stream
        if stream.opened:
            stream.opened = False
            self._gaps.append(track)
        if not track.started:
            track.started = self._record(FirstPacket(track.id, now))
        if key_frame:
            stream.stats.key_frames += 1
            stream.forget_before(sequence)
            track.key_frame_due = False
        if stream.discontinuity:
            track.held.clear()
            for subscription in track.subscriptions:
                subscription.forward.close()

    def _pass_extensions(self, packet: MediaPacket) -> None:
        buffer = self._in.bytes
        slots = self._slots
        level = slots[packets.AUDIO_LEVEL]
        orientation = slots[packets.VIDEO_ORIENTATION]
        descriptor = slots[packets.DEPENDENCY_DESCRIPTOR]
        if not (level or orientation or descriptor):
            packet.extra = 0
            packet.values = _NO_VALUES
            return
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
        waiting = False
        for subscription in track.subscriptions:
            transport = subscription.transport
            machine = subscription.forward
            waited = machine.waiting
            length = machine.push(out, packet, transport.next_sequence, now)
            if length:
                self._send(transport, length, now, subscription.numbered)
                self.counters.forwarded += 1
                if waited and track.held:
                    self._catch_up(track, subscription, now)
            elif machine.waiting:
                waiting = True
        if waiting:
            track.hold(packet)
            self._want_key_frame(track, now)
        elif track.held:
            track.held.clear()

    def _catch_up(self, track: Track, subscription: Subscription, now: float) -> None:
        """The first packet of a key frame came late and opened this forward: what came before it follows."""
        late = self._packet
        key_frame = (late.sequence, late.timestamp, late.marker, late.extra, late.values, late.payload)
        for held in sorted(track.held.values()):
            if held[0] <= key_frame[0]:
                continue
            late.key_frame = False
            self._load(held)
            transport = subscription.transport
            length = subscription.forward.push(self._out.bytes, late, transport.next_sequence, now)
            if length:
                self._send(transport, length, now, subscription.numbered)
                self.counters.forwarded += 1
        self._load(key_frame)
        late.key_frame = True

    def _load(self, held: Held) -> None:
        packet = self._packet
        packet.sequence, packet.timestamp, packet.marker, packet.extra, packet.values, packet.payload = held
        packet.newest = True

    def _on_unbound(self, transport: Transport, ssrc: int, payload_type: int, extended: bool) -> None:
        transport.authenticated.add(ssrc)
        self._drop("unbound_ssrc")
        slots = self._slots if extended else packets.NO_EXTENSIONS
        buffer = self._in.bytes
        mid = packets.slot_text(buffer, slots[packets.MID])
        rid = packets.slot_text(buffer, slots[packets.RID])
        repaired_rid = packets.slot_text(buffer, slots[packets.REPAIRED_RID])
        ids = (mid, rid, repaired_rid)
        if transport.report_unbound(ssrc, ids) and not self._record(
            UnknownSsrc(transport.id, ssrc, payload_type, *ids)
        ):
            transport.unreport(ssrc, ids)

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
        report = False
        for chunk in rtcp.split(data):
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
            count = self._rtcp_records.get(transport.id, 0)
            if count >= MAX_RTCP_RECORDS:
                self._drop("rtcp_flood")
            else:
                self._rtcp_records[transport.id] = count + 1
                self._record(Rtcp(transport.id, data, now))

    def _on_nack(self, transport: Transport, media_ssrc: int, lost: list[int], now: float) -> None:
        subscription = transport.by_ssrc.get(media_ssrc)
        if subscription is None:
            self._drop("nack_unknown_ssrc")
            return
        machine = subscription.forward
        numbered = subscription.numbered and machine.uses_rtx
        for stored in machine.answer_nack(lost, now, transport.rtt_s):
            length = machine.write_resend(self._out.bytes, stored, transport.next_sequence, now)
            self._send(transport, length, now, numbered)
        if machine.hopeless and subscription.track is not None and subscription.allow_picture_loss(now):
            self._want_key_frame(subscription.track, now)

    def _on_picture_lost(self, transport: Transport, media_ssrc: int, now: float) -> None:
        subscription = transport.by_ssrc.get(media_ssrc)
        if subscription is None or subscription.track is None or not subscription.track.video:
            self._drop("pli_unknown_ssrc")
        elif not subscription.forward.paused:
            if subscription.allow_picture_loss(now):
                self._want_key_frame(subscription.track, now)
            else:
                self._drop("pli_throttled")
