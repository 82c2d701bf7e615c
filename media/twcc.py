"""Transport-wide congestion control feedback: RTPFB format 15 of
draft-holmer-rmcat-transport-wide-cc-extensions-01.

A feedback packet says of each transport-wide sequence number from a base on whether and when it came. Arrival
times are µs of the receiver's clock, on the wire 250 µs ticks after a reference in units of 64 ms (24 bits,
so it wraps after 12.4 days).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from media.packets import Buffer, MalformedPacket
from media.rtcp import RTPFB, TRANSPORT_CC_FORMAT, Chunk

TICK_US: Final = 250
REFERENCE_US: Final = 64_000
_REFERENCE_WRAP: Final = 1 << 24
MAX_PACKETS: Final = 0xFFFF
_HEAD: Final = struct.Struct("!BBHIIHHI")  # RTCP header, two SSRCs, base, count, reference time << 8 | feedback count

_NOT_RECEIVED, _SMALL, _LARGE = 0, 1, 2


class Feedback(NamedTuple):
    """One parsed feedback packet."""

    sender_ssrc: int
    media_ssrc: int
    feedback_count: int  # 8 bits, one more in every packet
    reference_us: int  # the reference time, 64 ms × 24 bits
    # (16-bit transport-wide sequence number, arrival in µs relative to the reference time's zero; None = not
    # received)
    packets: list[tuple[int, int | None]]


def build(
    sender_ssrc: int, media_ssrc: int, feedback_count: int, arrivals: Sequence[tuple[int, int]]
) -> tuple[bytes, int]:
    """Write one feedback packet for `arrivals`: (extended sequence number, arrival µs), ascending, no number
    twice.

    Arrival times are rounded to 250 µs. A packet ends early where a time step does not fit 16 signed bits (±
    8.19 s) or the numbers span more than 65,535. Returns the packet and how many of the arrivals are in it;
    call again with the rest.
    """
    if not arrivals:
        raise ValueError("no arrivals to report")
    base = arrivals[0][0]
    reference = arrivals[0][1] // REFERENCE_US
    ticks = reference * (REFERENCE_US // TICK_US)
    symbols: list[int] = []
    deltas = bytearray()
    used = 0
    for sequence_number, arrival_us in arrivals:
        at = (arrival_us + TICK_US // 2) // TICK_US
        delta = at - ticks
        missing = sequence_number - base - len(symbols)
        if missing < 0:
            raise ValueError("arrivals are not in ascending order")
        if not -0x8000 <= delta <= 0x7FFF or len(symbols) + missing + 1 > MAX_PACKETS:
            break
        symbols.extend([_NOT_RECEIVED] * missing)
        if 0 <= delta <= 0xFF:
            symbols.append(_SMALL)
            deltas.append(delta)
        else:
            symbols.append(_LARGE)
            deltas += (delta & 0xFFFF).to_bytes(2, "big")
        ticks = at
        used += 1
    chunks = _encode_chunks(symbols)
    body = chunks + deltas
    padding = -len(body) % 4
    words = (_HEAD.size + len(body) + padding) // 4 - 1
    head = _HEAD.pack(
        0x80 | (0x20 if padding else 0) | TRANSPORT_CC_FORMAT,
        RTPFB,
        words,
        sender_ssrc,
        media_ssrc,
        base & 0xFFFF,
        len(symbols),
        (reference % _REFERENCE_WRAP) << 8 | (feedback_count & 0xFF),
    )
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    return head + bytes(body) + tail, used


def _encode_chunks(symbols: Sequence[int]) -> bytes:
    out = bytearray()
    position = 0
    total = len(symbols)
    while position < total:
        symbol = symbols[position]
        run = position + 1
        while run < total and run - position < 0x1FFF and symbols[run] == symbol:
            run += 1
        run -= position
        # A run of less than a vector's worth is cheaper as a vector, unless it is all that is left.
        if run >= 14 or (run >= 7 and symbol == _LARGE) or run == total - position:
            out += (symbol << 13 | run).to_bytes(2, "big")
            position += run
            continue
        ahead = symbols[position : position + 14]
        if _LARGE not in ahead:
            word = 0x8000
            for i, s in enumerate(ahead):
                word |= s << (13 - i)
            position += len(ahead)
        else:
            ahead = ahead[:7]
            word = 0xC000
            for i, s in enumerate(ahead):
                word |= s << (12 - 2 * i)
            position += len(ahead)
        out += word.to_bytes(2, "big")
    return bytes(out)


def parse(data: Buffer, chunk: Chunk) -> Feedback:
    """Read the feedback packet that `media.rtcp.split` found at `chunk`. Its padding is gone already."""
    end = chunk.end
    if end - chunk.start < _HEAD.size:
        raise MalformedPacket("twcc_short")
    _, _, _, sender_ssrc, media_ssrc, base, count, tail = _HEAD.unpack_from(data, chunk.start)
    position = chunk.start + _HEAD.size
    symbols: list[int] = []
    while len(symbols) < count:
        if position + 2 > end:
            raise MalformedPacket("twcc_chunks")
        word = data[position] << 8 | data[position + 1]
        position += 2
        if not word & 0x8000:
            symbols.extend([word >> 13 & 3] * min(word & 0x1FFF, count - len(symbols)))
            if not word & 0x1FFF:
                raise MalformedPacket("twcc_empty_run")
        elif not word & 0x4000:
            symbols.extend([word >> shift & 1 for shift in range(13, -1, -1)])
        else:
            symbols.extend([word >> shift & 3 for shift in range(12, -1, -2)])
    reference = tail >> 8
    ticks = reference * (REFERENCE_US // TICK_US)
    packets: list[tuple[int, int | None]] = []
    for index in range(count):
        symbol = symbols[index]
        sequence_number = (base + index) & 0xFFFF
        if symbol == _NOT_RECEIVED:
            packets.append((sequence_number, None))
            continue
        if symbol == _SMALL:
            if position >= end:
                raise MalformedPacket("twcc_deltas")
            ticks += data[position]
            position += 1
        elif symbol == _LARGE:
            if position + 2 > end:
                raise MalformedPacket("twcc_deltas")
            delta = data[position] << 8 | data[position + 1]
            ticks += delta if delta < 0x8000 else delta - 0x10000
            position += 2
        else:
            raise MalformedPacket("twcc_symbol")
        packets.append((sequence_number, ticks * TICK_US))
    return Feedback(sender_ssrc, media_ssrc, tail & 0xFF, reference * REFERENCE_US, packets)


def unwrap_reference(previous_us: int, reference_us: int) -> int:
    """The reference time nearest to `previous_us` (unwrapped) among those equal to `reference_us` modulo the
    24-bit wrap. Add its difference to `Feedback.reference_us` to the arrival times of that packet."""
    period = _REFERENCE_WRAP * REFERENCE_US
    return reference_us + round((previous_us - reference_us) / period) * period
