"""transport-cc feedback: what is built is what is parsed, down to the tick."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media import rtcp, twcc
from media.packets import MalformedPacket


def parse(data: bytes) -> twcc.Feedback:
    (chunk,) = rtcp.split(data)
    assert (chunk.packet_type, chunk.subtype) == (rtcp.RTPFB, rtcp.TRANSPORT_CC_FORMAT)
    return twcc.parse(data, chunk)


def ticks(arrival_us: int) -> int:
    return (arrival_us + 125) // 250 * 250


@st.composite
def arrival_logs(draw: st.DrawFn) -> list[tuple[int, int]]:
    number = draw(st.integers(0, 1 << 20))
    at = draw(st.integers(0, 1 << 42))
    log = []
    for gap, step in draw(
        st.lists(
            st.tuples(
                st.one_of(st.just(1), st.just(1), st.integers(1, 40), st.integers(1, 20_000)),
                st.one_of(st.integers(0, 64_000), st.integers(-300_000, 300_000), st.integers(-(1 << 24), 1 << 24)),
            ),
            min_size=1,
            max_size=80,
        )
    ):
        log.append((number, at))
        number += gap
        at = max(0, at + step)
    return log


@settings(deadline=None)
@given(arrival_logs(), st.integers(0, 255))
@example([(0, 0)] * 1, 255)
@example([(65_535, (1 << 24) * 64_000 - 1), (65_536, (1 << 24) * 64_000 + 5)], 0)
@example([(n, n * 1000) for n in range(9000)], 1)
def test_round_trip(log: list[tuple[int, int]], count: int) -> None:
    rest = log
    while rest:
        data, used = twcc.build(1, 2, count, rest)
        assert used >= 1
        feedback = parse(data)
        assert feedback[:3] == (1, 2, count)
        base, first_us = rest[0]
        previous = first_us - first_us % twcc.REFERENCE_US
        offset = twcc.unwrap_reference(first_us, feedback.reference_us) - feedback.reference_us
        assert feedback.reference_us + offset == previous
        got = {base + i: at + offset for i, (_, at) in enumerate(feedback.packets) if at is not None}
        assert got == {number: ticks(at) for number, at in rest[:used]}
        assert [n for n, _ in feedback.packets] == [(base + i) & 0xFFFF for i in range(rest[used - 1][0] - base + 1)]
        rest = rest[used:]


def test_an_example_of_another_implementation() -> None:
    """A packet as libwebrtc writes it: run length chunk, one-bit and two-bit vectors, worked out by hand from
    the draft."""
    body = (
        (5).to_bytes(2, "big")  # base
        + (10).to_bytes(2, "big")  # packets
        + (3 << 8 | 9).to_bytes(4, "big")  # reference 3 × 64 ms, count 9
        + bytes((0b0010_0000, 0b0000_0011))  # run: three small deltas
        + bytes((0b1101_1000, 0b1001_0000))  # two-bit vector: 01 10 00 10 01 00 00
        + bytes((4, 8, 12))
        + bytes((1,))
        + (0xFFFC).to_bytes(2, "big")
        + (0x0100).to_bytes(2, "big")
        + bytes((2,))
    )
    body += bytes(-len(body) % 4)
    data = b"\x8f\xcd" + ((8 + len(body)) // 4).to_bytes(2, "big") + bytes(4) + bytes(4) + body
    base = 192_000
    feedback = parse(data)
    assert feedback.feedback_count == 9
    assert feedback.packets == [
        (5, base + 1000),
        (6, base + 3000),
        (7, base + 6000),
        (8, base + 6250),
        (9, base + 5250),
        (10, None),
        (11, base + 69_250),
        (12, base + 69_750),
        (13, None),
        (14, None),
    ]


def test_a_steady_stream_is_small() -> None:
    data, used = twcc.build(1, 2, 0, [(n, n * 2000) for n in range(500)])
    assert used == 500
    assert len(data) == 20 + 2 + 500 + 2  # header, one run, a delta each, padding


def test_a_step_that_does_not_fit_starts_a_new_packet() -> None:
    log = [(1, 0), (2, 8_191_750), (3, 16_383_750)]
    _, used = twcc.build(1, 2, 0, log)
    assert used == 2
    _, used = twcc.build(1, 2, 0, [(1, 0), (70_000, 10)])
    assert used == 1


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="no arrivals"):
        twcc.build(1, 2, 0, [])
    with pytest.raises(ValueError, match="ascending"):
        twcc.build(1, 2, 0, [(2, 0), (1, 0)])
    with pytest.raises(ValueError, match="ascending"):
        twcc.build(1, 2, 0, [(2, 0), (2, 0)])


@settings(deadline=None)
@given(st.binary(min_size=0, max_size=160))
def test_random_bytes_raise_only_malformed_packet(tail: bytes) -> None:
    tail = tail[: len(tail) // 4 * 4]
    data = b"\x8f\xcd" + (len(tail) // 4).to_bytes(2, "big") + tail
    with suppress(MalformedPacket):
        assert len(parse(data).packets) <= 0xFFFF


@settings(deadline=None)
@given(arrival_logs(), st.integers(0, 10_000), st.integers(0, 7))
def test_mutated_packets_raise_only_malformed_packet(log: list[tuple[int, int]], at: int, bit: int) -> None:
    data = bytearray(twcc.build(1, 2, 3, log)[0])
    data[at % len(data)] ^= 1 << bit
    with suppress(MalformedPacket):
        for chunk in rtcp.split(bytes(data)):
            twcc.parse(bytes(data), chunk)


@settings(deadline=None)
@given(st.integers(0, 1 << 50), st.integers(-(1 << 38), 1 << 38))
def test_the_reference_time_unwraps(true_us: int, away_us: int) -> None:
    true_us -= true_us % twcc.REFERENCE_US
    wire = true_us % ((1 << 24) * twcc.REFERENCE_US)
    assert twcc.unwrap_reference(true_us + away_us, wire) == true_us
