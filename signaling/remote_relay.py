"""The relay in another process: `RelayServer` runs beside it, `RemotePool` places rooms on relays and `RemoteRelay` is
media.api.Relay for one of them.

A relay that is killed, stopped or cut off is missed after three beats (signaling/roster.py); one that restarts comes
back as another instance. Both are told by `on_lost`, and the rooms are placed anew. A hub that dies leaves the relays
alone: media flows on, and the room's next owner finds the place in the directory.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from media.api import Direction, Relay, RelayError, RelayEvent, RelayStopping, RoomClosed, Source
from signaling import relay_commands
from signaling.directory import Directory, DirectoryUnavailable, Lease, Place
from signaling.node_messages import AdoptRoom, RelayNews, RelayRequest
from signaling.post import NotAnswered, Post
from signaling.relay_commands import RelayCommand, perform
from signaling.relay_pool import Placement
from signaling.roster import BEAT_S, Member

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 5.0
# A hub that has just started hears of the relays with their next beat.
FIRST_BEATS_S = 3 * BEAT_S
# A room that moves away from a draining relay is closed there when the pages had time to build their connections.
CLOSE_OLD_AFTER_S = 5.0

_RELAY_CODES = frozenset(
    ("bad_sdp", "no_room", "no_participant", "no_track", "stale_revision", "too_many", "draining", "unavailable")
)


class RemoteRelay:
    """media.api.Relay at `place`, on behalf of the room's owner with this `fence`."""

    def __init__(self, post: Post, place: Place, fence: int) -> None:
        self._post = post
        self._place = place
        self._fence = fence
        self._listener: Callable[[RelayEvent], None] | None = None

    async def _ask(self, command: RelayCommand) -> str:
        request = RelayRequest(instance=self._place.instance, fence=self._fence, command=command)
        try:
            return await self._post.ask(self._place.node, request, COMMAND_TIMEOUT_S)
        except NotAnswered as error:
            code = error.code if error.code in _RELAY_CODES else "unavailable"
            raise RelayError(code, error.detail or error.code) from error

    async def publish(self, room: str, participant: str, offer: str, sources: Mapping[str, Source]) -> str:
        return await self._ask(
            relay_commands.Publish(room=room, participant=participant, offer=offer, sources=dict(sources))
        )

    async def subscribe(self, room: str, participant: str, *, fresh: bool = False) -> None:
        await self._ask(relay_commands.Subscribe(room=room, participant=participant, fresh=fresh))

    async def answer(self, room: str, participant: str, revision: int, answer: str) -> None:
        await self._ask(relay_commands.Answer(room=room, participant=participant, revision=revision, answer=answer))

    async def restart_subscribe(self, room: str, participant: str) -> None:
        await self._ask(relay_commands.RestartSubscribe(room=room, participant=participant))

    async def set_paused(self, room: str, participant: str, track_id: str, paused: bool) -> None:
        await self._ask(relay_commands.SetPaused(room=room, participant=participant, track=track_id, paused=paused))

    async def watch(self, room: str, viewer: str, publisher: str, offer: str) -> str:
        return await self._ask(relay_commands.Watch(room=room, viewer=viewer, publisher=publisher, offer=offer))

    async def add_candidates(self, room: str, participant: str, direction: Direction, fragment: str) -> str:
        return await self._ask(
            relay_commands.AddCandidates(room=room, participant=participant, direction=direction, fragment=fragment)
        )

    async def leave(self, room: str, participant: str) -> None:
        await self._ask(relay_commands.Leave(room=room, participant=participant))

    async def close_room(self, room: str) -> None:
        await self._ask(relay_commands.CloseRoom(room=room))

    def on_event(self, listener: Callable[[RelayEvent], None]) -> None:
        """The pool hands this relay's events over."""
        self._listener = listener

    def hear(self, event: RelayEvent) -> None:
        if self._listener is not None:
            self._listener(event)


class RemotePool:
    """The relays that the directory knows; the room goes to the one with the least load."""

    def __init__(self, directory: Directory, post: Post) -> None:
        self._directory = directory
        self._post = post
        self._placements: dict[str, tuple[Lease, Place, RemoteRelay]] = {}
        self._events: list[Callable[[str, RelayEvent], None]] = []
        self._lost: list[Callable[[str], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        post.handle(RelayNews, self._news)
        directory.on_gone(self._gone)

    async def place(self, lease: Lease, *, renew: bool = False) -> Placement:
        try:
            return await self._place(lease, renew)
        except DirectoryUnavailable as error:
            raise RelayError("unavailable", "the directory is away") from error

    async def _place(self, lease: Lease, renew: bool) -> Placement:
        before = await self._directory.place_of(lease.room)
        if before is not None and not renew and await self._heard_of(before):
            # The former owner died and media flows: its events come here from now on.
            own = self._directory.own.node
            adopt = AdoptRoom(node=own, instance=before.instance, room=lease.room, fence=lease.fence)
            self._post.send(before.node, adopt)
            return self._placed(lease, before)
        member = await self._least_loaded()
        place = Place(node=member.node, instance=member.instance, session=secrets.token_hex(8))
        if not await self._directory.set_place(lease, place):
            raise RelayError("unavailable", "the room is another process's now")
        if before is not None and before.instance != place.instance and self._alive(before) is not None:
            self._spawn(self._close_old(lease, before))
        return self._placed(lease, place)

    def _placed(self, lease: Lease, place: Place) -> Placement:
        relay = RemoteRelay(self._post, place, lease.fence)
        self._placements[lease.room] = (lease, place, relay)
        return Placement(relay, place)

    def _alive(self, place: Place) -> Member | None:
        for member in self._directory.members("media"):
            if (member.node, member.instance) == (place.node, place.instance):
                return member
        return None

    async def _heard_of(self, place: Place) -> bool:
        """The relay at this place lives and takes commands; a hub that has just started waits for its first beat."""
        for _ in range(int(FIRST_BEATS_S / 0.05)):
            member = self._alive(place)
            if member is not None:
                return not member.draining
            if any(other.node == place.node for other in self._directory.members("media")):
                return False  # restarted: the same node, another instance
            await asyncio.sleep(0.05)
        return False

    async def _least_loaded(self) -> Member:
        for _ in range(int(FIRST_BEATS_S / 0.05)):
            members = [member for member in self._directory.members("media") if not member.draining]
            if members:
                return min(members, key=self._load)
            await asyncio.sleep(0.05)
        raise RelayError("unavailable", "no media process answered")

    def _load(self, member: Member) -> tuple[float, str]:
        """What its last beat said, or what we have put there since."""
        ours = sum(1 for _, place, _ in self._placements.values() if place.instance == member.instance)
        return max(member.load, float(ours)), member.node

    async def _close_old(self, lease: Lease, place: Place) -> None:
        await asyncio.sleep(CLOSE_OLD_AFTER_S)
        await self._close_at(lease, place)

    async def _close_at(self, lease: Lease, place: Place) -> None:
        try:
            await RemoteRelay(self._post, place, lease.fence).close_room(lease.room)
        except RelayError as error:
            log.info("a room's old relay did not close it: %s", error.code)

    def forget(self, room: str) -> None:
        self._placements.pop(room, None)

    def on_event(self, listener: Callable[[str, RelayEvent], None]) -> None:
        self._events.append(listener)

    def on_lost(self, listener: Callable[[str], None]) -> None:
        self._lost.append(listener)

    def _news(self, news: RelayNews) -> None:
        event = news.event
        if not isinstance(event, RelayStopping):
            lease, place, relay = self._placements.get(event.room, (None, None, None))
            if lease is not None and place is not None and place.instance != news.instance:
                # It was taken for dead (stopped for a while) and the room is elsewhere: clean up there.
                if not isinstance(event, RoomClosed):
                    old = Place(node=news.node, instance=news.instance, session="")
                    self._spawn(self._close_at(lease, old))
                return
            if relay is not None:
                relay.hear(event)
        for listener in self._events:
            listener(news.instance, event)

    def _gone(self, member: Member) -> None:
        if member.kind == "media":
            for listener in self._lost:
                listener(member.instance)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class RelayServer:
    """Runs beside the relay in the media process: carries commands out, sends events to the rooms' owners, tells its
    load with every beat. `directory` is of kind "media"."""

    def __init__(self, directory: Directory, relay: Relay, post: Post | None = None) -> None:
        self._directory = directory
        self._relay = relay
        self._post = post if post is not None else Post(directory)
        self._owners: dict[str, tuple[str, int]] = {}  # room → the owner's node and fence
        self._draining = False
        self._post.answer(RelayRequest, self._answer)
        self._post.handle(AdoptRoom, self._adopt)
        relay.on_event(self._event)

    @property
    def rooms(self) -> int:
        return len(self._owners)

    async def stop(self) -> None:
        """After this nothing is answered any more. Stop the directory afterwards."""
        await self._post.stop()

    def drain(self) -> None:
        """Take no new rooms, and have the owners move theirs (SIGTERM). Running media goes on until they have."""
        if not self._draining:
            self._event(RelayStopping())

    async def _answer(self, node: str, request: Any) -> str:
        if request.instance != self._directory.own.instance:
            raise NotAnswered("unavailable", "this relay has restarted")
        command = request.command
        _, fence = self._owners.get(command.room, ("", 0))
        if request.fence < fence:
            raise NotAnswered("unavailable", "the room has a newer owner")
        if isinstance(command, relay_commands.CloseRoom):
            self._forget(command.room)
        else:
            self._owners[command.room] = (node, request.fence)
            self._describe()
        try:
            return await perform(self._relay, command)
        except RelayError as error:
            raise NotAnswered(error.code, error.detail) from error

    def _adopt(self, mail: AdoptRoom) -> None:
        _, fence = self._owners.get(mail.room, ("", 0))
        if mail.instance == self._directory.own.instance and mail.room in self._owners and mail.fence >= fence:
            self._owners[mail.room] = (mail.node, mail.fence)

    def _event(self, event: RelayEvent) -> None:
        if isinstance(event, RelayStopping):
            self._draining = True
            self._describe()
            for node in {node for node, _ in self._owners.values()}:
                self._tell(node, event)
            return
        owner = self._owners.get(event.room)
        if isinstance(event, RoomClosed):
            self._forget(event.room)
        if owner is not None:
            self._tell(owner[0], event)

    def _tell(self, node: str, event: RelayEvent) -> None:
        own = self._directory.own
        self._post.send(node, RelayNews(node=own.node, instance=own.instance, event=event))

    def _forget(self, room: str) -> None:
        self._owners.pop(room, None)
        self._describe()

    def _describe(self) -> None:
        self._directory.describe(load=float(len(self._owners)), draining=self._draining)
