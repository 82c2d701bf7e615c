"""RTCP that the relay writes itself, and what it learns from the peers'; pure, `now` is passed in.

* `ArrivalLog`: transport-cc feedback to a publisher from the plane's arrival records.
* `ReceiverReports`: RFC 3550 report blocks to a publisher, with LSR and DLSR.
* `RoundTrips`: the round trip time from a subscriber's report blocks.
* `Meter`: differences of cumulative counters, for the quality samples.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from media import rtcp, twcc
from media.plane import SenderReport, StreamStats

# Arrivals stay so long that a packet that comes late can be reported together with its neighbours (libwebrtc
# keeps as much).
_ARRIVALS_KEPT_US = 500_000
_ARRIVALS_MAX = 4096
# At 3000 packets/s 50 ms are 150 numbers. One who jumps further would make the relay write long reports about
# packets that never were: the log begins anew instead.
_SPAN_MAX = 8192
# After an outage of the path, or a standstill of this process, it begins anew too: that nothing came says nothing about
# what the path can carry, and a publisher told of a thousand lost packets would start over with a postage stamp.
_OUTAGE_US = 1_000_000
_REPORTS_KEPT = 64
_BLOCKS_MAX = 31


class ArrivalLog:
    """The arrival times of one publishing transport, and the feedback about them
    (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1)."""

    def __init__(self, sender_ssrc: int) -> None:
        self._sender_ssrc = sender_ssrc
        self._count = 0
        # extended sequence number → arrival in µs
        self._arrivals: dict[int, int] = {}
        self._highest: int | None = None
        self._newest_us = 0
        # the lowest number that has to be in the next feedback, None = nothing new
        self._from: int | None = None
        self._reported: int | None = None  # the highest number that was reported

    def add(self, sequence_number: int, arrival_us: int) -> None:
        """A packet came. `sequence_number` is on the wire's 16 bits or extended."""
        # One cycle above zero, so that what was sent before the first arrival has a number too.
        highest = sequence_number + 0x10000 if self._highest is None else self._highest
        extended = highest + ((sequence_number - highest + 0x8000) & 0xFFFF) - 0x8000
        if extended in self._arrivals or extended < highest - _SPAN_MAX:
            return
        outage = self._highest is not None and arrival_us - self._newest_us > _OUTAGE_US
        self._newest_us = max(self._newest_us, arrival_us)
        if outage or extended - (highest if self._from is None else self._from) > _SPAN_MAX:
            self._arrivals.clear()
            self._from = self._reported = None
        self._arrivals[extended] = arrival_us
        self._highest = max(highest, extended)
        self._from = extended if self._from is None else min(self._from, extended)

    def feedback(self, media_ssrc: int) -> list[bytes]:
        """The feedback packets about everything new; empty when nothing came."""
        if self._from is None:
            return []
        # It starts with the last number of the report before, so that a loss in between shows as a gap.
        start = self._from if self._reported is None else min(self._from, self._reported)
        self._from = None
        self._reported = self._highest
        pending = [(number, self._arrivals[number]) for number in sorted(self._arrivals) if number >= start]
        packets = []
        while pending:
            packet, used = twcc.build(self._sender_ssrc, media_ssrc, self._count & 0xFF, pending)
            self._count += 1
            packets.append(packet)
            if used == 0:
                break
            pending = pending[used:]
        self._forget()
        return packets

    def _forget(self) -> None:
        newest = max(self._arrivals.values())
        kept = [(n, at) for n, at in self._arrivals.items() if newest - at <= _ARRIVALS_KEPT_US]
        assert self._highest is not None
        self._arrivals = dict(kept[-_ARRIVALS_MAX:])
        # The last reported number starts the next feedback.
        self._arrivals.setdefault(self._highest, newest)


@dataclass(slots=True)
class _LastReport:
    ntp: int
    at: float


class ReceiverReports:
    """Report blocks about the streams of one publishing transport."""

    def __init__(self, sender_ssrc: int) -> None:
        self._sender_ssrc = sender_ssrc
        self._sender_reports: OrderedDict[int, _LastReport] = OrderedDict()
        self._expected: dict[int, tuple[int, int]] = {}  # ssrc → (highest, lost) of the last report

    def sender_report(self, info: rtcp.SenderInfo, now: float) -> None:
        """The publisher's SR of one SSRC came."""
        self._sender_reports[info.ssrc] = _LastReport(info.ntp, now)
        self._sender_reports.move_to_end(info.ssrc)
        if len(self._sender_reports) > _REPORTS_KEPT:
            self._sender_reports.popitem(last=False)

    def build(self, streams: dict[int, StreamStats], now: float) -> bytes:
        """One compound: RR and SDES. `streams` by SSRC; only those that have received anything are named."""
        blocks = []
        for ssrc, stats in list(streams.items())[:_BLOCKS_MAX]:
            if stats.packets == 0:
                continue
            last = self._sender_reports.get(ssrc)
            lsr = dlsr = 0
            if last is not None:
                lsr = last.ntp >> 16 & 0xFFFFFFFF
                dlsr = min(int((now - last.at) * 65536), 0xFFFFFFFF)
            blocks.append(
                rtcp.ReportBlock(
                    ssrc=ssrc,
                    fraction_lost=self._fraction_lost(ssrc, stats),
                    packets_lost=stats.packets_lost,
                    highest_sequence=stats.highest_sequence,
                    jitter=int(stats.jitter),
                    lsr=lsr,
                    dlsr=dlsr,
                )
            )
        self._expected = {ssrc: self._expected[ssrc] for ssrc in streams if ssrc in self._expected}
        return rtcp.build_receiver_report(self._sender_ssrc, blocks) + rtcp.build_sdes(self._sender_ssrc, "relay")

    def _fraction_lost(self, ssrc: int, stats: StreamStats) -> int:
        """RFC 3550 A.3: of 256, over the interval since the last report."""
        highest, lost = self._expected.get(ssrc, (stats.highest_sequence, stats.packets_lost))
        self._expected[ssrc] = (stats.highest_sequence, stats.packets_lost)
        expected = stats.highest_sequence - highest
        newly_lost = stats.packets_lost - lost
        if expected <= 0 or newly_lost <= 0:
            return 0
        return min(255, newly_lost * 256 // expected)


class RoundTrips:
    """Sender reports to one subscriber and the round trip time that its report blocks give (RFC 3550 section
    6.4.1: now − LSR − DLSR, here with the time at which the report was sent instead of its NTP time, which is
    the publisher's)."""

    def __init__(self) -> None:
        self._sent_at: OrderedDict[tuple[int, int], float] = OrderedDict()
        self.rtt_s: float | None = None

    def report(self, ssrc: int, info: SenderReport, now: float) -> bytes:
        """The SR and SDES of one forward."""
        self._sent_at[(ssrc, info.ntp >> 16 & 0xFFFFFFFF)] = now
        if len(self._sent_at) > _REPORTS_KEPT:
            self._sent_at.popitem(last=False)
        sender = rtcp.SenderInfo(ssrc, info.ntp, info.rtp, info.packets, info.octets)
        return rtcp.build_sender_report(sender) + rtcp.build_sdes(ssrc, "relay")

    def block(self, block: rtcp.ReportBlock, now: float) -> float | None:
        """A report block of the subscriber came; returns the round trip time in seconds when it tells one."""
        sent_at = self._sent_at.get((block.ssrc, block.lsr)) if block.lsr else None
        if sent_at is None:
            return None
        measured = now - sent_at - block.dlsr / 65536
        if not 0 <= measured <= 10:  # a peer that reports nonsense
            return None
        # RFC 6298's gain: one late report does not make a slow path.
        self.rtt_s = measured if self.rtt_s is None else self.rtt_s + (measured - self.rtt_s) / 8
        return self.rtt_s


@dataclass(frozen=True, slots=True)
class Interval:
    """What a stream did between two looks."""

    packets: int
    bytes: int
    lost: int
    loss: float  # 0..1
    jitter_ms: float | None


class Meter:
    """Differences of a stream's cumulative counters."""

    def __init__(self) -> None:
        self._packets = self._bytes = self._lost = 0

    def take(self, stats: StreamStats, clock_rate_hz: int) -> Interval:
        packets, octets = stats.packets - self._packets, stats.bytes - self._bytes
        lost = max(0, stats.packets_lost - self._lost)
        if packets < 0:  # the source was replaced and its counters began anew
            packets, octets, lost = stats.packets, stats.bytes, max(0, stats.packets_lost)
        self._packets, self._bytes, self._lost = stats.packets, stats.bytes, stats.packets_lost
        expected = packets + lost
        return Interval(
            packets=packets,
            bytes=octets,
            lost=lost,
            loss=lost / expected if expected > 0 else 0.0,
            jitter_ms=stats.jitter * 1000 / clock_rate_hz if packets else None,
        )
