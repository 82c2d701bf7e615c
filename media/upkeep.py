"""What a relay does by the clock while there are connections: NACKs every 20 ms, transport-cc feedback every
50 ms, reports and liveness every second, quality samples every 5 s."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from media import rtcp
from media.api import QualitySample, Track
from media.connection import Core
from media.packets import MalformedPacket
from media.plane import Arrivals, Rtcp, StreamStats
from media.publication import Publication
from media.room_state import Owner
from media.rooms import Rooms
from media.subscription import Forward, Subscription

log = logging.getLogger(__name__)

TICK_S = 0.02
_FEEDBACK_S = 0.05
_REPORT_S = 1.0
_IDLE_S = 1.0
_CLOCK_RATES_HZ = {"audio": 48000, "video": 90000}


class Upkeep:
    """`drain` handles what the plane has recorded; it runs after every tick too."""

    def __init__(self, core: Core, rooms: Rooms, drain: Callable[[], None]) -> None:
        self._core = core
        self._rooms = rooms
        self._drain = drain
        # publications whose packets came since the last feedback, by transport
        self._fed: dict[int, Publication] = {}
        now = core.clock()
        self._feedback_due = self._report_due = now
        self._quality_at = now

    async def run(self) -> None:
        """Until cancelled. Without connections it only looks after idle rooms, once a second."""
        while True:
            if self._rooms.owners:
                await asyncio.sleep(TICK_S)
            else:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        await self._rooms.joined.wait()
                except TimeoutError:
                    pass
            try:
                self.tick(self._core.clock())
            except Exception:
                # One peer's trouble must not stop the clock of all others.
                self._core.dropped["upkeep_error"] += 1
                log.exception("upkeep")

    def tick(self, now: float) -> None:
        self._core.plane.tick(now)
        self._drain()
        self._rooms.flush_offers(now)
        if now >= self._feedback_due:
            self._feedback_due = now + _FEEDBACK_S
            self._send_feedback()
        if now >= self._report_due:
            self._report_due = now + _REPORT_S
            self._send_reports(now)
            self._check_liveness(now)
            self._rooms.expire(now)
        if now - self._quality_at >= self._core.settings.quality_interval_s:
            interval_s, self._quality_at = now - self._quality_at, now
            self._sample(interval_s)

    # ---- what the plane recorded ----

    def arrived(self, record: Arrivals) -> None:
        owner = self._rooms.owners.get(record.transport)
        if owner is not None and owner.publication is not None:
            for sequence_number, arrival_us in record.packets:
                owner.publication.arrivals.add(sequence_number, arrival_us)
            self._fed[record.transport] = owner.publication

    def reported(self, record: Rtcp) -> None:
        """A peer's RTCP: sender reports of publishers, report blocks of subscribers."""
        owner = self._rooms.owners.get(record.transport)
        if owner is None:
            return
        try:
            for chunk in rtcp.split(record.data):
                if chunk.packet_type == rtcp.SR and owner.publication is not None:
                    info = rtcp.parse_sender_report(record.data, chunk)
                    owner.publication.reports.sender_report(info, record.received_at)
                if chunk.packet_type in (rtcp.SR, rtcp.RR) and owner.subscription is not None:
                    for block in rtcp.parse_report_blocks(record.data, chunk):
                        self._block(owner, owner.subscription, block, record.received_at)
        except MalformedPacket as error:
            self._core.dropped[error.reason] += 1

    def _block(self, owner: Owner, subscription: Subscription, block: rtcp.ReportBlock, received_at: float) -> None:
        forward = subscription.forward_of(block.ssrc)
        if forward is None:
            return
        forward.block = block
        rtt_s = subscription.round_trips.block(block, received_at)
        if rtt_s is None:
            return
        # Both connections of a browser take the same way, and a publisher's reports tell the relay no round
        # trip.
        for connection in owner.participant.connections:
            connection.rtt_s = rtt_s
            if connection.installed:
                self._core.plane.set_rtt(connection.number, rtt_s)

    # ---- by the clock ----

    def _publications(self) -> list[Publication]:
        owners = self._rooms.owners.values()
        return [one.publication for one in owners if one.publication is not None and one.connection.installed]

    def _subscriptions(self) -> list[tuple[Owner, Subscription]]:
        owners = self._rooms.owners.values()
        return [(one, one.subscription) for one in owners if one.subscription is not None and one.connection.installed]

    def _send_feedback(self) -> None:
        fed, self._fed = self._fed, {}
        for publication in fed.values():
            if not publication.connection.installed:
                continue
            ssrc = next((one.ssrc for one in publication.sections.values() if one.ssrc is not None), 0)
            for packet in publication.arrivals.feedback(ssrc):
                self._core.plane.send_rtcp(publication.connection.number, packet)

    def _send_reports(self, now: float) -> None:
        plane = self._core.plane
        for publication in self._publications():
            number = publication.connection.number
            streams = {ssrc: stats for ssrc, (_, stats) in plane.stream_stats(number).items()}
            plane.send_rtcp(number, publication.reports.build(streams, now))
        for _, subscription in self._subscriptions():
            for forward in subscription.forwards.values():
                info = plane.sender_report(forward.number, now)
                if info is not None:
                    report = subscription.round_trips.report(forward.ssrc, info, now)
                    plane.send_rtcp(subscription.connection.number, report)

    def _check_liveness(self, now: float) -> None:
        for owner in list(self._rooms.owners.values()):
            connection = owner.connection
            media_at = 0.0
            if connection.installed:
                streams = self._core.plane.stream_stats(connection.number).values()
                media_at = max((stats.last_packet_at for _, stats in streams), default=0.0)
            if not connection.check_liveness(now, media_at):
                connection.abandon()

    # ---- quality ----

    def _sample(self, interval_s: float) -> None:
        for publication in self._publications():
            owner = self._rooms.owners[publication.connection.number]
            self._sample_publication(owner, publication, interval_s)
        for owner, subscription in self._subscriptions():
            for forward in subscription.forwards.values():
                self._sample_forward(owner, subscription, forward, interval_s)

    def _sample_publication(self, owner: Owner, publication: Publication, interval_s: float) -> None:
        streams = self._core.plane.stream_stats(publication.connection.number)
        for section in publication.sections.values():
            seen = streams.get(section.ssrc) if section.ssrc is not None else None
            if seen is None or section.plane_track is None or not section.started:
                continue
            spec = section.incoming.spec
            taken = publication.meters[section.plane_track].take(seen[1], spec.clock_rate_hz)
            rtt_s = publication.connection.rtt_s
            self._rooms.emit(
                QualitySample(
                    room=owner.room.id,
                    participant=owner.participant.id,
                    direction="publish",
                    kind=spec.kind,
                    source=section.source,
                    codec=spec.codec,
                    interval_ms=round(interval_s * 1000),
                    bitrate_bps=round(taken.bytes * 8 / interval_s),
                    packets=taken.packets,
                    packets_lost=taken.lost,
                    loss=taken.loss,
                    jitter_ms=taken.jitter_ms,
                    rtt_ms=None if rtt_s is None else rtt_s * 1000,
                )
            )

    def _sample_forward(self, owner: Owner, subscription: Subscription, forward: Forward, interval_s: float) -> None:
        track: Track = forward.track
        stats: StreamStats = self._core.plane.forward_stats(forward.number)
        clock_rate_hz = _CLOCK_RATES_HZ[track.kind]
        taken = forward.meter.take(stats, clock_rate_hz)
        lost, loss, jitter_ms = _reported_loss(forward, clock_rate_hz)
        rtt_s = subscription.round_trips.rtt_s
        self._rooms.emit(
            QualitySample(
                room=owner.room.id,
                participant=owner.participant.id,
                direction="subscribe",
                kind=track.kind,
                source=track.source,
                codec=track.codec,
                interval_ms=round(interval_s * 1000),
                bitrate_bps=round(taken.bytes * 8 / interval_s),
                packets=taken.packets,
                packets_lost=lost,
                loss=loss,
                jitter_ms=jitter_ms,
                rtt_ms=None if rtt_s is None else rtt_s * 1000,
            )
        )


def _reported_loss(forward: Forward, clock_rate_hz: int) -> tuple[int, float, float | None]:
    """(packets lost, share of loss, jitter in ms) that the subscriber reported since the last sample."""
    block, before = forward.block, forward.measured_block
    forward.measured_block = block
    if block is None:
        return 0, 0.0, None
    jitter_ms = block.jitter * 1000 / clock_rate_hz
    if before is None:
        return max(0, block.packets_lost), 0.0, jitter_ms
    lost = max(0, block.packets_lost - before.packets_lost)
    expected = (block.highest_sequence - before.highest_sequence) & 0xFFFFFFFF
    return lost, min(1.0, lost / expected) if expected else 0.0, jitter_ms
