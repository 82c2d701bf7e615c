"""One track on its way to one subscriber: which packets go, with which numbers, and how they are sent again.
Pure.

`Forward.push` is called once per packet and subscriber and writes the rewritten packet into the caller's
buffer. Nothing is decoded and nothing is stored but a tuple per packet: a retransmission is built from it,
not rewritten anew.

Numbers. While a source runs, out = in − offset, so gaps stay gaps and late packets fit in. The offset grows
by one for each padding-only packet that is left out; `_segments` remembers which offset ruled where. When a
source starts, resumes or changes, out = last + 1, and one more is skipped if the last frame was cut off, so
that the receiver sees it is not complete. The first number is in 0–32767: a wrap before the receiver saw a
packet would break SRTP's rollover counter.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

from media.packets import abs_send_time, extend, extension_block, signed32
from media.plane import ForwardSpec, StreamStats

FIRST_SEQUENCE_NUMBERS: Final = 0x8000
_MAX_SEGMENTS: Final = 128
_MAX_RESENDS: Final = 6
_MIN_RESEND_S: Final = 0.01
# Of a round trip. A viewer asks again after one of its own measure; were ours a little longer, its second request would
# count as a double and the picture stand for one more.
_RESEND_AFTER: Final = 0.6
_MAX_STEP_S: Final = 10.0  # a larger jump of a source's timestamps is taken for a new clock
_FRAME_S: Final = {"audio": 0.02, "video": 1 / 30}


class MediaPacket:
    """The packet that is being forwarded; one instance is reused for all.

    source: identity of the received stream; sequence: extended; newest: it is the highest so far, or the start of
    a key frame and all that came behind it follows; payload: without padding, empty for a padding-only packet;
    key_frame: it starts a key frame; extra: 0, or the lengths of the header extension values that pass through:
    audio level | video orientation << 8 | dependency descriptor << 16; values: those three values.
    """

    __slots__ = (
        "extra",
        "key_frame",
        "marker",
        "newest",
        "payload",
        "sequence",
        "source",
        "timestamp",
        "values",
    )

    def __init__(self) -> None:
        self.source: object = None
        self.sequence = 0
        self.timestamp = 0
        self.marker = False
        self.newest = False
        self.key_frame = False
        self.payload = b""
        self.extra = 0
        self.values: tuple[bytes, bytes, bytes] = (b"", b"", b"")


# What a sent packet is built from again: (extended sequence number as sent, marker, timestamp, extra, values,
# transport-wide sequence number, time sent, payload). A plain tuple, because a NamedTuple takes 0.5 µs
# longer to make, per packet.
Stored = tuple[int, bool, int, int, tuple[bytes, bytes, bytes], int, float, bytes]


class _Shape(NamedTuple):
    """The layout of a header for one combination of header extensions."""

    pack_into: Callable[..., None]
    block: bytes
    length: int
    first: int  # the first byte of the header
    transport_cc: int  # offset of the value, 0 = absent
    abs_send_time: int
    passed: tuple[tuple[int, int, int], ...]  # (index in values, offset, end)


class Forward:
    """See the module docstring. `start` is the first sequence number, `rtx_start` that of the RTX stream. ValueError
    when `spec` has a number that no packet can carry.

    `waiting` tells that video stands until a key frame comes: the caller asks for one.
    """

    __slots__ = (
        "_clock_rate_hz",
        "_frame_ticks",
        "_highest",
        "_key_frame_sequence",
        "_last_marker",
        "_last_sequence",
        "_last_timestamp",
        "_live",
        "_marked",
        "_mask",
        "_octets",
        "_offset",
        "_oldest",
        "_packets",
        "_resent",
        "_ring",
        "_rtx_sequence",
        "_segments",
        "_sent_at",
        "_shapes",
        "_source",
        "_ssrc",
        "_timestamp_offset",
        "_unmarked",
        "_video",
        "hopeless",
        "paused",
        "spec",
        "stats",
        "waiting",
    )

    def __init__(self, spec: ForwardSpec, *, video: bool, clock_rate_hz: int, start: int, rtx_start: int) -> None:
        self.spec = spec
        self._ssrc = spec.ssrc
        self._unmarked = spec.payload_type
        self._marked = 0x80 | spec.payload_type
        self.stats = StreamStats()
        self.paused = False
        self.waiting = video
        self.hopeless = False
        self._video = video
        self._clock_rate_hz = clock_rate_hz
        self._frame_ticks = round(_FRAME_S["video" if video else "audio"] * clock_rate_hz)
        self._live: object = None  # the source whose packets pass; None = closed
        self._source: object = None  # the source that the numbers belong to
        self._highest = -1
        self._offset = 0
        self._segments: list[tuple[int, int]] = []
        self._timestamp_offset = 0
        self._last_sequence = start - 1
        self._last_timestamp = 0
        self._last_marker = True
        self._sent_at = -1.0  # before the first packet
        self._key_frame_sequence = -1
        self._rtx_sequence = rtx_start
        self._packets = 0
        self._octets = 0
        size = 1 << max(0, spec.history_packets - 1).bit_length()
        self._mask = size - 1
        self._ring: list[Stored | None] = [None] * size
        self._oldest = start  # what lies before it is not in the ring
        self._resent: dict[int, tuple[float, int]] = {}
        self._shapes: dict[int, _Shape] = {}
        # What is wrong with the specification shows here and not with the first packet.
        self._shape(0)
        self._shape(0x010101)
        for payload_type in (spec.payload_type, spec.rtx_payload_type or 0):
            if not 0 <= payload_type <= 127:
                raise ValueError(f"payload type {payload_type} is out of range")
        for ssrc in (spec.ssrc, spec.rtx_ssrc or 0):
            if not 0 <= ssrc <= 0xFFFFFFFF:
                raise ValueError(f"SSRC {ssrc} is out of range")

    # ---- sending ----

    def push(self, out: bytearray, packet: MediaPacket, transport_sequence: int, now: float) -> int:
        """Write `packet` for the subscriber into `out` and return its length, or 0 when it is not to be
        sent."""
        if packet.source is not self._live and not self._open(packet, now):
            return 0
        sequence = packet.sequence
        payload = packet.payload
        timestamp = (packet.timestamp - self._timestamp_offset) & 0xFFFFFFFF
        marker = packet.marker
        if sequence > self._highest:
            if not payload:
                self._leave_out(sequence)
                return 0
            self._highest = sequence
            sequence -= self._offset
            self._last_sequence = sequence
            self._last_timestamp = timestamp
            self._last_marker = marker
            self._sent_at = now
            if packet.key_frame:
                self._key_frame_sequence = sequence
                self.stats.key_frames += 1
        else:
            # Late. Padding is sent as such, because its number was already kept free for it.
            index = bisect_right(self._segments, (sequence, 1 << 62)) - 1
            if index < 0:
                return 0
            sequence -= self._segments[index][1]
        stored = (
            sequence,
            marker,
            timestamp,
            packet.extra,
            packet.values,
            transport_sequence,
            now,
            payload,
        )
        self._ring[sequence & self._mask] = stored
        self._packets += 1
        self._octets += len(payload)
        return self._write(out, stored, transport_sequence, now)

    def _leave_out(self, sequence: int) -> None:
        self._offset += 1
        self._highest = sequence
        self._segments.append((sequence + 1, self._offset))
        if len(self._segments) > _MAX_SEGMENTS:
            del self._segments[0]

    def _open(self, packet: MediaPacket, now: float) -> bool:
        """Start with this packet, if it is one to start with."""
        if self.paused or not packet.newest or not packet.payload:
            return False
        if self._video and not packet.key_frame:
            self.waiting = True
            return False
        sequence = packet.sequence
        first = self._last_sequence + (1 if self._last_marker or not self._video else 2)
        # What is late from before belongs to numbers that were closed up: it has no place any more.
        self._segments.clear()
        self._offset = sequence - first
        self._segments.append((sequence, self._offset))
        if self._sent_at >= 0:
            elapsed = now - self._sent_at
            step = signed32(packet.timestamp - self._timestamp_offset - self._last_timestamp)
            if packet.source is not self._source or not 0 < step < (elapsed + _MAX_STEP_S) * self._clock_rate_hz:
                step = max(self._frame_ticks, round(elapsed * self._clock_rate_hz))
                self._timestamp_offset = packet.timestamp - self._last_timestamp - step
        self._source = self._live = packet.source
        self._highest = sequence - 1
        self.waiting = False
        return True

    def close(self) -> None:
        """Let nothing pass until a packet comes to start with: the source changed or broke off."""
        self._live = None
        self.waiting = self._video and not self.paused

    def set_paused(self, paused: bool) -> None:
        self.paused = paused
        self.close()

    # ---- sending again ----

    def answer_nack(self, lost: list[int], now: float, rtt_s: float) -> list[Stored]:
        """The packets to send again for a NACK of `lost` (16-bit numbers). Left out: unknown ones, those
        before the latest key frame, those sent again about a round trip ago or six times already. Sets
        `hopeless`: whether video lacks one that cannot be sent any more."""
        self.stats.nacks += 1
        self.hopeless = False
        answer = []
        last = self._last_sequence
        pause = max(_RESEND_AFTER * rtt_s, _MIN_RESEND_S)
        for sequence_number in lost:
            sequence = extend(last, sequence_number)
            stored = self._ring[sequence & self._mask]
            if sequence < self._key_frame_sequence:
                continue
            if stored is None or stored[0] != sequence:
                # A number that nothing was sent with yet may still come; one that was forgotten not.
                if sequence < max(self._oldest, last - self._mask):
                    self.hopeless = self._video
                continue
            resent_at, count = self._resent.get(sequence, (-1e9, 0))
            if count >= _MAX_RESENDS or now - resent_at < pause:
                continue
            self._resent[sequence] = (now, count + 1)
            answer.append(stored)
        if len(self._resent) > 2 * self._mask:
            oldest = last - self._mask
            self._resent = {s: v for s, v in self._resent.items() if s >= oldest}
        return answer

    def write_resend(self, out: bytearray, stored: Stored, transport_sequence: int, now: float) -> int:
        """Write a packet of `answer_nack` into `out`: as RTX (RFC 4588), or exactly as it was the first time,
        header extensions included. SRTP needs that: with the same number and key, AES-GCM must never see
        other bytes."""
        self.stats.retransmitted += 1
        spec = self.spec
        if spec.rtx_ssrc is None or spec.rtx_payload_type is None:
            return self._write(out, stored, stored[5], stored[6])
        self._write(out, stored, transport_sequence, now)
        sequence, marker, _, extra, _, _, _, payload = stored
        start = self._shape(extra).length
        out[0] &= 0xDF
        out[1] = (0x80 if marker else 0) | spec.rtx_payload_type
        out[2:4] = (self._rtx_sequence & 0xFFFF).to_bytes(2, "big")
        out[8:12] = spec.rtx_ssrc.to_bytes(4, "big")
        out[start : start + 2] = (sequence & 0xFFFF).to_bytes(2, "big")
        end = start + 2 + len(payload)
        out[start + 2 : end] = payload
        self._rtx_sequence += 1
        return end

    def forget_sent_before(self, time: float) -> None:
        """Let go of packets that nobody will ask for any more, so that a forward takes memory for its last second or
        so and not for a number of packets, which for a paused one would be for ever."""
        ring = self._ring
        mask = self._mask
        last = self._last_sequence
        sequence = max(self._oldest, last - mask)
        while sequence <= last:
            stored = ring[sequence & mask]
            if stored is not None and stored[0] == sequence:
                if stored[6] >= time:
                    break
                ring[sequence & mask] = None
            sequence += 1
        self._oldest = sequence

    @property
    def uses_rtx(self) -> bool:
        return self.spec.rtx_ssrc is not None and self.spec.rtx_payload_type is not None

    # ---- headers ----

    def _write(self, out: bytearray, stored: Stored, transport_sequence: int, now: float) -> int:
        sequence, marker, timestamp, extra, values, _, _, payload = stored
        pack_into, block, start, first, number_at, time_at, passed = self._shapes.get(extra) or self._shape(extra)
        pack_into(
            out,
            0,
            first,
            self._marked if marker else self._unmarked,
            sequence & 0xFFFF,
            timestamp,
            self._ssrc,
            block,
        )
        if number_at:
            out[number_at] = transport_sequence >> 8
            out[number_at + 1] = transport_sequence & 0xFF
        if time_at:
            out[time_at : time_at + 3] = abs_send_time(now).to_bytes(3, "big")
        if passed:
            for index, at, end in passed:
                out[at:end] = values[index]
        if not payload:
            out[0] |= 0x20
            out[start] = 1
            return start + 1
        end = start + len(payload)
        out[start:end] = payload
        return end

    def _shape(self, extra: int) -> _Shape:
        shape = self._shapes.get(extra)
        if shape is None:
            shape = self._shapes[extra] = self._make_shape(extra)
        return shape

    def _make_shape(self, extra: int) -> _Shape:
        ids = self.spec.extensions
        elements: list[tuple[int, bytes]] = []
        roles: list[int] = []
        if ids.mid:
            elements.append((ids.mid, self.spec.mid.encode()))
            roles.append(-1)
        if ids.transport_cc:
            elements.append((ids.transport_cc, bytes(2)))
            roles.append(-2)
        if ids.abs_send_time:
            elements.append((ids.abs_send_time, bytes(3)))
            roles.append(-3)
        for index, extension_id in enumerate((ids.audio_level, ids.video_orientation, ids.dependency_descriptor)):
            length = extra >> (8 * index) & 0xFF
            if extension_id and length:
                elements.append((extension_id, bytes(length)))
                roles.append(index)
        if not elements:
            packer = struct.Struct("!BBHII0s")
            return _Shape(packer.pack_into, b"", 12, 0x80, 0, 0, ())
        block, offsets = extension_block(elements)
        at = {role: 12 + offset for role, offset in zip(roles, offsets, strict=True)}
        passed = tuple((i, at[i], at[i] + (extra >> (8 * i) & 0xFF)) for i in range(3) if i in at)
        packer = struct.Struct(f"!BBHII{len(block)}s")
        return _Shape(packer.pack_into, block, 12 + len(block), 0x90, at.get(-2, 0), at.get(-3, 0), passed)

    # ---- what the control plane asks ----

    def map_timestamp(self, source: object, timestamp: int) -> int | None:
        """A timestamp of `source` as the subscriber sees it; None while nothing of that source was sent."""
        if self._source is None or source is not self._source:
            return None
        return (timestamp - self._timestamp_offset) & 0xFFFFFFFF

    @property
    def next_sequence(self) -> int:
        """Where a new forward with the same SSRC and keys must go on."""
        return self._last_sequence + 2

    @property
    def next_rtx_sequence(self) -> int:
        return self._rtx_sequence

    @property
    def octets(self) -> int:
        """Payload bytes sent, as a sender report counts them."""
        return self._octets

    def snapshot(self) -> StreamStats:
        """The statistics, brought up to date; `bytes` are payload bytes."""
        stats = self.stats
        stats.packets = self._packets
        stats.bytes = self._octets
        stats.highest_sequence = max(0, self._last_sequence)
        stats.last_rtp_timestamp = self._last_timestamp
        stats.last_packet_at = max(0.0, self._sent_at)
        return stats
