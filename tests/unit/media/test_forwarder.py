"""The forwarder and the received stream without sockets: a model says what must come out, whatever is lost,
late or doubled."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import packets
from media.forwarder import Forward, MediaPacket
from media.plane import ForwardSpec, HeaderExtensions
from media.receiving import DUPLICATE, SUSPICIOUS, TOO_OLD, ReceiveStream

SPEC = ForwardSpec(0xABCD, 0xABCE, 102, 103, "3", HeaderExtensions(mid=1, transport_cc=2), 512)
PLAIN = ForwardSpec(0xABCD, None, 102, None, "3", HeaderExtensions(mid=1, transport_cc=2, abs_send_time=3), 512)


class Line:
    """One source into one forward. `push` returns the packet as sent, or None."""

    def __init__(self, spec: ForwardSpec = SPEC, *, video: bool = True, start: int = 32_767) -> None:
        self.clock_rate = 90_000 if video else 48_000
        self.forward = Forward(spec, video=video, clock_rate_hz=self.clock_rate, start=start, rtx_start=9)
        self.stream = ReceiveStream(5, self.clock_rate, nack=True)
        self.out = bytearray(2048)
        self.transport_sequence = 0
        self.now = 50.0

    def push(
        self,
        number: int,
        payload: bytes,
        *,
        key: bool = False,
        timestamp: int | None = None,
        marker: bool = True,
        retransmitted: bool = False,
    ) -> bytes | None:
        stamp = number * 3000 if timestamp is None else timestamp
        sequence = self.stream.receive(number & 0xFFFF, stamp & 0xFFFFFFFF, len(payload), self.now, retransmitted)
        if sequence < 0:
            return None
        if self.stream.discontinuity:
            self.forward.close()
        packet = MediaPacket()
        packet.source, packet.sequence = self.stream, sequence
        packet.timestamp, packet.marker = stamp & 0xFFFFFFFF, marker
        packet.newest = sequence == self.stream.highest
        packet.key_frame, packet.payload = key, payload
        length = self.forward.push(self.out, packet, self.transport_sequence, self.now)
        if not length:
            return None
        self.transport_sequence = (self.transport_sequence + 1) & 0xFFFF
        return bytes(self.out[:length])

    def nack(self, *lost: int) -> list[bytes]:
        answer = []
        for stored in self.forward.answer_nack([n & 0xFFFF for n in lost], self.now, 0.05):
            length = self.forward.write_resend(self.out, stored, self.transport_sequence, self.now)
            answer.append(bytes(self.out[:length]))
        return answer


def fields(data: bytes) -> tuple[int, int, int, int, bytes]:
    """(sequence number, timestamp, SSRC, payload type with marker bit, payload)."""
    _, second, sequence, timestamp, ssrc = packets.HEADER.unpack_from(data)
    _, _, start, end = packets.locate(data, len(data))
    return sequence, timestamp, ssrc, second, data[start:end]


def unwrap_rtx(data: bytes, original: bytes) -> bytes:
    """What a receiver makes of an RTX packet (RFC 4588 section 4), with the transport-wide number of
    `original`."""
    _, _, _, second, payload = fields(data)
    restored = bytearray(data)
    _, _, start, _ = packets.locate(data, len(data))
    restored[1] = second & 0x80 | SPEC.payload_type
    restored[2:4] = payload[:2]
    restored[8:12] = SPEC.ssrc.to_bytes(4, "big")
    restored[12:start] = original[12:start]
    del restored[start : start + 2]
    return bytes(restored)


# ---- the model ----


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[int, list[bool], list[tuple[int, bool]]]:
    """(first number, which packets are padding only, arrivals (index, through RTX) with losses, delays and
    doubles)."""
    count = draw(st.integers(1, 160))
    first = draw(st.one_of(st.integers(0, 65_535), st.integers(65_536 - 200, 65_535)))
    seed = random.Random(draw(st.integers(0, 1 << 32)))
    loss, late, double, pad = (draw(st.sampled_from([0.0, 0.02, 0.1, 0.4])) for _ in range(4))
    padding = [False] + [seed.random() < pad for _ in range(count - 1)]
    arrivals: list[tuple[float, int, bool]] = []
    for index in range(count):
        if index and seed.random() < loss:
            if seed.random() < 0.7:
                arrivals.append((index + 5 + seed.random() * 60, index, True))
            continue
        delay = seed.random() * 20 if index and seed.random() < late else 0
        arrivals.append((index + delay, index, False))
        if seed.random() < double:
            arrivals.append((index + seed.random() * 40, index, True))
    return first, padding, [(index, rtx) for _, index, rtx in sorted(arrivals)]


@settings(max_examples=300, deadline=None)
@given(deliveries(), st.sampled_from([SPEC, PLAIN]), st.integers(0, 32_767))
def test_numbers_follow_the_model(
    delivery: tuple[int, list[bool], list[tuple[int, bool]]], spec: ForwardSpec, start: int
) -> None:
    first, padding, arrivals = delivery
    line = Line(spec, start=start)
    sent: dict[int, bytes] = {}
    seen: set[int] = set()
    left_out: set[int] = set()
    highest = -1
    for index, rtx in arrivals:
        body = b"" if padding[index] else b"packet %d" % index
        data = line.push(first + index, body, key=index == 0, retransmitted=rtx)
        if index in seen:
            assert data is None, "a doubled packet was sent twice"
            continue
        seen.add(index)
        if padding[index] and index > highest:
            assert data is None
            left_out.add(index)
        else:
            assert data is not None
            sent[index] = data
        highest = max(highest, index)
    numbers = set()
    for index, data in sent.items():
        sequence, timestamp, ssrc, second, payload = fields(data)
        expected = start + index - sum(1 for other in left_out if other < index)
        assert sequence == expected & 0xFFFF
        numbers.add(sequence)
        assert timestamp == (first + index) * 3000 & 0xFFFFFFFF
        assert (ssrc, second) == (spec.ssrc, 0x80 | spec.payload_type)
        assert payload == (b"" if padding[index] else b"packet %d" % index)
    assert len(numbers) == len(sent), "a number was used twice"
    line.now += 1
    for index, data in sent.items():
        (again,) = line.nack(fields(data)[0])
        if spec is PLAIN:
            assert again == data
        elif not padding[index]:
            assert unwrap_rtx(again, data) == data


# ---- numbers ----


def test_the_first_number_wraps_late_enough_for_srtp() -> None:
    line = Line(start=32_767)
    data = line.push(65_535, b"k", key=True)
    assert data is not None
    assert fields(data)[0] == 32_767


def test_a_late_packet_from_before_the_start_has_no_place() -> None:
    line = Line()
    assert line.push(10, b"delta") is None
    assert line.push(12, b"key", key=True) is not None
    assert line.push(11, b"late") is None
    assert line.push(13, b"next") is not None


def test_a_late_key_frame_start_is_no_start() -> None:
    """The packets behind it were dropped already: the frame would never be complete."""
    line = Line()
    line.push(10, b"delta")
    line.push(12, b"rest of the key frame")
    assert line.push(11, b"key", key=True) is None
    assert line.forward.waiting


def test_a_pause_leaves_no_gap_and_late_packets_of_it_stay_out() -> None:
    line = Line()
    one = line.push(1, b"k", key=True)
    line.forward.set_paused(True)
    assert not line.forward.waiting
    for number in (2, 3, 5, 6):
        assert line.push(number, b"x", key=True) is None
    line.forward.set_paused(False)
    assert line.forward.waiting
    two = line.push(7, b"k", key=True)
    assert line.push(4, b"late") is None
    three = line.push(8, b"x")
    assert one
    assert two
    assert three
    assert [fields(p)[0] - fields(one)[0] for p in (two, three)] == [1, 2]
    assert fields(two)[1] == 7 * 3000


def test_a_frame_that_was_cut_off_leaves_one_number_free() -> None:
    line = Line()
    one = line.push(1, b"k", key=True, marker=False)
    line.forward.close()
    two = line.push(2, b"k", key=True)
    assert one
    assert two
    assert fields(two)[0] - fields(one)[0] == 2


def test_audio_needs_no_key_frame() -> None:
    line = Line(PLAIN, video=False)
    assert line.push(7, b"opus")
    line.forward.set_paused(True)
    line.forward.set_paused(False)
    assert not line.forward.waiting
    assert line.push(8, b"opus")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mid": "m" * 256},
        {"extensions": HeaderExtensions(mid=256)},
        {"extensions": HeaderExtensions(audio_level=256)},
        {"payload_type": 128},
        {"rtx_payload_type": -1},
        {"ssrc": 1 << 32},
        {"rtx_ssrc": -1},
    ],
)
def test_a_specification_that_no_packet_can_carry_is_refused_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Line(replace(SPEC, **wrong))  # type: ignore[arg-type]


# ---- timestamps ----


@pytest.mark.parametrize("elapsed", [0.0, 0.5, 3600.0])
@pytest.mark.parametrize("stamp", [0, 0xFFFFFFFF, 123_456])
def test_another_source_goes_on_in_time(elapsed: float, stamp: int) -> None:
    line = Line()
    old = line.push(1, b"k", key=True)
    line.now += elapsed
    line.stream = ReceiveStream(6, 90_000, nack=True)
    line.forward.close()
    assert line.push(500, b"delta", timestamp=stamp) is None
    new = line.push(501, b"k", key=True, timestamp=stamp)
    assert old
    assert new
    assert fields(new)[0] == fields(old)[0] + 1
    assert (fields(new)[1] - fields(old)[1]) & 0xFFFFFFFF == max(3000, round(elapsed * 90_000))
    assert line.forward.map_timestamp(line.stream, stamp + 5) == (fields(new)[1] + 5) & 0xFFFFFFFF
    assert line.forward.map_timestamp(object(), stamp) is None


def test_a_source_that_restarts_its_clock_is_taken_up_again() -> None:
    line = Line()
    old = line.push(1, b"k", key=True, timestamp=3_000_000_000)
    line.forward.close()
    line.now += 1
    new = line.push(2, b"k", key=True, timestamp=7)
    assert old
    assert new
    assert (fields(new)[1] - fields(old)[1]) & 0xFFFFFFFF == 90_000


# ---- sending again ----


def test_resends_are_limited() -> None:
    line = Line()
    data = line.push(1, b"k", key=True)
    assert data
    number = fields(data)[0]
    assert len(line.nack(number, number)) == 1
    assert line.nack(number) == []
    times = 1
    for _ in range(20):
        line.now += 0.06
        times += len(line.nack(number))
    assert times == 6


def test_nacks_from_before_the_latest_key_frame_are_ignored() -> None:
    line = Line()
    sent = [line.push(n, b"x%d" % n, key=n in (1, 5)) for n in range(1, 8)]
    numbers = [fields(p)[0] for p in sent if p]
    assert len(line.nack(*numbers)) == 3


def test_the_history_is_bounded() -> None:
    line = Line(PLAIN, video=False, start=0)
    for n in range(1, 2000):
        line.push(n, b"x")
    assert line.nack(2000 - 600) == []
    assert len(line.nack(2000 - 500)) == 1
    assert line.nack(5000) == []


def test_the_history_is_bounded_in_time_too() -> None:
    line = Line(start=0)
    for n in range(1, 100):
        line.now += 0.1
        line.push(n, b"x", key=n == 1)
    line.forward.forget_sent_before(line.now - 1.55)
    assert [fields(p)[4][:2] for p in line.nack(*range(99))] == [n.to_bytes(2, "big") for n in range(83, 99)]
    line.forward.forget_sent_before(line.now + 0.01)
    line.now += 1
    assert line.nack(*range(99)) == []
    assert line.push(100, b"x")


def test_without_rtx_the_packet_is_repeated_to_the_bit() -> None:
    line = Line(PLAIN)
    data = line.push(1, b"k", key=True)
    line.push(2, b"k")
    assert data
    assert line.nack(fields(data)[0]) == [data]
    assert dict(packets.extension_elements(data, len(data))) == {1: b"3", 2: b"\0\0", 3: b"\xc8\0\0"}


# ---- the received stream ----


def receive(stream: ReceiveStream, *numbers: int, now: float = 1.0) -> list[int]:
    return [stream.receive(n & 0xFFFF, n * 960, 100, now) for n in numbers]


def test_extended_numbers_cross_the_wrap() -> None:
    stream = ReceiveStream(1, 48_000, nack=True)
    assert receive(stream, 65_534, 65_535, 1, 0, 65_533, 2) == [131_070, 131_071, 131_073, 131_072, 131_069, 131_074]
    assert receive(stream, 65_535, 2) == [DUPLICATE, DUPLICATE]
    stats = stream.snapshot()
    assert (stats.packets, stats.packets_lost, stats.highest_sequence) == (6, 0, 65_538)


def test_losses_are_counted_as_in_rfc_3550_a3() -> None:
    stream = ReceiveStream(1, 48_000, nack=True)
    receive(stream, *(n for n in range(1000) if n % 10 != 5))
    stats = stream.snapshot()
    assert (stats.packets, stats.packets_lost) == (900, 100)
    stream.receive(995, 0, 100, 1.0, True)
    assert (stream.snapshot().packets_lost, stream.snapshot().retransmitted) == (100, 1)


def test_jitter_is_that_of_rfc_3550_a8() -> None:
    stream = ReceiveStream(1, 8000, nack=False)
    rng = random.Random(4)
    jitter, transit = 0.0, None
    for n in range(500):
        now = 10 + n * 0.02 + rng.random() * 0.01
        stamp = (4_294_900_000 + n * 160) & 0xFFFFFFFF
        stream.receive(n, stamp, 100, now)
        relative = int(now * 8000) - (4_294_900_000 + n * 160)
        if transit is not None:
            jitter += (abs(relative - transit) - jitter) / 16
        transit = relative
    assert stream.snapshot().jitter == pytest.approx(jitter)


def test_lost_packets_are_asked_for_with_growing_pauses_and_then_given_up() -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    receive(stream, 1, 4, now=0.0)
    asked = []
    for step in range(40):
        due = stream.due_nacks(step * 0.02, 0.05)
        if due:
            assert due == [2, 3]
            asked.append(step * 20)
        if stream.broken:
            break
    assert asked[0] == 0
    pauses = [b - a for a, b in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= 50
    assert 3 <= len(asked) <= 10
    assert stream.broken
    assert stream.missing == 0


def test_a_packet_that_came_is_not_asked_for() -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    receive(stream, 65_534, 2)
    assert stream.missing == 3
    stream.receive(0, 0, 10, 1.0, True)
    assert stream.due_nacks(1.0, 0.05) == [65_535, 1]
    stream.forget_before(65_536 + 65_538)
    assert stream.missing == 0


def test_a_probe_before_the_first_packet_is_no_start() -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    assert stream.receive(500, 0, 100, 1.0, True) == TOO_OLD
    assert receive(stream, 1000) == [66_536]
    assert stream.missing == 0


def test_without_nack_nothing_is_asked_for() -> None:
    stream = ReceiveStream(1, 48_000, nack=False)
    receive(stream, 1, 9)
    assert stream.due_nacks(9.0, 0.05) == []
    assert not stream.broken


@pytest.mark.parametrize("jump", [600, 2999])
def test_a_large_gap_is_a_discontinuity_and_not_asked_for(jump: int) -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    receive(stream, 1, 1 + jump)
    assert stream.discontinuity
    assert stream.missing == 0
    receive(stream, 2 + jump)
    assert not stream.discontinuity


def test_a_far_jump_is_believed_when_it_goes_on() -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    assert receive(stream, 1, 20_000, 2) == [65_537, SUSPICIOUS, 65_538]
    assert receive(stream, 20_000, 20_001) == [SUSPICIOUS, 85_537]
    assert stream.discontinuity
    assert stream.snapshot().packets_lost == 0


def test_very_late_packets_are_refused() -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    receive(stream, *range(5000))
    assert receive(stream, 2000) == [TOO_OLD]
    assert stream.receive(2001, 0, 10, 1.0, True) == TOO_OLD


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65_535), st.booleans(), st.floats(0, 2)), max_size=300))
def test_any_sequence_of_numbers_is_survived(arrivals: list[tuple[int, bool, float]]) -> None:
    stream = ReceiveStream(1, 90_000, nack=True)
    got = set()
    now = 0.0
    for number, rtx, step in arrivals:
        now += step
        extended = stream.receive(number, number, 10, now, rtx)
        if extended >= 0:
            assert extended & 0xFFFF == number
            assert extended not in got
            got.add(extended)
        stream.due_nacks(now, 0.1)
        assert stream.missing <= 512
    stats = stream.snapshot()
    assert stats.jitter >= 0
