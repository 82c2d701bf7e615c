"""The loop that owns one room: everything that happens to it goes through one queue, in order.

Nothing slow is awaited in the loop: relay commands run in signaling/room_relay.py, the record in
signaling/journal.py; their results come back through the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from media.api import RelayError, RelayEvent
from signaling.admission import Admission, Grant, Record
from signaling.codec import encode
from signaling.directory import Lease
from signaling.effects import (
    POLICY_VIOLATION,
    SERVICE_RESTART,
    CallRelay,
    Close,
    Effect,
    KeepChat,
    KeepSample,
    LogEvent,
    NoteAdmission,
    NoteFinished,
    Now,
    ReplaceMedia,
    Seated,
    Send,
)
from signaling.journal import Journal
from signaling.messages import ClientMessage, Ended, EndReason, Error
from signaling.relay_commands import RelayCommand, actor_of, error_code
from signaling.relay_pool import RelayPool
from signaling.room import JoinRefused, Room
from signaling.room_relay import RoomRelay
from signaling.turn import IceServersFor

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0

Work = Callable[[Now], list[Effect]]


class Link(Protocol):
    """One socket as the room sees it; the socket may be on another node."""

    participant: str | None  # whose it is, once seated

    def send(self, frame: bytes) -> None:
        """Queue a frame; never blocks. A reader who is too slow is cut off."""
        ...

    def close(self, code: int) -> None:
        """Close after what was queued."""
        ...


class RoomActor:
    def __init__(
        self,
        lease: Lease,
        *,
        admission: Admission,
        record: Record,
        pool: RelayPool,
        ice_servers: IceServersFor,
        new_secret: Callable[[], str],
        clock: Callable[[], Now],
        closed: Callable[[RoomActor], None],
    ) -> None:
        self.lease = lease
        self.consultation = lease.room
        self.closing = False
        self._record = record
        self._ice_servers = ice_servers
        self._new_secret = new_secret
        self._clock = clock
        self._closed = closed
        self._links: dict[str, Link] = {}
        self._queue: asyncio.Queue[tuple[Work, Link | None]] = asyncio.Queue()
        self._journal = Journal(lease.room, record, admission, self._chat_done)
        self._relay = RoomRelay(lease, pool, self._media_placed, self._relay_finished)
        self._room = Room(lease.room, new_secret=new_secret, ice_servers=ice_servers)
        self._task: asyncio.Task[None] | None = None

    @property
    def room(self) -> Room:
        """For reading only."""
        return self._room

    @property
    def sockets(self) -> int:
        return len(self._links)

    @property
    def relay_instance(self) -> str:
        return self._relay.instance

    async def open(self) -> None:
        """Load what is kept, find a relay, start. Raises what the record raises."""
        history = await self._record.chat_history(self.consultation)
        await self._relay.open()
        self._room = Room(
            self.consultation,
            new_secret=self._new_secret,
            ice_servers=self._ice_servers,
            chat=history,
            media_session=self._relay.session,
        )
        self._task = asyncio.create_task(self._run(), name=f"room {self.consultation}")

    async def _run(self) -> None:
        while not self.closing:
            work, link = await self._queue.get()
            try:
                effects = work(self._clock())
            except JoinRefused as refused:
                if link is not None:
                    link.send(encode(Error(code=refused.code, message=refused.message)))
                    link.close(POLICY_VIOLATION)
                effects = []
            except Exception:
                # A defect in one message's handling must not end the call of everybody in the room.
                log.exception("a room could not handle what happened")
                effects = []
            for effect in effects:
                self._carry_out(effect, link)
            if self._room.empty and self._queue.empty():
                self.closing = True
                self._closed(self)

    def _carry_out(self, effect: Effect, link: Link | None) -> None:
        match effect:
            case Send():
                frame = encode(effect.message)
                for participant in effect.to:
                    if target := self._links.get(participant):
                        target.send(frame)
            case Close():
                if target := self._links.pop(effect.participant, None):
                    target.close(effect.code)
            case Seated():
                if link is not None:
                    link.participant = effect.participant
                    self._links[effect.participant] = link
            case CallRelay():
                self._relay.submit(effect)
            case ReplaceMedia():
                self._relay.replace()
            case LogEvent() | KeepSample() | KeepChat() | NoteAdmission() | NoteFinished():
                self._journal.put(effect)

    # ---- what happens to it -----------------------------------------------------------------------------------------

    def post(self, work: Work, link: Link | None = None) -> None:
        self._queue.put_nowait((work, link))

    def join(self, link: Link, grant: Grant, *, microphone: bool, camera: bool) -> None:
        self.post(lambda now: self._room.join(grant, now, microphone=microphone, camera=camera), link)

    def resume(self, link: Link, participant: str, secret: str, last_chat: str | None) -> None:
        self.post(lambda now: self._room.resume(participant, secret, now, last_chat=last_chat), link)

    def receive(self, link: Link, message: ClientMessage) -> None:
        def work(now: Now) -> list[Effect]:
            participant = link.participant
            # A socket that another page has replaced is not heard any more.
            if participant is None or self._links.get(participant) is not link:
                return []
            return self._room.receive(participant, message, now)

        self.post(work)

    def lost(self, link: Link) -> None:
        def work(now: Now) -> list[Effect]:
            participant = link.participant
            if participant is None or self._links.get(participant) is not link:
                return []
            del self._links[participant]
            return self._room.socket_lost(participant, now)

        self.post(work)

    def tick(self) -> None:
        self.post(lambda now: self._room.tick(now))

    def end(self, reason: EndReason) -> None:
        self.post(lambda now: self._room.end(reason, now))

    def remove(self, participant: str, reason: EndReason) -> None:
        self.post(lambda now: self._room.remove(participant, reason, now))

    async def attach(self, grant: Grant) -> None:
        """A device joins. Raises JoinRefused."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def work(now: Now) -> list[Effect]:
            try:
                effects = self._room.join(grant, now, device=True)
            except JoinRefused as refused:
                if not done.done():
                    done.set_exception(refused)
                return []
            if not done.done():
                done.set_result(None)
            return effects

        self.post(work)
        await done

    def detach(self, participant: str) -> None:
        self.post(lambda now: self._room.detach(participant, now))

    async def perform(self, command: RelayCommand) -> str:
        """A device's relay command. Raises RelayError: no_participant for one that the room has not let in."""
        if not self._room.is_device(actor_of(command)):
            raise RelayError("no_participant", "this device is not in the room")
        return await self._relay.perform(command)

    def relay_event(self, instance: str, event: RelayEvent) -> None:
        if instance == self._relay.instance:
            self.post(lambda now: self._room.relay_event(event, now))

    def relay_lost(self, instance: str) -> None:
        if instance == self._relay.instance:
            self._relay.replace()

    def _media_placed(self, session: str) -> None:
        self.post(lambda now: self._room.media_placed(session, now))

    def _relay_finished(self, call: CallRelay, result: str | RelayError) -> None:
        if isinstance(result, RelayError):
            code, detail = error_code(result), result.detail
            self.post(lambda now: self._room.relay_failed(call, code, detail))
        else:
            self.post(lambda now: self._room.relay_done(call, result, now))

    def _chat_done(self, line_id: str, kept: bool) -> None:
        room = self._room
        self.post(lambda now: room.chat_kept(line_id) if kept else room.chat_failed(line_id))

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def close(self, *, tell: bool) -> None:
        """Stop the loop and let what is under way end. `tell`: the sockets hear that the server restarts, and their
        pages come back by themselves; media is left alone."""
        self.closing = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for link in self._links.values():
            if tell:
                link.send(encode(Ended(reason="server")))
            link.close(SERVICE_RESTART)
        self._links.clear()
        while not self._queue.empty():
            _, entering = self._queue.get_nowait()
            if entering is not None:
                entering.close(SERVICE_RESTART)  # it came too late for this room; the next one will have it
        await self._relay.close(CLOSE_TIMEOUT_S)
        await self._journal.close(CLOSE_TIMEOUT_S)
