"""RTCP on raw bytes: compounds, sender and receiver reports, SDES (RFC 3550 section 6), NACK and PLI
(RFC 4585), FIR (RFC 5104).

`split` validates a compound once; the `parse_*` functions then read one of its packets. Whatever a peer
sends, the only error is `MalformedPacket`. transport-cc feedback has its own module, media/twcc.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from media.packets import Buffer, MalformedPacket, signed32

SR: Final = 200
RR: Final = 201
SDES: Final = 202
RTPFB: Final = 205
PSFB: Final = 206
NACK_FORMAT: Final = 1  # RTPFB, RFC 4585 section 6.2.1
TRANSPORT_CC_FORMAT: Final = 15  # RTPFB
PLI_FORMAT: Final = 1  # PSFB, RFC 4585 section 6.3.1
FIR_FORMAT: Final = 4  # PSFB, RFC 5104 section 4.3.1

_HEADER: Final = struct.Struct("!BBH")
_SENDER_INFO: Final = struct.Struct("!IQIII")  # SSRC, NTP, RTP timestamp, packets, octets
_TWO_SSRCS: Final = struct.Struct("!II")
_U32: Final = struct.Struct("!I")
_NACK_PAIR: Final = struct.Struct("!HH")
_FIR_ENTRY: Final = struct.Struct("!IB3x")
_BLOCK: Final = struct.Struct("!IIIIII")


class Chunk(NamedTuple):
    """One RTCP packet of a compound: data[start:end] with its 4-byte header and without its padding."""

    packet_type: int
    subtype: int  # the five bits of the header: report count, source count or feedback format
    start: int
    end: int


def split(data: Buffer) -> list[Chunk]:
    """Take a compound apart. Every byte must belong to a packet; only the last one may be padded (RFC 3550
    A.2)."""
    chunks = []
    length = len(data)
    if length < 4:
        raise MalformedPacket("rtcp_short")
    position = 0
    while position < length:
        if length - position < 4:
            raise MalformedPacket("rtcp_length")
        first, packet_type, words = _HEADER.unpack_from(data, position)
        if first & 0xC0 != 0x80:
            raise MalformedPacket("rtcp_version")
        end = position + (words + 1) * 4
        if end > length:
            raise MalformedPacket("rtcp_length")
        content_end = end
        if first & 0x20:
            if end != length:
                raise MalformedPacket("rtcp_padding")
            padding = data[end - 1]
            content_end = end - padding
            # Not always whole words: libwebrtc pads transport-cc feedback by one to three bytes.
            if padding == 0 or content_end < position + 4:
                raise MalformedPacket("rtcp_padding")
        chunks.append(Chunk(packet_type, first & 0x1F, position, content_end))
        position = end
    return chunks


def _packet(packet_type: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, packet_type, len(body) // 4) + body


def _require(chunk: Chunk, body_length: int) -> None:
    if chunk.end - chunk.start - 4 < body_length:
        raise MalformedPacket("rtcp_truncated")


# ---- reports ----


class ReportBlock(NamedTuple):
    """What a receiver says of one SSRC (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int  # of 256
    packets_lost: int  # cumulative, signed 24 bits
    highest_sequence: int  # extended
    jitter: int  # RTP clock units
    lsr: int  # middle 32 bits of the last SR's NTP timestamp, 0 = none came
    dlsr: int  # 1/65536 s since that SR


class SenderInfo(NamedTuple):
    """The sender's part of an SR: the same instant as 64-bit NTP and as RTP timestamp, and its totals."""

    ssrc: int
    ntp: int
    rtp: int
    packets: int
    octets: int


def parse_sender_report(data: Buffer, chunk: Chunk) -> SenderInfo:
    _require(chunk, 24)
    return SenderInfo(*_SENDER_INFO.unpack_from(data, chunk.start + 4))


def parse_report_blocks(data: Buffer, chunk: Chunk) -> list[ReportBlock]:
    """The report blocks of an SR or RR. Profile-specific extensions behind them are passed over."""
    first = chunk.start + (28 if chunk.packet_type == SR else 8)
    if first + chunk.subtype * 24 > chunk.end:
        raise MalformedPacket("rtcp_truncated")
    blocks = []
    for position in range(first, first + chunk.subtype * 24, 24):
        ssrc, lost, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(data, position)
        cumulative = signed32(lost << 8) >> 8
        blocks.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, lsr, dlsr))
    return blocks


def _blocks(blocks: Iterable[ReportBlock]) -> bytes:
    out = bytearray()
    for b in blocks:
        # RFC 3550 section 6.4.1: the cumulative loss is clamped, it never wraps
        lost = max(-0x800000, min(0x7FFFFF, b.packets_lost)) & 0xFFFFFF
        out += _BLOCK.pack(
            b.ssrc,
            (b.fraction_lost & 0xFF) << 24 | lost,
            b.highest_sequence & 0xFFFFFFFF,
            b.jitter & 0xFFFFFFFF,
            b.lsr,
            b.dlsr & 0xFFFFFFFF,
        )
    return bytes(out)


def build_sender_report(info: SenderInfo, blocks: Sequence[ReportBlock] = ()) -> bytes:
    """An SR with up to 31 report blocks."""
    body = _SENDER_INFO.pack(
        info.ssrc, info.ntp, info.rtp & 0xFFFFFFFF, info.packets & 0xFFFFFFFF, info.octets & 0xFFFFFFFF
    )
    return _packet(SR, len(blocks), body + _blocks(blocks))


def build_receiver_report(ssrc: int, blocks: Sequence[ReportBlock] = ()) -> bytes:
    """An RR with up to 31 report blocks. Without blocks it is what a compound must start with at least."""
    return _packet(RR, len(blocks), _U32.pack(ssrc) + _blocks(blocks))


# ---- SDES ----


def build_sdes(ssrc: int, cname: str) -> bytes:
    """An SDES packet with one CNAME of at most 255 bytes (RFC 3550 section 6.5)."""
    name = cname.encode()
    if len(name) > 255:
        raise ValueError("cname is longer than 255 bytes")
    item = _U32.pack(ssrc) + bytes((1, len(name))) + name + b"\0"
    return _packet(SDES, 1, item + bytes(-len(item) % 4))


# ---- feedback ----


def feedback_ssrcs(data: Buffer, chunk: Chunk) -> tuple[int, int]:
    """(SSRC of the sender, SSRC of the media source) of an RTPFB or PSFB packet."""
    _require(chunk, 8)
    sender, media = _TWO_SSRCS.unpack_from(data, chunk.start + 4)
    return sender, media


def parse_nack(data: Buffer, chunk: Chunk) -> list[int]:
    """The lost sequence numbers of a generic NACK, in the order they were named."""
    _require(chunk, 8)
    if (chunk.end - chunk.start - 12) % 4:
        raise MalformedPacket("rtcp_truncated")
    lost = []
    for position in range(chunk.start + 12, chunk.end, 4):
        first, following = _NACK_PAIR.unpack_from(data, position)
        lost.append(first)
        while following:
            bit = following & -following
            lost.append((first + bit.bit_length()) & 0xFFFF)
            following ^= bit
    return lost


def build_nack(sender_ssrc: int, media_ssrc: int, lost: Sequence[int]) -> bytes:
    """A generic NACK. `lost` is in ascending order (modulo 2¹⁶); up to 17 numbers share one entry."""
    body = bytearray(_TWO_SSRCS.pack(sender_ssrc, media_ssrc))
    first = -1
    following = 0
    for sequence_number in lost:
        distance = (sequence_number - first) & 0xFFFF
        if first >= 0 and 1 <= distance <= 16:
            following |= 1 << (distance - 1)
        elif first != sequence_number:
            if first >= 0:
                body += _NACK_PAIR.pack(first, following)
            first, following = sequence_number, 0
    if first >= 0:
        body += _NACK_PAIR.pack(first, following)
    return _packet(RTPFB, NACK_FORMAT, bytes(body))


def build_pli(sender_ssrc: int, media_ssrc: int) -> bytes:
    """Picture loss indication: please send a key frame."""
    return _packet(PSFB, PLI_FORMAT, _TWO_SSRCS.pack(sender_ssrc, media_ssrc))


def build_fir(sender_ssrc: int, media_ssrc: int, command: int) -> bytes:
    """Full intra request; `command` is the 8-bit number that grows with every new request."""
    return _packet(PSFB, FIR_FORMAT, _TWO_SSRCS.pack(sender_ssrc, 0) + _FIR_ENTRY.pack(media_ssrc, command & 0xFF))


def parse_fir(data: Buffer, chunk: Chunk) -> list[tuple[int, int]]:
    """(media SSRC, command number) of each entry."""
    _require(chunk, 8)
    if (chunk.end - chunk.start - 12) % 8:
        raise MalformedPacket("rtcp_truncated")
    return [_FIR_ENTRY.unpack_from(data, at) for at in range(chunk.start + 12, chunk.end, 8)]
