"""What the relay may read of a payload: where frames start and which ones are key frames.

Only the RTP payload descriptor and the first bytes of a frame are looked at; they stay clear under end-to-end
encryption (docs/media.md). Errors: `MalformedPacket`.
"""

from __future__ import annotations

from typing import NamedTuple

from media.packets import Buffer, MalformedPacket


class Vp8Descriptor(NamedTuple):
    """A VP8 payload descriptor (RFC 7741 section 4.2). Absent fields are -1."""

    length: int  # of the descriptor, bytes
    start_of_frame: bool  # S = 1 and partition 0
    key_frame: bool  # the P bit of the VP8 payload header; only meaningful at the start of a frame
    picture_id: int
    picture_id_bits: int  # 7, 15, or 0 when absent
    tl0picidx: int
    temporal_id: int
    layer_sync: bool  # the Y bit
    key_index: int
    picture_id_offset: int  # offsets from the payload's start, for rewriting
    tl0picidx_offset: int


def parse_vp8(packet: Buffer, start: int, end: int) -> Vp8Descriptor:
    """Read the descriptor of the VP8 payload in packet[start:end]."""
    if start >= end:
        raise MalformedPacket("vp8_short")
    first = packet[start]
    position = start + 1
    picture_id = tl0picidx = temporal_id = key_index = picture_id_offset = tl0picidx_offset = -1
    picture_id_bits = 0
    layer_sync = False
    if first & 0x80:
        if position >= end:
            raise MalformedPacket("vp8_short")
        flags = packet[position]
        position += 1
        if flags & 0x80:
            if position >= end:
                raise MalformedPacket("vp8_short")
            picture_id_offset = position - start
            picture_id = packet[position]
            position += 1
            picture_id_bits = 7
            if picture_id & 0x80:
                if position >= end:
                    raise MalformedPacket("vp8_short")
                picture_id = (picture_id & 0x7F) << 8 | packet[position]
                position += 1
                picture_id_bits = 15
        if flags & 0x40:
            if position >= end:
                raise MalformedPacket("vp8_short")
            tl0picidx_offset = position - start
            tl0picidx = packet[position]
            position += 1
        if flags & 0x30:
            if position >= end:
                raise MalformedPacket("vp8_short")
            value = packet[position]
            position += 1
            if flags & 0x20:
                temporal_id = value >> 6
                layer_sync = bool(value & 0x20)
            if flags & 0x10:
                key_index = value & 0x1F
    start_of_frame = first & 0x17 == 0x10
    if start_of_frame and position >= end:
        raise MalformedPacket("vp8_short")
    key_frame = start_of_frame and not packet[position] & 0x01
    return Vp8Descriptor(
        position - start,
        start_of_frame,
        key_frame,
        picture_id,
        picture_id_bits,
        tl0picidx,
        temporal_id,
        layer_sync,
        key_index,
        picture_id_offset,
        tl0picidx_offset,
    )


def vp8_key_frame_start(packet: Buffer, start: int, end: int) -> bool:
    """Whether this payload is the first one of a VP8 key frame: `parse_vp8` without the rest, for every
    packet."""
    if start >= end:
        raise MalformedPacket("vp8_short")
    first = packet[start]
    if first & 0x17 != 0x10:
        return False
    position = start + 1
    if first & 0x80:
        if position >= end:
            raise MalformedPacket("vp8_short")
        flags = packet[position]
        position += 1
        if flags & 0x80:
            if position >= end:
                raise MalformedPacket("vp8_short")
            position += 2 if packet[position] & 0x80 else 1
        if flags & 0x40:
            position += 1
        if flags & 0x30:
            position += 1
    if position >= end:
        raise MalformedPacket("vp8_short")
    return not packet[position] & 0x01


def vp9_key_frame_start(packet: Buffer, start: int, end: int) -> bool:
    """RFC 9628 section 4.2: B is set, P is not, and the spatial layer (if told) is the lowest."""
    if start >= end:
        raise MalformedPacket("vp9_short")
    first = packet[start]
    if first & 0x48 != 0x08:
        return False
    if not first & 0x20:  # no layer indices: one spatial layer
        return True
    position = start + 1
    if first & 0x80:
        if position >= end:
            raise MalformedPacket("vp9_short")
        position += 2 if packet[position] & 0x80 else 1
    if position >= end:
        raise MalformedPacket("vp9_short")
    return packet[position] & 0x0E == 0


def h264_key_frame_start(packet: Buffer, start: int, end: int) -> bool:
    """RFC 6184: a sequence parameter set, or the start of an IDR picture, alone, aggregated (STAP-A) or
    fragmented (FU-A)."""
    if start >= end:
        raise MalformedPacket("h264_short")
    kind = packet[start] & 0x1F
    if kind == 24:
        position = start + 1
        while position < end:
            if position + 3 > end:
                raise MalformedPacket("h264_short")
            size = packet[position] << 8 | packet[position + 1]
            position += 2
            if size == 0 or position + size > end:
                raise MalformedPacket("h264_short")
            if packet[position] & 0x1F in (5, 7):
                return True
            position += size
        return False
    if kind == 28:
        if start + 2 > end:
            raise MalformedPacket("h264_short")
        return packet[start + 1] & 0x9F in (0x85, 0x87)
    return kind in (5, 7)


def no_key_frames(packet: Buffer, start: int, end: int) -> bool:
    """For audio: every packet stands alone, nothing waits for a key frame."""
    return False


KEY_FRAME_START = {
    "VP8": vp8_key_frame_start,
    "VP9": vp9_key_frame_start,
    "H264": h264_key_frame_start,
    "opus": no_key_frames,
}
