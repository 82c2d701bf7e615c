"""The rooms that this process owns: opened on the first join, closed when empty or taken over."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator

from media.api import RelayEvent, RelayStopping
from signaling.actor import RoomActor
from signaling.admission import Admission, Record
from signaling.directory import Directory, DirectoryUnavailable, Lease
from signaling.effects import Now
from signaling.relay_pool import RelayPool
from signaling.turn import IceServersFor

log = logging.getLogger(__name__)

TICK_S = 0.5


class RoomUnavailable(Exception):
    """The room cannot be opened now (the record or the directory is away); try again in a second."""


def new_secret() -> str:
    return secrets.token_urlsafe(24)


class Rooms:
    def __init__(
        self,
        *,
        directory: Directory,
        pool: RelayPool,
        admission: Admission,
        record: Record,
        ice_servers: IceServersFor,
        clock: Callable[[], Now],
    ) -> None:
        self._directory = directory
        self._pool = pool
        self._admission = admission
        self._record = record
        self._ice_servers = ice_servers
        self._clock = clock
        self._actors: dict[str, RoomActor] = {}
        self._opening: dict[str, asyncio.Task[RoomActor | Lease]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._ticker: asyncio.Task[None] | None = None
        pool.on_event(self._relay_event)
        pool.on_lost(self._relay_lost)
        directory.on_lease_lost(self._lease_lost)

    def __iter__(self) -> Iterator[RoomActor]:
        return iter(list(self._actors.values()))

    def start(self) -> None:
        self._ticker = asyncio.create_task(self._tick(), name="rooms tick")

    async def stop(self) -> None:
        """Tell everyone, keep what must be kept, give the rooms back."""
        if self._ticker is not None:
            self._ticker.cancel()
        for actor in list(self._actors.values()):
            self._begin_closing(actor, tell=True, release=True)
        if self._closing:
            await asyncio.gather(*self._closing.values(), return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for actor in self:
                actor.tick()

    def running(self, consultation: str) -> RoomActor | None:
        actor = self._actors.get(consultation)
        return actor if actor is not None and not actor.closing else None

    async def own(self, consultation: str, *, over: Lease | None = None) -> RoomActor | Lease:
        """The room's loop, if the room is or becomes ours, else its owner's lease. Raises RoomUnavailable."""
        if actor := self.running(consultation):
            return actor
        opening = self._opening.get(consultation)
        if opening is None:
            opening = asyncio.create_task(self._open(consultation, over), name=f"open {consultation}")
            self._opening[consultation] = opening
            opening.add_done_callback(lambda _: self._opening.pop(consultation, None))
        # One who gives up must not cancel it for the others who wait for the same room.
        return await asyncio.shield(opening)

    async def _open(self, consultation: str, over: Lease | None) -> RoomActor | Lease:
        if closing := self._closing.get(consultation):
            # Its last entries must be in the record before the room is read from there again.
            await asyncio.shield(closing)
        return await self._claim(consultation, over)

    async def _claim(self, consultation: str, over: Lease | None) -> RoomActor | Lease:
        try:
            lease = await self._directory.claim(consultation, over=over)
        except DirectoryUnavailable as error:
            raise RoomUnavailable from error
        own = self._directory.own
        if (lease.node, lease.instance) != (own.node, own.instance):
            return lease
        actor = RoomActor(
            lease,
            admission=self._admission,
            record=self._record,
            pool=self._pool,
            ice_servers=self._ice_servers,
            new_secret=new_secret,
            clock=self._clock,
            closed=lambda actor: self._begin_closing(actor, tell=False, release=True),
        )
        try:
            await actor.open()
        except Exception as error:
            log.exception("a room could not be opened")
            await actor.close(tell=False)
            await self._directory.release(lease)
            raise RoomUnavailable from error
        self._actors[consultation] = actor
        return actor

    def _begin_closing(self, actor: RoomActor, *, tell: bool, release: bool) -> None:
        if self._actors.get(actor.consultation) is not actor:
            return
        del self._actors[actor.consultation]

        async def close() -> None:
            try:
                await actor.close(tell=tell)
                if release:
                    await self._directory.release(actor.lease)
            finally:
                self._closing.pop(actor.consultation, None)

        self._closing[actor.consultation] = asyncio.create_task(close(), name=f"close {actor.consultation}")

    def _lease_lost(self, lease: Lease) -> None:
        actor = self._actors.get(lease.room)
        if actor is not None and actor.lease.fence == lease.fence:
            log.warning("another process took a room over; its sockets are sent there")
            self._begin_closing(actor, tell=True, release=False)

    def _relay_event(self, instance: str, event: RelayEvent) -> None:
        if isinstance(event, RelayStopping):
            self._relay_lost(instance)
        elif actor := self.running(event.room):
            actor.relay_event(instance, event)

    def _relay_lost(self, instance: str) -> None:
        for actor in self:
            actor.relay_lost(instance)
