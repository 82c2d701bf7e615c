"""What leaves the Python plane: packets to peers, records to the control plane, and requests to publishers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Final

from media import rtcp
from media.plane import Address, KeyFrameWanted, PlaneCounters, Record
from media.plane_state import Track, Transport
from media.receiving import ReceiveStream
from media.srtp import MAX_TRAILER, Buffer, protect, protect_rtcp

MAX_DATAGRAM: Final = 2048  # Ethernet's 1500 and some; longer ones are dropped
MAX_LOG: Final = 4096  # arrivals or sends of one transport between two ticks
MAX_RECORDS: Final = 8192
KEY_FRAME_INTERVAL_S: Final = 0.5
_NACK_ENTRIES: Final = 256  # at most 1 kB of them, so that a NACK is never longer than a packet may be
_NOBODY: Final = 1  # the SSRC that the relay reports as
_MSG_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


class PlaneOutput:
    """The sending half of `PythonPlane`: one outgoing buffer, one list of records."""

    def __init__(self, sockets: Sequence[socket.socket], clock: Callable[[], float]) -> None:
        self.counters = PlaneCounters()
        self._sockets = tuple(sockets)
        self._clock = clock
        for each in self._sockets:
            each.setblocking(False)
        # A rewritten header may be longer than the received one by a whole extension block.
        self._out = Buffer(MAX_DATAGRAM + 1100 + MAX_TRAILER)
        self._records: list[Record] = []

    def _drop(self, reason: str) -> None:
        dropped = self.counters.dropped
        dropped[reason] = dropped.get(reason, 0) + 1

    def _record(self, record: Record) -> bool:
        """Whether there was room for it; what must not get lost is recorded again later by whoever asks."""
        if len(self._records) < MAX_RECORDS:
            self._records.append(record)
            return True
        self._drop("records_full")
        return False

    def _send(self, transport: Transport, length: int, now: float, numbered: bool) -> None:
        """Protect and send what lies in the out buffer. `numbered`: it has a new transport-wide sequence number."""
        outgoing = self._out
        size = outgoing.length
        size[0] = length
        if protect(transport.send, outgoing.pointer, size):
            self._drop("protect_failed")
            return
        length = size[0]
        if numbered:
            number = transport.next_sequence
            if len(transport.sent) < MAX_LOG:
                transport.sent.append((number, int(now * 1e6), length))
            else:
                self._drop("send_log_full")
            transport.next_sequence = (number + 1) & 0xFFFF
        sendto = transport.sendto
        if sendto is None:
            self._drop("no_address")
            return
        try:
            sendto(outgoing.view[:length], _MSG_DONTWAIT, transport.address)
        except BlockingIOError:
            self._drop("send_queue_full")
        except OSError:
            self._drop("send_error")

    def _send_to(self, sendto: Callable[..., int], data: bytes | memoryview, address: Address | None) -> None:
        try:
            sendto(data, _MSG_DONTWAIT, address)
        except BlockingIOError:
            self._drop("send_queue_full")
        except OSError:
            self._drop("send_error")

    def _ask_for_missing(self, track: Track, stream: ReceiveStream, now: float) -> None:
        lost = stream.due_nacks(now, track.transport.rtt_s)
        for at in range(0, len(lost), _NACK_ENTRIES):
            request = rtcp.build_nack(_NOBODY, stream.ssrc, lost[at : at + _NACK_ENTRIES])
            self._send_rtcp(track.transport, rtcp.build_receiver_report(_NOBODY) + request)

    def _send_rtcp(self, transport: Transport, compound: bytes) -> None:
        if transport.sendto is None:
            self._drop("no_address")
            return
        outgoing = self._out
        length = len(compound)
        outgoing.bytes[:length] = compound
        outgoing.length[0] = length
        if protect_rtcp(transport.send, outgoing.pointer, outgoing.length):
            self._drop("protect_failed")
            return
        self._send_to(transport.sendto, outgoing.view[: outgoing.length[0]], transport.address)

    def _want_key_frame(self, track: Track, now: float) -> None:
        """Ask the publisher for a key frame: at once the first time, then at most every 500 ms; `tick` makes up for
        it."""
        if not track.video:
            return
        primary = track.primary
        if primary is None or now - track.key_frame_asked_at < KEY_FRAME_INTERVAL_S:
            track.key_frame_due = True
            return
        if self._record(KeyFrameWanted(track.id, primary.stream.ssrc)):
            track.key_frame_due = False
            track.key_frame_asked_at = now
        else:
            track.key_frame_due = True
