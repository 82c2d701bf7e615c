"""Who lives where: which process owns a room, which relay carries it, who is alive; and mail between processes.

One interface, two forms: `LocalDirectory` here (all roles in one process; several on one `Board` in tests) and
`RedisDirectory` (signaling/redis_directory.py). Both run the same tests. Nothing in it is authoritative for people:
it may forget everything at any moment, owners register again, and running rooms go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Literal, Protocol

import msgspec

from signaling.roster import BEAT_S, MISSED_BEATS, Member


class DirectoryUnavailable(Exception):
    """The directory cannot be asked now; try again in a second. Rooms that are owned go on."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A room belongs to one process. `fence` grows with every new owner: whoever is asked to do something for a room
    refuses a smaller one than it has seen."""

    room: str
    node: str
    instance: str
    fence: int


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The relay that carries a room. `session` names this placement towards the pages."""

    node: str
    instance: str
    session: str


class Directory(Protocol):
    @property
    def own(self) -> Member: ...

    async def start(self) -> None: ...

    async def stop(self, *, goodbye: bool = True) -> None:
        """Leave. `goodbye=False` leaves without a word, as a killed process does (drills and tests)."""
        ...

    def describe(self, *, load: float, draining: bool = False) -> None:
        """What the next beats say about this process."""
        ...

    def members(self, kind: Literal["web", "media"]) -> list[Member]:
        """The others of this kind that are alive, as far as their beats tell."""
        ...

    def on_mail(self, listener: Callable[[bytes], None]) -> None: ...

    def on_gone(self, listener: Callable[[Member], None]) -> None:
        """A process died, left, or came back as a new instance: it is told about the old one. Several listeners."""
        ...

    def on_gap(self, listener: Callable[[], None]) -> None:
        """Mail to this process may have been lost."""
        ...

    def on_lease_lost(self, listener: Callable[[Lease], None]) -> None:
        """Another process took a room of ours over."""
        ...

    async def post(self, node: str, body: bytes) -> bool:
        """Mail to a process, at most once, in order. False: nobody there, or it could not be sent."""
        ...

    async def claim(self, room: str, *, over: Lease | None = None) -> Lease:
        """The room's lease: the living owner's, or ours from now on. `over`: take it from this very lease although
        its owner seems alive (it did not answer). Raises DirectoryUnavailable."""
        ...

    async def owners(self, rooms: Collection[str]) -> dict[str, Lease]:
        """The leases of living owners; rooms without one are missing. Raises DirectoryUnavailable."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give a room of ours back; failing is fine, the lease runs out."""
        ...

    async def place_of(self, room: str) -> Place | None: ...

    async def set_place(self, lease: Lease, place: Place) -> bool:
        """Note where the room's media is. False when the lease is not the room's newest."""
        ...


class Board:
    """What the LocalDirectories of one process share."""

    def __init__(self) -> None:
        self.directories: dict[str, LocalDirectory] = {}
        self.leases: dict[str, Lease] = {}
        self.places: dict[str, Place] = {}
        self.fence = 0

    def flush(self) -> None:
        """Forget everything, as Redis may."""
        self.leases.clear()
        self.places.clear()
        for directory in list(self.directories.values()):
            directory.register_again()


class LocalDirectory:
    """The directory in one process. `board` is shared where several take part (tests)."""

    def __init__(
        self, node: str, instance: str, kind: Literal["web", "media"] = "web", *, board: Board | None = None
    ) -> None:
        self._own = Member(node=node, instance=instance, kind=kind)
        self._board = board if board is not None else Board()
        self._held: dict[str, Lease] = {}
        self._placed: dict[str, Place] = {}
        self._mail: list[Callable[[bytes], None]] = []
        self._gone: list[Callable[[Member], None]] = []
        self._lease_lost: list[Callable[[Lease], None]] = []

    @property
    def own(self) -> Member:
        return self._own

    async def start(self) -> None:
        before = self._board.directories.get(self._own.node)
        self._board.directories[self._own.node] = self
        if before is not None and before is not self:
            self._tell_gone(before.own)

    async def stop(self, *, goodbye: bool = True) -> None:
        if self._board.directories.get(self._own.node) is not self:
            return
        del self._board.directories[self._own.node]
        if goodbye:
            for lease in list(self._held.values()):
                await self.release(lease)
            self._tell_gone(self._own)
        else:
            asyncio.get_running_loop().call_later(BEAT_S * MISSED_BEATS, self._tell_gone, self._own)

    def _tell_gone(self, member: Member) -> None:
        for directory in list(self._board.directories.values()):
            if directory.own.instance != member.instance:
                for listener in directory._gone:
                    listener(member)

    def describe(self, *, load: float, draining: bool = False) -> None:
        self._own = msgspec.structs.replace(self._own, load=load, draining=draining)

    def members(self, kind: Literal["web", "media"]) -> list[Member]:
        others = (directory.own for directory in self._board.directories.values() if directory is not self)
        return [member for member in others if member.kind == kind]

    def on_mail(self, listener: Callable[[bytes], None]) -> None:
        self._mail.append(listener)

    def on_gone(self, listener: Callable[[Member], None]) -> None:
        self._gone.append(listener)

    def on_gap(self, listener: Callable[[], None]) -> None:
        """Never called: nothing is lost within a process."""

    def on_lease_lost(self, listener: Callable[[Lease], None]) -> None:
        self._lease_lost.append(listener)

    async def post(self, node: str, body: bytes) -> bool:
        directory = self._board.directories.get(node)
        if directory is None:
            return False
        loop = asyncio.get_running_loop()
        for listener in directory._mail:
            loop.call_soon(listener, body)
        return True

    def _alive(self, lease: Lease) -> bool:
        directory = self._board.directories.get(lease.node)
        return directory is not None and directory.own.instance == lease.instance

    async def claim(self, room: str, *, over: Lease | None = None) -> Lease:
        current = self._board.leases.get(room)
        if current is not None and self._alive(current) and current != over:
            return current
        self._board.fence += 1
        lease = Lease(room=room, node=self._own.node, instance=self._own.instance, fence=self._board.fence)
        self._board.leases[room] = lease
        self._held[room] = lease
        if current is not None and self._alive(current) and current.node != self._own.node:
            self._board.directories[current.node].lose(current)
        return lease

    def lose(self, lease: Lease) -> None:
        if self._held.get(lease.room) == lease:
            del self._held[lease.room]
            for listener in self._lease_lost:
                listener(lease)

    def register_again(self) -> None:
        """Put what we hold back on an emptied board."""
        for lease in list(self._held.values()):
            current = self._board.leases.setdefault(lease.room, lease)
            if current is not lease:
                self.lose(lease)
            elif lease.room in self._placed:
                self._board.places[lease.room] = self._placed[lease.room]

    async def owners(self, rooms: Collection[str]) -> dict[str, Lease]:
        found = {room: self._board.leases.get(room) for room in rooms}
        return {room: lease for room, lease in found.items() if lease is not None and self._alive(lease)}

    async def release(self, lease: Lease) -> None:
        self._held.pop(lease.room, None)
        self._placed.pop(lease.room, None)
        if self._board.leases.get(lease.room) == lease:
            del self._board.leases[lease.room]

    async def place_of(self, room: str) -> Place | None:
        return self._board.places.get(room)

    async def set_place(self, lease: Lease, place: Place) -> bool:
        if self._board.leases.get(lease.room) != lease:
            return False
        self._board.places[lease.room] = place
        self._placed[lease.room] = place
        return True
