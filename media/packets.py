"""RTP on raw bytes: RFC 3550 headers, RFC 8285 header extensions, RFC 4588 retransmissions.

Parsing returns offsets and integers into the caller's buffer (bytes, bytearray or memoryview) instead of
objects, because it runs on every packet. All lengths are in bytes. Whatever a peer sends, the only error is
`MalformedPacket`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from media.plane import HeaderExtensions

Buffer = bytes | bytearray | memoryview

HEADER_LENGTH: Final = 12
HEADER: Final = struct.Struct("!BBHII")  # V P X CC, M PT, sequence number, timestamp, SSRC
_TWO_U16: Final = struct.Struct("!HH")

ONE_BYTE_PROFILE: Final = 0xBEDE
TWO_BYTE_PROFILE: Final = 0x1000  # the low four bits ("appbits") are free: RFC 8285 section 4.3

# Slots of `read_extensions`: what a found header extension means to the relay.
MID, RID, REPAIRED_RID, TRANSPORT_CC, ABS_SEND_TIME, AUDIO_LEVEL, VIDEO_ORIENTATION, DEPENDENCY_DESCRIPTOR = range(1, 9)
SLOTS: Final = 9
NO_EXTENSIONS: Final = [0] * SLOTS


class MalformedPacket(ValueError):
    """A peer's packet that breaks its format. `reason` is a short stable word, fit for a counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# ---- first bytes (RFC 9443, RFC 5761) ----


# ---- RTP header ----


def locate(packet: Buffer, length: int) -> tuple[int, int, int, int]:
    """Find the parts of the RTP packet in packet[:length] (RFC 3550 section 5.1).

    Returns (extension profile, extension start, payload start, payload end). Profile is 0 and start is
    payload start when there is no header extension. The payload ends before the padding; the extension block
    ends at payload start.
    """
    if length < HEADER_LENGTH:
        raise MalformedPacket("rtp_short")
    first = packet[0]
    if first & 0xC0 != 0x80:
        raise MalformedPacket("rtp_version")
    start = HEADER_LENGTH + (first & 0x0F) * 4
    profile = 0
    extension = start
    if first & 0x10:
        extension = start + 4
        if extension > length:
            raise MalformedPacket("rtp_extension")
        profile, words = _TWO_U16.unpack_from(packet, start)
        start = extension + words * 4
    if start > length:
        raise MalformedPacket("rtp_extension" if profile else "rtp_csrc")
    end = length
    if first & 0x20:
        padding = packet[length - 1]
        end = length - padding
        if padding == 0 or end < start:
            raise MalformedPacket("rtp_padding")
    return profile, (extension if profile else start), start, end


def build_rtp(
    *,
    payload_type: int,
    sequence_number: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    marker: bool = False,
    extensions: Sequence[tuple[int, bytes]] = (),
    padding: int = 0,
) -> bytes:
    """One RTP packet. `extensions` are (id, value) pairs, `padding` is the length of the padding, 0 or
    1–255."""
    block = extension_block(extensions)[0] if extensions else b""
    first = 0x80 | (0x10 if block else 0) | (0x20 if padding else 0)
    header = HEADER.pack(
        first, (0x80 if marker else 0) | payload_type, sequence_number & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc
    )
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    return header + block + payload + tail


# ---- header extensions (RFC 8285) ----


def slot_table(ids: HeaderExtensions) -> bytes:
    """A 256-byte table: extension id → slot number, 0 for ids that were not negotiated."""
    table = bytearray(256)
    for slot, extension_id in (
        (MID, ids.mid),
        (RID, ids.rid),
        (REPAIRED_RID, ids.repaired_rid),
        (TRANSPORT_CC, ids.transport_cc),
        (ABS_SEND_TIME, ids.abs_send_time),
        (AUDIO_LEVEL, ids.audio_level),
        (VIDEO_ORIENTATION, ids.video_orientation),
        (DEPENDENCY_DESCRIPTOR, ids.dependency_descriptor),
    ):
        if 1 <= extension_id <= 255:
            table[extension_id] = slot
    return bytes(table)


def read_extensions(packet: Buffer, profile: int, start: int, end: int, table: bytes, slots: list[int]) -> None:
    """Note where the negotiated elements of an extension block lie: slots[slot] = offset << 8 | length of the
    value.

    `slots` (SLOTS integers, zeroed by the caller) is filled, a repeated element overwrites the earlier one.
    Unknown profiles are passed over, as RFC 3550 section 5.3.1 asks.
    """
    position = start
    if profile == ONE_BYTE_PROFILE:
        while position < end:
            first = packet[position]
            position += 1
            if first == 0:
                continue
            extension_id = first >> 4
            if extension_id == 15 or extension_id == 0:
                return  # RFC 8285 section 4.2: both end the processing of the block
            length = (first & 0x0F) + 1
            if position + length > end:
                raise MalformedPacket("extension_overrun")
            slot = table[extension_id]
            if slot:
                slots[slot] = position << 8 | length
            position += length
    elif profile & 0xFFF0 == TWO_BYTE_PROFILE:
        while position < end:
            extension_id = packet[position]
            position += 1
            if extension_id == 0:
                continue
            if position >= end:
                raise MalformedPacket("extension_overrun")
            length = packet[position]
            position += 1
            if position + length > end:
                raise MalformedPacket("extension_overrun")
            slot = table[extension_id]
            if slot and length:
                slots[slot] = position << 8 | length
            position += length


def extension_elements(packet: Buffer, length: int) -> Iterator[tuple[int, bytes]]:
    """All (id, value) pairs of an RTP packet's header extension, in order. For tests and rare paths."""
    profile, start, end, _ = locate(packet, length)
    if profile == ONE_BYTE_PROFILE or profile & 0xFFF0 == TWO_BYTE_PROFILE:
        position = start
        while position < end:
            one_byte = profile == ONE_BYTE_PROFILE
            extension_id = packet[position] >> 4 if one_byte else packet[position]
            if packet[position] == 0:
                position += 1
                continue
            if one_byte and extension_id in (0, 15):
                return
            width = 1 if one_byte else 2
            if position + width > end:
                raise MalformedPacket("extension_overrun")
            size = (packet[position] & 0x0F) + 1 if one_byte else packet[position + 1]
            if position + width + size > end:
                raise MalformedPacket("extension_overrun")
            yield extension_id, bytes(packet[position + width : position + width + size])
            position += width + size


def extension_block(elements: Sequence[tuple[int, bytes]]) -> tuple[bytes, list[int]]:
    """Write an extension block with its 4-byte header, padded to a word. The two-byte form is taken only when
    an id is above 14 or a value is not 1–16 bytes long. Returns the block and the offset of each value in
    it."""
    one_byte = all(1 <= i <= 14 and 1 <= len(value) <= 16 for i, value in elements)
    body = bytearray()
    offsets = []
    for extension_id, value in elements:
        if not 1 <= extension_id <= 255 or len(value) > 255:
            raise ValueError("extension id or value out of range")
        if one_byte:
            body.append(extension_id << 4 | (len(value) - 1))
        else:
            body += bytes((extension_id, len(value)))
        offsets.append(4 + len(body))
        body += value
    body += bytes(-len(body) % 4)
    profile = ONE_BYTE_PROFILE if one_byte else TWO_BYTE_PROFILE
    return _TWO_U16.pack(profile, len(body) // 4) + bytes(body), offsets


def slot_bytes(packet: Buffer, slot: int) -> bytes:
    """The value behind one filled entry of `read_extensions`."""
    offset = slot >> 8
    return bytes(packet[offset : offset + (slot & 0xFF)])


def slot_text(packet: Buffer, slot: int) -> str | None:
    """The value of a MID or RID element (RFC 8843, RFC 8852: ASCII tokens); None when absent or not a
    token."""
    if not slot:
        return None
    value = slot_bytes(packet, slot)
    return value.decode("ascii") if value.isascii() and value.decode("ascii").isprintable() else None


def transport_sequence(packet: Buffer, slot: int) -> int:
    """The transport-wide sequence number of a filled slot, -1 when absent (the v2 form's request bytes are
    left out)."""
    if slot & 0xFF < 2:
        return -1
    offset = slot >> 8
    return packet[offset] << 8 | packet[offset + 1]


def abs_send_time(now: float) -> int:
    """`now` (seconds) in the 24-bit 6.18 fixed-point format of the abs-send-time extension."""
    return int(now * 262144) & 0xFFFFFF


# ---- retransmissions (RFC 4588) ----


def original_sequence_number(packet: Buffer, payload_start: int, payload_end: int) -> int:
    """The OSN of a retransmission packet: the first two bytes of its payload."""
    if payload_end - payload_start < 2:
        raise MalformedPacket("rtx_short")
    return packet[payload_start] << 8 | packet[payload_start + 1]


# ---- sequence and timestamp arithmetic ----


def extend(reference: int, sequence_number: int) -> int:
    """The extended sequence number nearest to `reference` (extended) whose low 16 bits are
    `sequence_number`."""
    delta = (sequence_number - reference) & 0xFFFF
    return reference + (delta if delta < 0x8000 else delta - 0x10000)


def signed32(difference: int) -> int:
    """A difference of 32-bit timestamps as a signed number, −2³¹ … 2³¹ − 1."""
    difference &= 0xFFFFFFFF
    return difference if difference < 0x80000000 else difference - 0x100000000
