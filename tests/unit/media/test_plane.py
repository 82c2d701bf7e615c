"""The packet plane over real sockets and real SRTP."""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibsrtp import Error as SrtpError

from media import packets, rtcp
from media.packet_path import BATCH, MAX_UNBOUND_SSRCS
from media.plane import (
    Arrivals,
    ControlDatagram,
    FirstPacket,
    ForwardSpec,
    HeaderExtensions,
    KeyFrameWanted,
    Rtcp,
    SenderReport,
    Sent,
    UnknownSsrc,
)
from media.plane_inbox import MAX_PER_ADDRESS, MAX_QUEUED, MAX_UNKNOWN
from media.plane_output import MAX_DATAGRAM, MAX_LOG, MAX_RECORDS
from media.python_plane import PythonPlane
from tests.unit.media.peer import AUDIO, IDS, PROFILES, SUBSCRIBER_IDS, VIDEO, Stage, nack, vp8

STUN = b"\x00\x01\x00\x00" + b"\x21\x12\xa4\x42" + bytes(12)
DTLS = b"\x16\xfe\xfd" + bytes(30)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def of(kind: type, records: list) -> list:
    return [record for record in records if isinstance(record, kind)]


# ---- the way through ----


@pytest.mark.parametrize("profile", PROFILES)
def test_forwards_a_packet_under_every_profile(profile: int) -> None:
    stage = Stage(profile)
    stage.video()
    stage.send(65_535, key=True, body=b"hello", timestamp=12345)
    stage.send(0, timestamp=12345 + 3000)
    first, second = stage.subscriber.read(2)
    assert first.payload == vp8(True, b"hello")
    assert (first.ssrc, first.payload_type, first.marker) == (Stage.OUT, 102, True)
    assert first.sequence_number < 0x8000
    assert second.sequence_number == first.sequence_number + 1
    assert (second.timestamp - first.timestamp) & 0xFFFFFFFF == 3000
    assert stage.plane.counters.forwarded == 2
    assert not stage.plane.counters.dropped
    stage.close()


def test_reads_from_its_socket_in_bounded_batches(stage: Stage) -> None:
    stage.video()
    relay = stage.socket.getsockname()
    for number in range(BATCH + 10):
        stage.publisher.socket.sendto(stage.publisher.rtp(Stage.SSRC, number, vp8(number == 0)), relay)
    stage.plane.read_ready(0)
    assert stage.plane.counters.received == BATCH
    stage.plane.read_ready(0)
    assert stage.plane.counters.received == BATCH + 10
    stage.plane.read_ready(0)  # nothing there: returns
    assert len(stage.subscriber.read(BATCH + 10)) == BATCH + 10


def test_rewrites_header_extensions_for_the_subscriber(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True, extensions=((IDS.mid, b"0"), (IDS.rid, b"h"), (IDS.video_orientation, b"\x01")))
    stage.send(2)
    turned, plain = stage.subscriber.read(2)
    assert turned.extensions == {9: b"7", 3: b"\0\0", 2: b"\x01"}
    assert plain.extensions == {9: b"7", 3: b"\0\1"}


@pytest.mark.parametrize("size", [1, 16, 17, 255])
def test_two_byte_extensions_pass_both_ways(stage: Stage, size: int) -> None:
    """A dependency descriptor is often longer than the one-byte form can say, and ids above 14 do not fit it either."""
    descriptor = os.urandom(size)
    stage.plane.add_track(1, 1, replace(VIDEO, extensions=replace(IDS, dependency_descriptor=8)))
    stage.plane.bind_ssrc(1, Stage.SSRC, 1)
    ids = HeaderExtensions(mid=20, transport_cc=21, abs_send_time=22, dependency_descriptor=23)
    stage.plane.add_forward(1, 2, 1, replace(stage.forward_spec(), extensions=ids))
    stage.send(1, key=True, extensions=((8, descriptor),))
    (packet,) = stage.subscriber.read(1)
    send_time = packets.abs_send_time(stage.now).to_bytes(3, "big")
    assert packet.extensions == {20: b"7", 21: b"\0\0", 22: send_time, 23: descriptor}
    assert packet.payload == vp8(True)
    stage.plane.tick(stage.now)
    assert of(Arrivals, stage.plane.drain())[0].packets == [(65_530, 1_000_000_000)]


def test_one_packet_goes_to_every_subscriber_with_its_own_numbers(stage: Stage) -> None:
    stage.video()
    others = [stage.add_peer(3), stage.add_peer(4)]
    for forward, transport in ((2, 3), (3, 4)):
        spec = ForwardSpec(50 + forward, None, 120, None, "m", HeaderExtensions(), 64)
        stage.plane.add_forward(forward, transport, 1, spec)
    stage.send(9, key=True)
    assert stage.subscriber.read(1)[0].ssrc == Stage.OUT
    for forward, peer in zip((2, 3), others, strict=True):
        (packet,) = peer.read(1)
        assert (packet.ssrc, packet.payload_type, packet.extensions) == (50 + forward, 120, {})
        assert packet.payload == vp8(True)


def test_records_arrivals_and_sends(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.now += 0.0105
    stage.send(2)
    stage.plane.tick(stage.now)
    records = stage.plane.drain()
    assert of(FirstPacket, records) == [FirstPacket(1, 1000.0)]
    assert of(Arrivals, records) == [Arrivals(1, [(65_530, 1_000_000_000), (65_531, 1_000_010_500)])]
    sizes = [len(data) for data in stage.subscriber.read_raw(2)]
    assert of(Sent, records) == [Sent(2, [(0, 1_000_000_000, sizes[0]), (1, 1_000_010_500, sizes[1])])]
    assert stage.plane.drain() == []


def test_logs_are_bounded_when_nobody_drains(stage: Stage) -> None:
    stage.video(history=16)
    for number in range(MAX_LOG + 50):
        stage.send(number, key=number == 0)
        if number % 64 == 63:
            stage.subscriber.read_raw(64)
    assert stage.dropped("arrival_log_full") == 50
    assert stage.dropped("send_log_full") == 50
    stage.plane.tick(stage.now)
    assert len(of(Sent, stage.plane.drain())[0].packets) == MAX_LOG


# ---- what anybody may send ----


def test_an_empty_datagram_is_counted_and_dropped(stage: Stage) -> None:
    stage.video()
    stage.publisher.socket.sendto(b"", stage.socket.getsockname())
    stage.plane.read_ready(0)
    assert stage.plane.counters.dropped == {"empty": 1}
    stage.send(1, key=True)
    assert stage.subscriber.read(1)


def test_media_from_another_source_is_dropped(stage: Stage) -> None:
    stage.video()
    data = stage.publisher.rtp(Stage.SSRC, 1, vp8(True))
    stage.feed(data, stage.subscriber)  # a known address, but of another association
    stage.plane.on_datagram(data, ("127.0.0.9", 5), 0, stage.now)
    assert stage.plane.counters.dropped == {"srtp_auth": 1, "unknown_source": 1}
    assert stage.subscriber.silent()
    stage.feed(data)  # premise: from the right source the very same bytes pass
    assert stage.subscriber.read(1)


def test_an_address_that_was_left_is_not_accepted(stage: Stage) -> None:
    stage.video()
    stage.plane.set_address(1, ("127.0.0.1", 9))
    stage.send(1, key=True)
    assert stage.dropped("unknown_source") == 1
    stage.plane.set_address(1, stage.publisher.address)
    stage.send(2, key=True)
    assert stage.subscriber.read(1)


def test_media_comes_on_a_checked_path_before_it_is_nominated(stage: Stage) -> None:
    stage.video()
    left, following = ("127.0.0.1", 9), ("127.0.0.1", 10)
    stage.plane.set_address(1, left)
    stage.plane.accept_from(1, stage.publisher.address)
    stage.send(1, key=True)
    stage.plane.on_datagram(stage.publisher.rtp(Stage.SSRC, 2, vp8(False)), left, 0, stage.now)
    assert len(stage.subscriber.read(2)) == 2
    stage.plane.set_address(1, following)
    stage.send(3)
    stage.plane.on_datagram(stage.publisher.rtp(Stage.SSRC, 4, vp8(False)), left, 0, stage.now)
    assert stage.dropped("unknown_source") == 2
    for port in range(100, 200):
        stage.plane.accept_from(1, ("127.0.0.1", port))
    assert stage.dropped("too_many_paths") == 100 - 15
    stage.plane.remove_transport(1)
    assert set(stage.plane._by_address[0]) == {stage.subscriber.address}


def test_replayed_and_forged_packets_change_nothing(stage: Stage) -> None:
    stage.video()
    data = stage.publisher.rtp(Stage.SSRC, 1, vp8(True))
    stage.feed(data)
    stage.feed(data)
    forged = bytearray(stage.publisher.rtp(Stage.SSRC, 2, vp8(False)))
    forged[-1] ^= 1
    stage.feed(bytes(forged))
    jump = bytearray(forged)
    jump[2:4] = b"\x70\x00"
    stage.feed(bytes(jump))
    assert stage.plane.counters.dropped == {"srtp_replay": 1, "srtp_auth": 2}
    stats = stage.plane.stream_stats(1)[Stage.SSRC][1]
    assert (stats.packets, stats.highest_sequence, stats.packets_lost) == (1, 1, 0)
    forged[-1] ^= 1
    stage.feed(bytes(forged))  # the true one still passes
    assert len(stage.subscriber.read(2)) == 2


def test_stun_and_dtls_go_to_the_control_plane(stage: Stage) -> None:
    stage.plane.on_datagram(STUN, ("127.0.0.1", 77), 0, stage.now)
    stage.feed(DTLS)
    assert stage.plane.drain() == [
        ControlDatagram(STUN, ("127.0.0.1", 77), 0),
        ControlDatagram(DTLS, stage.publisher.address, 0),
    ]
    for first in (4, 19, 64, 127, 192, 255):
        stage.feed(bytes([first]) * 20)
    assert stage.plane.counters.dropped == {"first_byte": 6}


def test_a_flood_of_control_datagrams_is_bounded_and_leaves_room_for_calls(stage: Stage) -> None:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    flood = DTLS + bytes(1400)
    for number in range(23_882):
        stage.plane.on_datagram(flood, (f"10.0.{number % 64}.{number % 250}", 1000 + number % 3), 0, stage.now)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2_000_000
    assert stage.dropped("control_queue_full") + stage.dropped("control_source_full") == 23_882 - MAX_UNKNOWN
    stage.feed(DTLS)
    assert of(ControlDatagram, stage.plane.drain())[-1].source == stage.publisher.address


def test_one_source_cannot_fill_the_control_queue(stage: Stage) -> None:
    for _ in range(500):
        stage.feed(DTLS)
    for port in range(2000, 2020):
        for _ in range(100):
            stage.plane.on_datagram(STUN, ("192.0.2.1", port), 0, stage.now)
    stage.plane.on_datagram(STUN, ("192.0.2.2", 5), 0, stage.now)
    records = stage.plane.drain()
    assert sum(r.source == stage.publisher.address for r in records) == MAX_PER_ADDRESS
    assert sum(r.source[0] == "192.0.2.1" for r in records) == 256
    assert records[-1].source == ("192.0.2.2", 5)
    assert len(records) < MAX_QUEUED
    stage.plane.on_datagram(STUN, ("192.0.2.1", 2000), 0, stage.now)  # drained: there is room again
    assert len(stage.plane.drain()) == 1


def test_too_long_and_too_short_datagrams(stage: Stage) -> None:
    stage.plane.on_datagram(b"\x80" * 5000, stage.publisher.address, 0, stage.now)
    stage.plane.on_datagram(b"\x80" * (MAX_DATAGRAM + 1), stage.publisher.address, 0, stage.now)
    stage.feed(b"\x80\x60")
    stage.feed(b"\x80\xc8" + bytes(20))
    assert stage.plane.counters.dropped["too_long"] == 2
    assert stage.plane.counters.dropped["srtp_short"] == 1
    assert sum(stage.plane.counters.dropped.values()) == 4


def test_malformed_but_authentic_packets_are_counted(stage: Stage) -> None:
    stage.video()
    bad_padding = bytearray(
        packets.build_rtp(payload_type=96, sequence_number=1, timestamp=0, ssrc=Stage.SSRC, payload=b"x", padding=4)
    )
    bad_padding[-1] = 200
    overrun = packets.HEADER.pack(0x90, 96, 2, 0, Stage.SSRC) + b"\xbe\xde\x00\x01" + b"\x4f\0\0\0" + b"x"
    for plain in (bytes(bad_padding), overrun):
        stage.feed(stage.publisher.outbound.protect(plain))
    stage.feed(stage.publisher.rtp(Stage.SSRC, 3, b""))
    stage.feed(stage.publisher.rtp(Stage.SSRC, 4, b"\x10"))
    stage.feed(stage.publisher.rtp(Stage.SSRC, 5, vp8(True), payload_type=99))
    stage.feed(stage.publisher.rtp(Stage.RTX, 1, b"\x01", payload_type=97))
    assert stage.plane.counters.dropped == {
        "rtp_padding": 1,
        "extension_overrun": 1,
        "vp8_short": 1,
        "payload_type": 1,
        "rtx_short": 1,
    }


# ---- SSRCs ----


def test_an_unknown_ssrc_is_reported_until_it_is_bound(stage: Stage) -> None:
    stage.plane.add_track(1, 1, VIDEO)
    stage.plane.add_forward(1, 2, 1, stage.forward_spec())
    stage.send(1)
    stage.send(2, extensions=((IDS.mid, b"1"), (IDS.rid, b"q")))
    stage.send(3, extensions=((IDS.mid, b"1"), (IDS.rid, b"q")))
    assert of(UnknownSsrc, stage.plane.drain()) == [
        UnknownSsrc(1, Stage.SSRC, 96, None, None, None),
        UnknownSsrc(1, Stage.SSRC, 96, "1", "q", None),
    ]
    assert stage.dropped("unbound_ssrc") == 3
    stage.plane.bind_ssrc(1, Stage.SSRC, 1)
    stage.send(4, key=True)
    assert stage.subscriber.read(1)
    assert of(FirstPacket, stage.plane.drain())


def test_what_found_no_room_among_the_records_is_recorded_again(stage: Stage) -> None:
    stage.plane.add_track(1, 1, VIDEO)
    stage.plane.add_forward(1, 2, 1, stage.forward_spec())
    stage.plane._records.extend([FirstPacket(0, 0.0)] * MAX_RECORDS)  # nobody drains
    stage.send(1)
    assert stage.dropped("records_full") == 1
    assert of(UnknownSsrc, stage.plane.drain()) == []
    stage.send(2)
    assert [one.ssrc for one in of(UnknownSsrc, stage.plane.drain())] == [Stage.SSRC]
    stage.plane.bind_ssrc(1, Stage.SSRC, 1)
    stage.plane._records.extend([FirstPacket(0, 0.0)] * MAX_RECORDS)
    stage.send(3)
    stage.plane.drain()
    stage.send(4)
    assert [type(one) for one in stage.plane.drain()] == [FirstPacket, KeyFrameWanted]


def test_forged_ssrcs_cost_nothing_and_real_ones_are_capped(stage: Stage) -> None:
    stage.video()
    for _ in range(1000):
        stage.feed(b"\x80\x60" + os.urandom(100))
    assert of(UnknownSsrc, stage.plane.drain()) == []
    assert stage.dropped("srtp_auth") == 1000
    for number in range(100):
        stage.feed(stage.publisher.rtp(10_000 + number, 1, b"x"))
    assert len(of(UnknownSsrc, stage.plane.drain())) == MAX_UNBOUND_SSRCS
    assert stage.dropped("too_many_ssrcs") == 100 - MAX_UNBOUND_SSRCS
    stage.send(1, key=True)  # bound ones are not affected
    assert stage.subscriber.read(1)


def test_a_removed_track_is_reported_again_but_never_replayed(stage: Stage) -> None:
    stage.video()
    old = stage.publisher.rtp(Stage.SSRC, 1, vp8(True))
    stage.feed(old)
    stage.subscriber.read(1)
    stage.plane.remove_track(1)
    stage.plane.remove_track(1)
    stage.plane.drain()
    stage.feed(old)
    assert stage.dropped("srtp_replay") == 1
    stage.send(2)
    assert [r.ssrc for r in of(UnknownSsrc, stage.plane.drain())] == [Stage.SSRC]
    assert stage.subscriber.silent()


# ---- retransmissions ----


def test_a_nack_is_answered_with_rtx_of_the_same_bytes(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True, timestamp=90, extensions=((IDS.video_orientation, b"\x02"),))
    stage.send(2, body=os.urandom(1100), marker=False, timestamp=90)
    sent = stage.subscriber.read(2)
    stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, *[p.sequence_number for p in sent])), stage.subscriber)
    again = stage.subscriber.read(2)
    for first, second in zip(sent, again, strict=True):
        assert (second.ssrc, second.payload_type) == (Stage.OUT_RTX, 103)
        assert second.payload == first.sequence_number.to_bytes(2, "big") + first.payload
        assert (second.timestamp, second.marker) == (first.timestamp, first.marker)
        assert second.extensions.keys() == first.extensions.keys()
    assert [int.from_bytes(p.extensions[3], "big") for p in again] == [2, 3]
    assert again[1].sequence_number == again[0].sequence_number + 1
    stats = stage.plane.forward_stats(1)
    assert (stats.packets, stats.retransmitted, stats.nacks) == (2, 2, 1)
    assert of(Rtcp, stage.plane.drain()), "the receiver report beside the NACK is reported"


@pytest.mark.parametrize("profile", PROFILES)
def test_without_rtx_the_very_same_datagram_is_sent_again(profile: int) -> None:
    stage = Stage(profile)
    stage.plane.add_track(1, 1, AUDIO)
    stage.plane.bind_ssrc(1, Stage.SSRC, 1)
    stage.plane.add_forward(1, 2, 1, stage.forward_spec(rtx=False))
    for number in range(200):
        stage.feed(
            stage.publisher.rtp(Stage.SSRC, number, b"opus", payload_type=111, extensions=((IDS.audio_level, b"\x11"),))
        )
    sent = stage.subscriber.read_raw(200)
    number = int.from_bytes(sent[5][2:4], "big")
    stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, number)), stage.subscriber)
    assert stage.subscriber.read_raw(1) == [sent[5]], "AES-GCM must not see other bytes under the same nonce"
    stage.close()


def test_a_packet_is_sent_again_once_per_round_trip(stage: Stage) -> None:
    stage.video()
    stage.plane.set_rtt(2, 0.2)
    stage.send(1, key=True)
    (sent,) = stage.subscriber.read(1)
    for _ in range(5):
        stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, sent.sequence_number)), stage.subscriber)
    assert len(stage.subscriber.read(1)) == 1
    assert stage.subscriber.silent()
    stage.now += 0.21
    stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, sent.sequence_number)), stage.subscriber)
    assert len(stage.subscriber.read(1)) == 1


def test_gaps_are_asked_for_and_filled_through_rtx(stage: Stage) -> None:
    stage.video()
    stage.send(100, key=True)
    for number in (101, 104):
        stage.send(number, body=b"%d" % number)
    stage.plane.tick(stage.now)
    compound = stage.publisher.read_rtcp()
    report, request = rtcp.split(compound)
    assert (report.packet_type, request.packet_type) == (rtcp.RR, rtcp.RTPFB)
    assert rtcp.feedback_ssrcs(compound, request)[1] == Stage.SSRC
    assert rtcp.parse_nack(compound, request) == [102, 103]
    stage.feed(stage.publisher.rtp(Stage.RTX, 1, (103).to_bytes(2, "big") + vp8(False, b"103"), payload_type=97))
    stage.feed(stage.publisher.rtp(Stage.RTX, 2, (102).to_bytes(2, "big") + vp8(False, b"102"), payload_type=97))
    stage.feed(stage.publisher.rtp(Stage.RTX, 3, (102).to_bytes(2, "big") + vp8(False, b"102"), payload_type=97))
    got = stage.subscriber.read(5)
    base = got[0].sequence_number - 100
    assert [p.sequence_number - base for p in got] == [100, 101, 104, 103, 102]
    assert got[4].payload == vp8(False, b"102")
    assert stage.dropped("duplicate") == 1
    stage.plane.tick(stage.now + 0.3)
    assert stage.publisher.silent()
    stats = stage.plane.stream_stats(1)[Stage.SSRC][1]
    assert (stats.packets, stats.packets_lost, stats.retransmitted, stats.nacks) == (3, 2, 2, 1)


def test_a_loss_is_asked_for_at_once_but_not_what_only_came_out_of_order(stage: Stage) -> None:
    stage.video()
    stage.plane.tick(stage.now)
    relay = stage.socket.getsockname()
    for number in (100, 103, 102, 105):
        stage.publisher.socket.sendto(stage.publisher.rtp(Stage.SSRC, number, vp8(number == 100)), relay)
    stage.plane.read_ready(0)
    compound = stage.publisher.read_rtcp()
    assert rtcp.parse_nack(compound, rtcp.split(compound)[1]) == [101, 104]
    stage.plane.tick(stage.now)
    assert stage.publisher.silent()


def test_many_scattered_losses_fit_into_packets(stage: Stage) -> None:
    stage.video()
    stage.send(0, key=True)
    stage.subscriber.read_raw(1)
    for number in range(1, 18 * 300):  # one of 18: no two share an entry of the NACK
        if number % 18:
            stage.send(number)
            stage.subscriber.read_raw(1)
    stage.plane.tick(stage.now)
    asked = 0
    while not stage.publisher.silent():
        (data,) = stage.publisher.read_raw(1)
        assert len(data) < 1200
        plain = stage.publisher.inbound.unprotect_rtcp(data)
        asked += len(rtcp.parse_nack(plain, rtcp.split(plain)[-1]))
    assert asked == 299


def test_what_nobody_sees_is_not_asked_for(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.plane.set_paused(1, True)
    stage.send(5)
    stage.plane.tick(stage.now)
    stage.plane.set_paused(1, False)
    stage.plane.tick(stage.now + 0.1)
    assert stage.publisher.silent()


@pytest.mark.parametrize("seed", range(3))
def test_loss_on_both_ways_is_repaired(seed: int) -> None:
    """5 % loss before and behind the relay, retransmissions and requests included: every packet comes, byte by byte."""
    stage = Stage()
    stage.video()
    chance = random.Random(seed)
    packets_sent = 600
    payloads = [vp8(n == 0, b"%d" % n + bytes(n % 700)) for n in range(packets_sent)]
    got: dict[int, bytes] = {}
    doubled = 0
    rtx_number = 0
    first = -1

    def lost() -> bool:
        return chance.random() < 0.05

    def take_in() -> None:
        nonlocal first, doubled
        while not stage.subscriber.silent():
            packet = stage.subscriber.read(1)[0]
            number, payload = packet.sequence_number, packet.payload
            if first >= 0 and lost():
                continue
            if packet.ssrc == Stage.OUT_RTX:
                number, payload = int.from_bytes(payload[:2], "big"), payload[2:]
            if first < 0:
                first = number
            doubled += packets.extend(first, number) in got
            got[packets.extend(first, number)] = payload

    for step in range(packets_sent + 400):
        stage.now += 0.002
        if step < packets_sent and (step in (0, packets_sent - 1) or not lost()):
            stage.feed(stage.publisher.rtp(Stage.SSRC, 65_300 + step & 0xFFFF, payloads[step]))
        take_in()
        if step % 10 == 0:
            stage.plane.tick(stage.now)
            stage.plane.drain()
            while not stage.publisher.silent():
                compound = stage.publisher.read_rtcp()
                for chunk in rtcp.split(compound):
                    if chunk.packet_type == rtcp.RTPFB and not lost():
                        for number in rtcp.parse_nack(compound, chunk):
                            rtx_number += 1
                            body = number.to_bytes(2, "big") + payloads[(number - 65_300) & 0xFFFF]
                            data = stage.publisher.rtp(Stage.RTX, rtx_number, body, payload_type=97)
                            if not lost():
                                stage.feed(data)
        if step % 25 == 0 and got:
            gaps = [n & 0xFFFF for n in range(first, max(got)) if n not in got]
            if gaps and not lost():
                stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, *gaps)), stage.subscriber)
    assert [got.get(first + n) for n in range(packets_sent)] == payloads
    assert stage.plane.forward_stats(1).retransmitted > 10
    assert stage.plane.stream_stats(1)[Stage.SSRC][1].retransmitted > 10
    assert doubled <= stage.plane.forward_stats(1).retransmitted
    stage.close()


def test_rtx_probes_without_content_are_dropped(stage: Stage) -> None:
    stage.video()
    stage.feed(stage.publisher.rtp(Stage.RTX, 1, b"", payload_type=97, padding=200))
    assert stage.plane.counters.dropped == {"rtx_padding": 1}
    stage.plane.tick(stage.now)
    assert of(Arrivals, stage.plane.drain()), "probes count for the bandwidth estimate all the same"


# ---- key frames ----


def test_video_starts_with_a_key_frame_that_is_asked_for_at_once(stage: Stage) -> None:
    stage.video()
    assert of(KeyFrameWanted, stage.plane.drain()) == []
    stage.send(1)
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, Stage.SSRC)]
    stage.now += 0.3
    stage.send(2)
    assert of(KeyFrameWanted, stage.plane.drain()) == []
    stage.now += 0.3
    stage.send(3)
    assert len(of(KeyFrameWanted, stage.plane.drain())) == 1
    assert stage.subscriber.silent()
    stage.send(4, key=True)
    assert stage.subscriber.read(1)[0].payload == vp8(True)
    stage.now += 1
    stage.plane.tick(stage.now)
    assert of(KeyFrameWanted, stage.plane.drain()) == []


def test_pli_and_fir_of_a_subscriber_are_throttled(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.plane.drain()
    pli = rtcp.build_pli(1, Stage.OUT)
    stage.feed(stage.subscriber.rtcp(pli), stage.subscriber)
    stage.feed(stage.subscriber.rtcp(rtcp.build_fir(1, Stage.OUT, 1)), stage.subscriber)
    assert len(of(KeyFrameWanted, stage.plane.drain())) == 1
    stage.now += 0.6
    stage.plane.tick(stage.now)  # the second one was put off, not forgotten
    assert len(of(KeyFrameWanted, stage.plane.drain())) == 1
    wanted = 0
    for _ in range(120):  # a viewer with a wrong key: two a second for a minute
        stage.now += 0.5
        stage.send(2 + _)
        stage.feed(stage.subscriber.rtcp(pli), stage.subscriber)
        wanted += len(of(KeyFrameWanted, stage.plane.drain()))
    assert 15 <= wanted <= 25


def test_pausing_stops_and_resuming_asks_for_a_key_frame(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.plane.drain()
    stage.plane.set_paused(1, True)
    stage.send(2)
    stage.feed(stage.subscriber.rtcp(rtcp.build_pli(1, Stage.OUT)), stage.subscriber)
    assert of(KeyFrameWanted, stage.plane.drain()) == []
    stage.plane.set_paused(1, False)
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, Stage.SSRC)]
    stage.send(3)
    stage.send(4, key=True, timestamp=9000)
    before, after = stage.subscriber.read(2)
    assert after.sequence_number == before.sequence_number + 1
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 9000


def test_an_outage_asks_for_a_key_frame_without_waiting_for_the_viewer(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.plane.drain()
    stage.now += 4
    stage.send(1300)
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, Stage.SSRC)]
    stage.plane.tick(stage.now)
    assert stage.publisher.silent(), "the packets of the outage are not asked for"


def test_the_end_of_an_outage_is_seen_by_the_media_clock_too(stage: Stage) -> None:
    """What waited in a socket comes at once; then the hole of the outage follows without a pause."""
    stage.video()
    stage.send(1, key=True, timestamp=0)
    stage.now += 4
    for number in range(2, 100):
        stage.send(number, timestamp=number * 3000)
    stage.plane.drain()
    stage.send(400, timestamp=400 * 3000)
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, Stage.SSRC)]
    stage.plane.tick(stage.now)
    assert stage.publisher.silent(), "three hundred retransmissions would keep the key frame waiting"


def test_a_lost_packet_of_a_picture_that_seldom_changes_is_asked_for(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True, timestamp=0)
    stage.now += 2
    stage.send(3, timestamp=180_000)
    stage.plane.tick(stage.now)
    compound = stage.publisher.read_rtcp()
    assert rtcp.parse_nack(compound, rtcp.split(compound)[1]) == [2]


@pytest.mark.parametrize("first", [("read_ready", "tick"), ("tick", "read_ready")])
def test_media_that_waited_while_the_process_stood_still_is_left_out(stage: Stage, first: tuple[str, str]) -> None:
    stage.video()
    relay = stage.socket.getsockname()
    stage.plane.tick(stage.now)
    stage.send(1, key=True)
    stage.subscriber.read(1)
    for number in range(2, BATCH + 20):
        stage.publisher.socket.sendto(stage.publisher.rtp(Stage.SSRC, number, vp8(False)), relay)
    stage.publisher.socket.sendto(STUN, relay)
    stage.now += 4
    for step in first:
        getattr(stage.plane, step)(0 if step == "read_ready" else stage.now)
    assert stage.dropped("standstill") == BATCH + 18
    assert len(of(ControlDatagram, stage.plane.drain())) == 1
    stage.publisher.socket.sendto(stage.publisher.rtp(Stage.SSRC, BATCH + 20, vp8(False)), relay)
    stage.plane.read_ready(0)
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, Stage.SSRC)]
    assert stage.subscriber.silent()


@pytest.mark.parametrize("order", [(13, 11), (11, 13)])
def test_a_key_frame_whose_first_packet_comes_late_is_used(stage: Stage, order: tuple[int, int]) -> None:
    """…and no other one is asked for; who saw all of it meanwhile gets nothing twice."""
    stage.video()
    other = stage.add_peer(3)
    stage.send(1, key=True)
    stage.plane.add_forward(2, 3, 1, ForwardSpec(52, None, 120, None, "m", HeaderExtensions(), 64))
    assert len(of(KeyFrameWanted, stage.plane.drain())) == 1
    for number in range(2, 11):
        stage.send(number)
    for number in (12, 14):
        stage.send(number, body=b"%d" % number)
    for number in order:
        packet = vp8(number == 11, b"%d" % number, start=number == 11)
        stage.feed(stage.publisher.rtp(Stage.RTX, number, number.to_bytes(2, "big") + packet, payload_type=97))
    stage.send(15, body=b"15")
    assert len(stage.subscriber.read(15)) == 15
    got = other.read(5)
    first = got[0].sequence_number
    assert [packet.sequence_number - first for packet in sorted(got, key=lambda one: one.sequence_number)] == [
        *range(5)
    ]
    assert (got[0].payload, got[-1].payload) == (vp8(True, b"11"), vp8(False, b"15"))
    assert stage.subscriber.silent()
    assert other.silent()
    stage.now += 0.6
    stage.plane.tick(stage.now)
    assert of(KeyFrameWanted, stage.plane.drain()) == []


def test_a_late_key_frame_from_before_an_outage_starts_nothing(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.send(3)
    stage.subscriber.read(2)
    stage.now += 4
    stage.send(900)
    stage.feed(stage.publisher.rtp(Stage.RTX, 1, (2).to_bytes(2, "big") + vp8(True), payload_type=97))
    stage.send(901)
    assert stage.subscriber.silent()


def test_a_viewer_who_lacks_what_is_forgotten_gets_a_key_frame_without_asking(stage: Stage) -> None:
    stage.video()
    for number in range(1, 20):
        stage.send(number, key=number == 1)
    base = stage.subscriber.read(19)[0].sequence_number
    stage.plane.drain()
    for step in range(100):
        stage.now += 0.02
        stage.send(20 + step)
        stage.plane.tick(stage.now)
    stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, base + 110)), stage.subscriber)
    assert of(KeyFrameWanted, stage.plane.drain()) == []
    stage.feed(stage.subscriber.rtcp(nack(Stage.OUT, base + 5)), stage.subscriber)
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, Stage.SSRC)]


def test_a_gap_that_stays_open_asks_for_a_key_frame(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True)
    stage.send(3)
    stage.plane.drain()
    wanted = []
    for step in range(40):
        stage.now += 0.02
        stage.send(4 + step)
        stage.plane.tick(stage.now)
        wanted += of(KeyFrameWanted, stage.plane.drain())
    assert wanted == [KeyFrameWanted(1, Stage.SSRC)]


# ---- a publisher that comes back ----


def test_a_reloaded_publisher_goes_on_in_the_same_forward(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True, timestamp=1000)
    again = stage.add_peer(3)
    stage.plane.add_track(3, 2, VIDEO)
    stage.plane.set_source(1, 2)
    stage.plane.bind_ssrc(3, 0x7777, 2)
    stage.now += 2
    stage.feed(again.rtp(0x7777, 40_000, vp8(True), timestamp=4_000_000_000), again)
    stage.feed(again.rtp(0x7777, 40_001, vp8(False), timestamp=4_000_003_000), again)
    old, first, second = stage.subscriber.read(3)
    assert [first.sequence_number - old.sequence_number, second.sequence_number - old.sequence_number] == [1, 2]
    assert (first.timestamp - old.timestamp) & 0xFFFFFFFF == 2 * 90_000
    assert (second.timestamp - first.timestamp) & 0xFFFFFFFF == 3000
    stage.plane.remove_track(1)


def test_a_second_primary_ssrc_replaces_the_first(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True, timestamp=1000)
    stage.plane.bind_ssrc(1, 0x7777, 1)
    stage.now += 0.5
    stage.send(2)
    stage.feed(stage.publisher.rtp(0x7777, 5, vp8(False)))
    assert of(KeyFrameWanted, stage.plane.drain()) == [KeyFrameWanted(1, 0x7777)]
    stage.feed(stage.publisher.rtp(0x7777, 6, vp8(True), timestamp=77))
    old, new = stage.subscriber.read(2)
    assert new.sequence_number == old.sequence_number + 1
    assert (new.timestamp - old.timestamp) & 0xFFFFFFFF == 45_000
    assert stage.dropped("replaced_ssrc") == 1


def test_a_forward_with_a_used_ssrc_goes_on_counting(stage: Stage) -> None:
    """A number used twice under one key would use the keystream twice."""
    stage.video()
    stage.send(1, key=True)
    (old,) = stage.subscriber.read(1)
    stage.plane.remove_forward(1)
    stage.plane.remove_forward(1)
    stage.plane.add_forward(2, 2, 1, stage.forward_spec())
    stage.send(2, key=True)
    (new,) = stage.subscriber.read(1)
    assert old.sequence_number < new.sequence_number <= old.sequence_number + 2


def test_a_removed_transport_leaves_nothing_behind(stage: Stage) -> None:
    """Its SRTP keys go at once, even while a forward waits for the publisher to come back."""
    stage.video()
    stage.send(1, key=True)
    state = stage.plane._transports[1]
    gc.collect()
    gc.disable()
    try:
        stage.plane.remove_transport(1)
        references = sys.getrefcount(state)
    finally:
        gc.enable()
    assert references == 2, "`state` and the argument of getrefcount"


def test_removing_a_transport_removes_all_that_hangs_on_it(stage: Stage) -> None:
    stage.video()
    stage.plane.remove_transport(2)
    stage.plane.remove_transport(2)
    stage.send(1, key=True)
    assert stage.plane.counters.forwarded == 0
    with pytest.raises(KeyError):
        stage.plane.forward_stats(1)
    stage.plane.remove_transport(1)
    stage.send(2)
    assert stage.dropped("unknown_source") == 1
    with pytest.raises(KeyError):
        stage.plane.add_forward(5, 1, 1, stage.forward_spec())


# ---- RTCP ----


def test_sender_reports_are_mapped_and_advanced(stage: Stage) -> None:
    stage.video()
    stage.send(1, key=True, timestamp=90_000)
    (sent,) = stage.subscriber.read(1)
    assert stage.plane.sender_report(1, stage.now) is None
    info = rtcp.SenderInfo(Stage.SSRC, 5 << 32, 90_000 + 450, 1, 100)
    stage.feed(stage.publisher.rtcp(rtcp.build_sender_report(info), rtcp.build_sdes(Stage.SSRC, "c")))
    payload = len(vp8(True))
    assert stage.plane.sender_report(1, stage.now + 1.5) == SenderReport(
        (5 << 32) + (3 << 31), (sent.timestamp + 450 + 135_000) & 0xFFFFFFFF, 1, payload
    )
    (record,) = of(Rtcp, stage.plane.drain())
    assert record.transport == 1
    assert [c.packet_type for c in rtcp.split(record.data)] == [rtcp.SR, rtcp.SDES]


def test_malformed_rtcp_is_counted(stage: Stage) -> None:
    stage.video()
    for bad in (
        b"\x80\xc9\x00\x09" + bytes(8),
        b"\x81\xcd\x00\x01\x00\x00\x00\x01",
        b"\x00\xc9\x00\x01\x00\x00\x00\x01",
    ):
        if bad[0] & 0xC0 != 0x80:
            continue
        stage.feed(stage.publisher.outbound.protect_rtcp(bad))
    assert of(Rtcp, stage.plane.drain()) == []
    assert stage.plane.counters.dropped == {"rtcp_length": 1, "rtcp_truncated": 1}


def test_rtcp_records_are_bounded(stage: Stage) -> None:
    for _ in range(1000):
        stage.feed(stage.publisher.rtcp(rtcp.build_receiver_report(5)))
    assert len(of(Rtcp, stage.plane.drain())) == 256
    assert stage.dropped("rtcp_flood") == 744


def test_send_rtcp_is_protected(stage: Stage) -> None:
    stage.plane.send_rtcp(2, rtcp.build_pli(1, 2))
    assert stage.subscriber.read_rtcp() == rtcp.build_pli(1, 2)
    stage.plane.send_raw(STUN, stage.subscriber.address)
    assert stage.subscriber.read_raw(1) == [STUN]


# ---- sending ----


def test_send_errors_never_raise(stage: Stage) -> None:
    stage.video()
    stage.plane.set_address(2, ("255.255.255.255", 9))  # broadcast is not allowed on this socket: EACCES
    stage.send(1, key=True)
    assert stage.dropped("send_error") == 1
    stage.plane.send_raw(STUN, ("127.0.0.1", 0))
    assert stage.dropped("send_error") == 2


def test_a_peer_without_a_listener_is_no_error(stage: Stage) -> None:
    stage.video()
    stage.subscriber.socket.close()
    for number in range(5):
        stage.send(number, key=number == 0)
        stage.plane.read_ready(0)  # ICMP errors would show up here
    stage.publisher.socket.sendto(stage.publisher.rtp(Stage.SSRC, 9, vp8(True)), stage.socket.getsockname())
    received = stage.plane.counters.received
    deadline = time.monotonic() + 5
    while stage.plane.counters.received == received and time.monotonic() < deadline:
        stage.plane.read_ready(0)
    assert stage.plane.counters.received == received + 1


def test_wrong_commands_are_refused(stage: Stage) -> None:
    stage.video()
    plane = stage.plane
    with pytest.raises(ValueError, match="not appear to be"):
        plane.set_address(1, ("host.example", 5))
    with pytest.raises(ValueError, match="port"):
        plane.set_address(1, ("127.0.0.1", 70_000))
    with pytest.raises(ValueError, match="exists"):
        plane.add_transport(1, stage.publisher.keys, IDS)
    with pytest.raises(ValueError, match="exists"):
        plane.add_track(1, 1, VIDEO)
    with pytest.raises(ValueError, match="exists"):
        plane.add_forward(1, 2, 1, stage.forward_spec())
    with pytest.raises(KeyError):
        plane.bind_ssrc(2, 5, 1)
    with pytest.raises(ValueError, match="layer"):
        plane.set_target(1, 2)
    plane.set_target(1, 0)
    with pytest.raises(ValueError, match="profile"):
        plane.add_transport(9, type(stage.publisher.keys)(0x0002, b"", b""), IDS)
    with pytest.raises(ValueError, match="bytes of key"):
        plane.add_transport(9, type(stage.publisher.keys)(0x0008, b"short", b"short"), IDS)


def test_ipv6(stage: Stage) -> None:
    relay = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        relay.bind(("::1", 0))
    except OSError:
        relay.close()
        return  # this machine has no IPv6
    peer = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    peer.bind(("::1", 0))
    plane = PythonPlane([relay], time.monotonic)
    plane.add_transport(1, stage.publisher.keys, IDS)
    plane.set_address(1, peer.getsockname()[:2])
    peer.sendto(stage.publisher.rtp(5, 1, b"x"), relay.getsockname())
    deadline = time.monotonic() + 5
    while not plane.counters.received and time.monotonic() < deadline:
        plane.read_ready(0)
    assert plane.counters.dropped == {"unbound_ssrc": 1}
    relay.close()
    peer.close()


# ---- random input ----


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), known=st.booleans())
def test_no_datagram_raises(stage: Stage, data: bytes, known: bool) -> None:
    address = stage.publisher.address if known else ("192.0.2.7", 7)
    stage.plane.on_datagram(data, address, 0, stage.now)
    stage.plane.drain()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plain=st.one_of(
        st.binary(min_size=12, max_size=200).map(lambda b: bytes([0x80 | b[0] & 0x3F]) + b[1:]),
        st.builds(
            lambda rest, at, bit: _mutate(_VALID + rest, at, bit),
            st.binary(max_size=40),
            st.integers(0, 60),
            st.integers(0, 7),
        ),
    ),
    ssrc=st.sampled_from([Stage.SSRC, Stage.RTX, 0x5555]),
)
def test_no_authentic_packet_raises(stage: Stage, plain: bytes, ssrc: int) -> None:
    """What an authenticated peer sends is just as hostile as the rest."""
    if not stage.plane.stream_stats(1):
        stage.video()
    number = stage.publisher.transport_sequence = stage.publisher.transport_sequence + 1
    if 192 <= plain[1] <= 223:
        plain = plain[:1] + b"\x60" + plain[2:]
    plain = plain[:2] + (number & 0xFFFF).to_bytes(2, "big") + plain[4:8] + ssrc.to_bytes(4, "big") + plain[12:]
    try:
        data = stage.publisher.outbound.protect(plain)
    except SrtpError:  # libsrtp refuses to protect a broken header
        return
    received = stage.plane.counters.received
    stage.feed(data)
    stage.plane.tick(stage.now)
    stage.plane.drain()
    stage.now += 0.001
    assert stage.plane.counters.received == received + 1
    assert "srtp_auth" not in stage.plane.counters.dropped


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(
        st.tuples(st.integers(0, 63), st.integers(198, 208), st.binary(max_size=60), st.booleans(), st.integers(-1, 1)),
        min_size=1,
        max_size=4,
    )
)
def test_no_authentic_rtcp_raises(stage: Stage, chunks: list[tuple[int, int, bytes, bool, int]]) -> None:
    if not stage.plane.stream_stats(1):
        stage.video()
        stage.send(1, key=True)
    compound = b""
    for bits, kind, body, ours, wrong in chunks:
        body = (Stage.SSRC if ours else 1).to_bytes(4, "big") + Stage.OUT.to_bytes(4, "big") + body
        body = body[: len(body) // 4 * 4]
        compound += bytes((0x80 | bits, kind)) + max(0, len(body) // 4 + wrong).to_bytes(2, "big") + body
    for peer in (stage.publisher, stage.subscriber):
        stage.feed(peer.rtcp(compound), peer)
    stage.plane.tick(stage.now)
    for record in of(Rtcp, stage.plane.drain()):
        assert rtcp.split(record.data)
    stage.now += 0.01


_VALID = packets.build_rtp(
    payload_type=96,
    sequence_number=5,
    timestamp=7,
    ssrc=Stage.SSRC,
    payload=vp8(True),
    extensions=((IDS.mid, b"1"), (IDS.transport_cc, b"\0\1"), (IDS.audio_level, b"\x55")),
    padding=5,
)


def _mutate(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(changed)] ^= 1 << bit
    changed[0] = 0x80 | changed[0] & 0x3F
    return bytes(changed)


def test_audio_is_forwarded_under_the_ids_of_the_subscriber(stage: Stage) -> None:
    stage.plane.add_track(1, 1, AUDIO)
    stage.plane.bind_ssrc(1, 5, 1)
    stage.plane.add_forward(1, 2, 1, stage.forward_spec(rtx=False))
    stage.feed(stage.publisher.rtp(5, 1, b"opus", payload_type=111, extensions=((IDS.audio_level, b"\x7f"),)))
    (packet,) = stage.subscriber.read(1)
    assert packet.extensions == {SUBSCRIBER_IDS.mid: b"7", SUBSCRIBER_IDS.transport_cc: b"\0\0", 1: b"\x7f"}
    assert packet.payload == b"opus"
