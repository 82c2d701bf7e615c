"""One received RTP source: extended sequence numbers, duplicates, losses to ask again for, RFC 3550
statistics. Pure.

`ReceiveStream.receive` is called once per packet, `due_nacks` every 20 ms; both take `now`.
"""

from __future__ import annotations

from typing import Final

from media.plane import StreamStats

DUPLICATE: Final = -1
TOO_OLD: Final = -2
SUSPICIOUS: Final = -3  # far from the sequence so far; accepted when the next number follows (RFC 3550 A.1)

_WINDOW: Final = 2048  # how late a packet may come, in sequence numbers
_MASK: Final = _WINDOW - 1
_MAX_DROPOUT: Final = 3000  # RFC 3550 A.1
# A hole of this size or age is not repaired: the retransmissions would fill the link that just came back, and a key
# frame is there sooner. A few packets are always asked for, because of a picture that changes only now and then.
_MAX_MISSING: Final = 512
_MAX_AGE_S: Final = 0.5
_FEW: Final = 8
_MAX_TRIES: Final = 10
_MIN_RETRY_S: Final = 0.02
_BACKOFF: Final = 1.25


class _Missing:
    __slots__ = ("next_at", "since", "tries")

    def __init__(self, now: float) -> None:
        self.since = now
        self.next_at = now
        self.tries = 0


class ReceiveStream:
    """The state of one received SSRC. Extended sequence numbers start between 65,536 and 131,071.

    discontinuity: the last `receive` ended a hole that will not be repaired (too large, too old, or a restart
    of the numbering); the caller handles it and need not reset it. broken: a packet was given up; video needs
    a key frame. opened: there is a new hole to ask for. The caller resets these two.
    """

    __slots__ = (
        "_base",
        "_clock_rate_hz",
        "_missing",
        "_nack",
        "_originals",
        "_probation",
        "_seen",
        "_transit",
        "broken",
        "discontinuity",
        "highest",
        "opened",
        "ssrc",
        "stats",
    )

    def __init__(self, ssrc: int, clock_rate_hz: int, *, nack: bool) -> None:
        self.ssrc = ssrc
        self.stats = StreamStats()
        self.highest = -1
        self.discontinuity = False
        self.broken = False
        self.opened = False
        self._clock_rate_hz = clock_rate_hz
        self._nack = nack
        self._base = -1
        self._originals = 0
        self._probation = -1
        self._transit = -1
        self._seen = [-1] * _WINDOW
        self._missing: dict[int, _Missing] = {}

    def receive(self, sequence_number: int, timestamp: int, size: int, now: float, retransmitted: bool = False) -> int:
        """Take in one packet of `size` bytes. Returns its extended sequence number, or DUPLICATE, TOO_OLD,
        SUSPICIOUS (all negative): then it is to be dropped. `retransmitted`: it came on an RTX stream (RFC
        4588)."""
        highest = self.highest
        stats = self.stats
        self.discontinuity = False
        delta = (sequence_number - highest) & 0xFFFF
        if delta == 1 and highest >= 0:
            extended = highest + 1
        elif highest < 0:
            if retransmitted:
                return TOO_OLD  # a probe with old content; where the stream stands is not known yet
            extended = 0x10000 + sequence_number
            self._base = extended
        elif 0 < delta <= _MAX_DROPOUT:
            extended = highest + delta
            self._open_gap(highest + 1, extended, timestamp, now)
        elif delta == 0 or delta > 0x10000 - _WINDOW:
            return self._receive_late(highest - (-delta & 0xFFFF), size, now, retransmitted)
        elif retransmitted:
            return TOO_OLD
        elif sequence_number == self._probation:
            extended = highest + delta
            self._restart(extended)
        else:
            self._probation = (sequence_number + 1) & 0xFFFF
            return TOO_OLD if delta >= 0x8000 else SUSPICIOUS
        self.highest = extended
        self._seen[extended & _MASK] = extended
        stats.bytes += size
        stats.last_packet_at = now
        if retransmitted:
            stats.retransmitted += 1
            return extended
        self._originals += 1
        # RFC 3550 A.8, modulo 2³² because both clocks wrap
        transit = (int(now * self._clock_rate_hz) - timestamp) & 0xFFFFFFFF
        if self._transit >= 0:
            distance = (transit - self._transit) & 0xFFFFFFFF
            if distance > 0x7FFFFFFF:
                distance = 0x100000000 - distance
            stats.jitter += (distance - stats.jitter) * 0.0625
        self._transit = transit
        stats.last_rtp_timestamp = timestamp
        return extended

    def _receive_late(self, extended: int, size: int, now: float, retransmitted: bool) -> int:
        if self._seen[extended & _MASK] == extended:
            return DUPLICATE
        self._seen[extended & _MASK] = extended
        self._missing.pop(extended, None)
        stats = self.stats
        stats.bytes += size
        stats.last_packet_at = now
        if retransmitted:
            stats.retransmitted += 1
        else:
            self._originals += 1
            self._base = min(self._base, extended)
        return extended

    def _open_gap(self, first: int, end: int, timestamp: int, now: float) -> None:
        if not self._nack and end - first <= _MAX_MISSING:
            return
        # By the clock, and by the media's own: after a standstill of this process the last packets before the hole
        # may have waited in the socket and been read only now.
        skipped = (timestamp - self.stats.last_rtp_timestamp) & 0xFFFFFFFF
        old = now - self.stats.last_packet_at > _MAX_AGE_S or (
            _MAX_AGE_S * self._clock_rate_hz < skipped < 0x80000000 and self._originals > 0
        )
        if end - first + len(self._missing) > _MAX_MISSING or (old and end - first > _FEW):
            self._missing.clear()
            self.discontinuity = True
            return
        for extended in range(first, end):
            self._missing[extended] = _Missing(now)
        self.opened = True

    def _restart(self, extended: int) -> None:
        # The numbers in between were never sent: they are no loss.
        self._base += extended - 1 - self.highest
        self._missing.clear()
        self._probation = -1
        self._transit = -1
        self.discontinuity = True

    @property
    def missing(self) -> int:
        """How many packets are being asked for."""
        return len(self._missing)

    def hole_before(self, extended: int) -> int:
        """Where the hole begins that ends before `extended`; `extended` itself when there is none."""
        missing = self._missing
        while extended - 1 in missing:
            extended -= 1
        return extended

    def forget_before(self, extended: int) -> None:
        """What is missing before `extended` is not needed any more: a key frame starts there."""
        if not self._missing:
            return
        for old in [e for e in self._missing if e < extended]:
            del self._missing[old]

    def due_nacks(self, now: float, rtt_s: float) -> list[int]:
        """The sequence numbers (16 bits, ascending) to ask for now. Each is asked for at once, then after one
        round trip, 1.25 times that, …, until it is given up after 10 tries or 500 ms: then `broken` is
        set."""
        if not self._missing:
            return []
        due = []
        for extended, missing in list(self._missing.items()):
            if missing.tries >= _MAX_TRIES or now - missing.since >= _MAX_AGE_S:
                del self._missing[extended]
                self.broken = True
            elif now >= missing.next_at:
                missing.next_at = now + max(rtt_s, _MIN_RETRY_S) * _BACKOFF**missing.tries
                missing.tries += 1
                due.append(extended)
        due.sort()
        if due:
            self.stats.nacks += 1
        return [extended & 0xFFFF for extended in due]

    def snapshot(self) -> StreamStats:
        """The statistics, brought up to date. `packets` counts packets as first sent, so that what
        retransmissions repaired still shows as loss."""
        stats = self.stats
        stats.packets = self._originals
        if self.highest >= 0:
            stats.highest_sequence = self.highest - 0x10000
            stats.packets_lost = self.highest - self._base + 1 - self._originals
        return stats
