"""The RTCP that the relay writes, and what it learns from the peers'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import rtcp, twcc
from media.plane import SenderReport, StreamStats
from media.reports import ArrivalLog, Meter, ReceiverReports, RoundTrips


def parsed(packet: bytes) -> twcc.Feedback:
    (chunk,) = rtcp.split(packet)
    return twcc.parse(packet, chunk)


def received(packets: list[bytes]) -> dict[int, bool]:
    """sequence number → whether it came, as the publisher reads the feedback; received once is received."""
    found: dict[int, bool] = {}
    for packet in packets:
        for number, at in parsed(packet).packets:
            found[number] = found.get(number, False) or at is not None
    return found


class TestArrivalLog:
    def test_nothing_new_says_nothing(self) -> None:
        log = ArrivalLog(1)
        assert log.feedback(2) == []
        log.add(5, 1000)
        assert len(log.feedback(2)) == 1
        assert log.feedback(2) == []

    def test_a_loss_between_two_reports_is_reported(self) -> None:
        log = ArrivalLog(1)
        log.add(10, 1_000)
        first = log.feedback(2)
        log.add(13, 51_000)
        second = log.feedback(2)
        assert received(first) == {10: True}
        assert received(second) == {10: True, 11: False, 12: False, 13: True}
        assert parsed(second[0]).feedback_count == 1

    def test_a_late_packet_is_reported_with_its_neighbours(self) -> None:
        log = ArrivalLog(1)
        for number in (1, 2, 4, 5):
            log.add(number, number * 1000)
        assert received(log.feedback(2))[3] is False
        log.add(3, 9_000)
        assert received(log.feedback(2)) == {3: True, 4: True, 5: True}

    def test_what_an_outage_swallowed_is_not_reported_as_lost(self) -> None:
        log = ArrivalLog(1)
        log.add(10, 1_000)
        log.feedback(2)
        log.add(1400, 4_001_000)
        log.add(1402, 4_002_000)
        assert received(log.feedback(2)) == {1400: True, 1401: False, 1402: True}

    def test_the_numbers_wrap(self) -> None:
        log = ArrivalLog(1)
        for index, number in enumerate((65534, 65535, 0, 1)):
            log.add(number, index * 1000)
        assert received(log.feedback(2)) == {65534: True, 65535: True, 0: True, 1: True}

    @given(
        st.lists(st.integers(0, 400), min_size=1, max_size=80),
        st.integers(0, 65535),
        st.sets(st.integers(0, 79)),
    )
    def test_every_arrival_is_reported_once_it_came(self, offsets: list[int], base: int, flushes: set[int]) -> None:
        """Any order, doubles, and feedback at any moment."""
        log = ArrivalLog(1)
        packets: list[bytes] = []
        for index, offset in enumerate(offsets):
            log.add((base + offset) & 0xFFFF, 1_000_000 + index * 700)
            if index in flushes:
                packets += log.feedback(2)
        packets += log.feedback(2)
        came = {(base + offset) & 0xFFFF for offset in offsets}
        seen = received(packets)
        assert {number for number, here in seen.items() if here} == came

    def test_jumping_numbers_make_no_long_reports(self) -> None:
        log = ArrivalLog(1)
        for index in range(200):
            log.add(index * 30_011 & 0xFFFF, index * 100)
        packets = log.feedback(2)
        assert sum(len(parsed(packet).packets) for packet in packets) <= 8193

    def test_memory_is_bounded(self) -> None:
        log = ArrivalLog(1)
        for number in range(100_000):
            log.add(number & 0xFFFF, number * 100)
            if number % 500 == 0:
                log.feedback(2)
        assert len(log._arrivals) < 6000


class TestReceiverReports:
    def stats(self, **values: float) -> StreamStats:
        stats = StreamStats()
        for name, value in values.items():
            setattr(stats, name, value)
        return stats

    def blocks(self, compound: bytes) -> list[rtcp.ReportBlock]:
        report, description = rtcp.split(compound)
        assert (report.packet_type, description.packet_type) == (rtcp.RR, rtcp.SDES)
        return rtcp.parse_report_blocks(compound, report)

    def test_the_blocks_name_loss_and_the_last_sender_report(self) -> None:
        reports = ReceiverReports(9)
        self.blocks(reports.build({7: self.stats(packets=100, highest_sequence=1100)}, now=1.0))
        reports.sender_report(rtcp.SenderInfo(7, 0x1122334455667788, 0, 0, 0), now=2.0)
        later = self.stats(packets=190, highest_sequence=1200, packets_lost=10, jitter=33.7)
        (block,) = self.blocks(reports.build({7: later}, now=2.5))
        assert block.ssrc == 7
        assert block.fraction_lost == 25  # 10 of 100, of 256
        assert (block.packets_lost, block.highest_sequence, block.jitter) == (10, 1200, 33)
        assert block.lsr == 0x33445566
        assert block.dlsr == pytest.approx(0.5 * 65536, abs=1)

    def test_a_stream_without_packets_and_sender_reports(self) -> None:
        reports = ReceiverReports(9)
        silent, heard = self.stats(), self.stats(packets=1, highest_sequence=5)
        (block,) = self.blocks(reports.build({1: silent, 2: heard}, now=1.0))
        assert (block.ssrc, block.lsr, block.dlsr, block.fraction_lost) == (2, 0, 0, 0)

    def test_a_flood_of_sender_reports_is_bounded(self) -> None:
        reports = ReceiverReports(9)
        for ssrc in range(1000):
            reports.sender_report(rtcp.SenderInfo(ssrc, 1, 1, 1, 1), now=1.0)
        assert len(reports._sender_reports) <= 64


class TestRoundTrips:
    def test_the_round_trip_is_what_is_left_of_the_time_after_the_delay(self) -> None:
        trips = RoundTrips()
        compound = trips.report(7, SenderReport(ntp=0xAABBCCDDEEFF0011, rtp=1, packets=2, octets=3), now=10.0)
        report, _ = rtcp.split(compound)
        assert rtcp.parse_sender_report(compound, report).ssrc == 7
        block = rtcp.ReportBlock(7, 0, 0, 0, 0, lsr=0xCCDDEEFF, dlsr=65536)
        assert trips.block(block, 11.08) == pytest.approx(0.08)

    @pytest.mark.parametrize(
        "block",
        [
            rtcp.ReportBlock(7, 0, 0, 0, 0, lsr=0, dlsr=0),
            rtcp.ReportBlock(8, 0, 0, 0, 0, lsr=1, dlsr=0),
            rtcp.ReportBlock(7, 0, 0, 0, 0, lsr=1, dlsr=0xFFFFFFFF),
        ],
    )
    def test_nonsense_is_not_a_round_trip(self, block: rtcp.ReportBlock) -> None:
        trips = RoundTrips()
        trips.report(7, SenderReport(1 << 16, 1, 2, 3), now=10.0)
        assert trips.block(block, 10.1) is None
        assert trips.rtt_s is None


class TestMeter:
    def test_it_gives_the_differences(self) -> None:
        meter = Meter()
        meter.take(StreamStats(packets=10, bytes=1000, packets_lost=1), 90_000)
        taken = meter.take(StreamStats(packets=100, bytes=9000, packets_lost=11, jitter=900), 90_000)
        assert (taken.packets, taken.bytes, taken.lost) == (90, 8000, 10)
        assert taken.loss == pytest.approx(0.1)
        assert taken.jitter_ms == pytest.approx(10)

    def test_a_replaced_source_begins_anew(self) -> None:
        meter = Meter()
        meter.take(StreamStats(packets=1000, bytes=1000), 90_000)
        assert meter.take(StreamStats(packets=5, bytes=50), 90_000).packets == 5

    def test_silence_has_no_jitter_and_no_loss(self) -> None:
        taken = Meter().take(StreamStats(), 48_000)
        assert (taken.loss, taken.jitter_ms) == (0.0, None)
