"""A room's way to its relay: where it is placed, commands in order per participant, placing it anew when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine

from media.api import RelayError
from signaling.directory import Lease
from signaling.effects import CallRelay
from signaling.relay_commands import CloseRoom, RelayCommand, actor_of, perform
from signaling.relay_pool import Placement, RelayPool

log = logging.getLogger(__name__)

PLACE_TIMEOUT_S = 3.0
PLACE_RETRY_S = 0.3


class RoomRelay:
    """`placed(session)`: the room is on a relay (again). `finished(call, result | error)`: a command's end."""

    def __init__(
        self,
        lease: Lease,
        pool: RelayPool,
        placed: Callable[[str], None],
        finished: Callable[[CallRelay, str | RelayError], None],
    ) -> None:
        self._lease = lease
        self._pool = pool
        self._placed = placed
        self._finished = finished
        self._placement: Placement | None = None
        self._ready = asyncio.Event()
        self._placing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._lanes: dict[str, deque[tuple[str, CallRelay]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def session(self) -> str:
        return self._placement.place.session if self._placement is not None else ""

    @property
    def instance(self) -> str:
        return self._placement.place.instance if self._placement is not None else ""

    async def open(self) -> None:
        """Place the room; without a relay go on looking for one in the background."""
        try:
            self._set(await self._pool.place(self._lease))
        except RelayError:
            self.replace()

    def replace(self) -> None:
        """The relay is gone or wants to be: find another one, or the same one with a new session."""
        self._placement = None
        self._ready.clear()
        if self._placing is None or self._placing.done():
            self._placing = asyncio.create_task(self._place(), name=f"place {self._lease.room}")

    async def _place(self) -> None:
        while True:
            try:
                placement = await self._pool.place(self._lease, renew=True)
                break
            except RelayError:
                await asyncio.sleep(PLACE_RETRY_S)
        self._set(placement)
        self._placed(placement.place.session)

    def _set(self, placement: Placement) -> None:
        self._placement = placement
        self._ready.set()

    def submit(self, call: CallRelay) -> None:
        if isinstance(call.command, CloseRoom):
            self._close_room(call.command)
            return
        lane = actor_of(call.command)
        queue = self._lanes.get(lane)
        if queue is not None:
            queue.append((self.session, call))
            return
        queue = deque([(self.session, call)])
        self._lanes[lane] = queue
        self._spawn(self._work(lane, queue))

    def _close_room(self, command: CloseRoom) -> None:
        before = self._closing

        async def close() -> None:
            if before is not None:
                await before
            try:
                await self.perform(command)
            except RelayError as error:
                # The relay drops idle rooms by itself.
                log.info("the relay did not close a room: %s", error.code)

        # What comes after it (someone returns at once) waits, or it would be closed with the old room.
        self._closing = self._spawn(close())

    async def _work(self, lane: str, queue: deque[tuple[str, CallRelay]]) -> None:
        while queue:
            session, call = queue[0]
            if self._closing is not None:
                await asyncio.shield(self._closing)
            try:
                result: str | RelayError = await self.perform(call.command, session)
            except RelayError as error:
                result = error
            except Exception as error:
                # A defect of the relay must not end the room; the page is told, the log has the trace.
                log.exception("the relay failed")
                result = RelayError("unavailable", type(error).__name__)
            queue.popleft()
            self._finished(call, result)
        del self._lanes[lane]

    async def perform(self, command: RelayCommand, session: str = "") -> str:
        """Carry one command out where the room is now. `session`: only if it is still this one. Raises RelayError."""
        try:
            await asyncio.wait_for(self._ready.wait(), PLACE_TIMEOUT_S)
        except TimeoutError as error:
            raise RelayError("unavailable", "no media process") from error
        placement = self._placement
        if placement is None or (session and session != placement.place.session):
            raise RelayError("unavailable", "the relay was replaced")
        return await perform(placement.relay, command)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, timeout_s: float) -> None:
        """Wait for what is under way (leaves, closing the room), then stop."""
        if self._placing is not None:
            self._placing.cancel()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in pending:
                task.cancel()
        self._pool.forget(self._lease.room)
