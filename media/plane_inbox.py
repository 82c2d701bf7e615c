"""STUN and DTLS datagrams on their way to the control plane: a bounded queue in which nobody can crowd out
the others. Pure.

Anyone can send these before anything is authenticated, from forged addresses too. So the room is shared out:
per source address, per host, and half of all for sources that are no transport's address yet. The rest is
kept for running calls.
"""

from __future__ import annotations

from typing import Final

from media.plane import Address, ControlDatagram, Record

MAX_QUEUED: Final = 1024
MAX_UNKNOWN: Final = MAX_QUEUED // 2
MAX_PER_ADDRESS: Final = 64  # a DTLS flight is up to about ten datagrams
MAX_PER_HOST: Final = 256  # several people may share an address behind a NAT


class ControlInbox:
    """Filled by the plane, emptied with every drain."""

    __slots__ = ("_hosts", "_queue", "_sources", "_unknown")

    def __init__(self) -> None:
        self._queue: list[Record] = []
        self._sources: dict[Address, int] = {}
        self._hosts: dict[str, int] = {}
        self._unknown = 0

    def put(self, data: bytes, source: Address, local: int, known: bool) -> str | None:
        """Queue a datagram; `known`: its source is a transport's address. Returns why it was dropped, or
        None."""
        from_source = self._sources.get(source, 0)
        from_host = self._hosts.get(source[0], 0)
        if from_source >= MAX_PER_ADDRESS:
            return "control_source_full"
        if not known and from_host >= MAX_PER_HOST:
            return "control_host_full"
        if len(self._queue) >= MAX_QUEUED or (not known and self._unknown >= MAX_UNKNOWN):
            return "control_queue_full"
        self._sources[source] = from_source + 1
        if not known:
            self._unknown += 1
            self._hosts[source[0]] = from_host + 1
        self._queue.append(ControlDatagram(data, source, local))
        return None

    def take(self) -> list[Record]:
        """All that is queued, in order."""
        queue = self._queue
        if queue:
            self._queue = []
            self._sources.clear()
            self._hosts.clear()
            self._unknown = 0
        return queue
