"""The relay of one process: `LocalRelay` carries out the commands of `media.api.Relay` and owns sockets and
tasks.

    relay = await start(RelaySettings(port=40000))
    relay.on_event(listener)
    …
    await relay.stop(grace_s=10)

A datagram comes through `PythonPlane.read_ready`; what is not media comes back as records, which `_drain`
hands to ICE, DTLS, the rooms or the reports. A fault in handling one record is logged and ends at most that
peer's connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from media import negotiation, sdp
from media.api import Direction, RelayError, RelayEvent, RelayStopping, Source
from media.connection import Connection, Core
from media.ice import IceLite, Path
from media.plane import (
    Arrivals,
    ControlDatagram,
    FirstPacket,
    KeyFrameWanted,
    Record,
    Rtcp,
    UnknownSsrc,
)
from media.probe import SelfProbe
from media.publication import Publication
from media.python_plane import PythonPlane
from media.room_state import Participant
from media.rooms import Rooms
from media.settings import RelaySettings
from media.transport import Certificate
from media.udp import UdpPort, open_port
from media.upkeep import Upkeep

log = logging.getLogger(__name__)


async def start(settings: RelaySettings, clock: Callable[[], float] = time.monotonic) -> LocalRelay:
    """Bind the port and serve. Raises OSError when the port is taken, ValueError for a wrong address."""
    port = open_port(settings)
    try:
        turn_ips = await _resolve(settings.turn_hosts)
        relay = LocalRelay(settings, port, turn_ips, clock)
        await relay.open()
    except BaseException:
        port.close()
        raise
    return relay


async def _resolve(hosts: tuple[str, ...]) -> frozenset[str]:
    loop = asyncio.get_running_loop()
    found: set[str] = set()
    for host in hosts:
        try:
            answers = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except OSError:
            # Only the word "relayed" in the session log depends on it.
            log.warning("the TURN host cannot be resolved: its routes will be logged as direct")
            continue
        found.update(str(answer[4][0]) for answer in answers)
    return frozenset(found)


class LocalRelay:
    """`media.api.Relay` in this process. Made by `start`."""

    def __init__(
        self,
        settings: RelaySettings,
        port: UdpPort,
        turn_ips: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._port = port
        self._plane = PythonPlane(port.sockets, clock)
        self._core = Core(
            settings=settings,
            plane=self._plane,
            ice=IceLite(),
            certificate=Certificate(),
            clock=clock,
            candidates=tuple((ip, settings.announced_port or own) for ip, own in port.announced),
            turn_ips=turn_ips,
        )
        self._listener: Callable[[RelayEvent], None] | None = None
        self._rooms = Rooms(self._core, self._emit)
        self._upkeep = Upkeep(self._core, self._rooms, self._drain)
        self._probe = SelfProbe(self._core.ice, _probe_target(port))
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """The announced candidates."""
        return self._core.candidates

    @property
    def bound(self) -> tuple[tuple[str, int], ...]:
        """The local addresses of the port."""
        return self._port.bound

    # ---- life ----

    async def open(self) -> None:
        """Start reading. Use `start` instead."""
        loop = asyncio.get_running_loop()
        for local, one in enumerate(self._port.sockets):
            loop.add_reader(one.fileno(), self._readable, local)
        self._tasks = [
            asyncio.create_task(self._upkeep.run(), name="relay upkeep"),
            asyncio.create_task(self._probing(), name="relay probe"),
        ]
        await self._probe.check(self._core.clock())

    async def stop(self, grace_s: float = 0.0) -> None:
        """Tell the hub (`RelayStopping`), wait up to `grace_s` for the connections to go, then close what is
        left."""
        if self._draining:
            return
        self._draining = True
        self._emit(RelayStopping())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._rooms.emptied.wait()
        await self._rooms.finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for one in self._port.sockets:
            loop.remove_reader(one.fileno())
        self._port.close()

    def healthy(self) -> bool:
        """Whether media can flow: a check through the real port was answered within the last three
        intervals."""
        succeeded_at = self._probe.succeeded_at
        return (
            succeeded_at is not None
            and self._core.clock() - succeeded_at < 3 * self.settings.probe_interval_s
            and all(not task.done() for task in self._tasks)
        )

    def snapshot(self) -> dict[str, Any]:
        """Counters for /metrics: numbers, and dicts of reason → number."""
        owners = self._rooms.owners.values()
        states = {"connecting": 0, "connected": 0, "disconnected": 0}
        for owner in owners:
            states[owner.connection.state] = states.get(owner.connection.state, 0) + 1
        dropped: dict[str, int] = dict(self._plane.counters.dropped)
        for reason, count in (*self._core.ice.dropped.items(), *self._core.dropped.items()):
            dropped[reason] = dropped.get(reason, 0) + count
        return {
            "rooms": len(self._rooms.rooms),
            "participants": sum(len(room.participants) for room in self._rooms.rooms.values()),
            "tracks": sum(len(room.tracks) for room in self._rooms.rooms.values()),
            "transports": states,
            "handshakes": dict(self._core.handshakes),
            "packets_received": self._plane.counters.received,
            "packets_forwarded": self._plane.counters.forwarded,
            "dropped": dropped,
            "probe_failures": self._probe.failures,
            "draining": int(self._draining),
        }

    # ---- commands ----

    async def publish(self, room: str, participant: str, offer: str, sources: Mapping[str, Source]) -> str:
        self._check_open()
        description = sdp.parse(offer)
        peer, accepted = negotiation.accept_publish(description)
        if sum(one.sending for one in accepted) > self.settings.tracks_per_participant_max:
            raise RelayError("too_many", "too many tracks of one participant")
        in_room, who = self._rooms.enter(room, participant)
        publication = _current(who, peer)
        if publication is None:
            publication = self._rooms.publication_for(in_room, who)
        elif publication.connection.peer is not None and publication.connection.peer.ufrag != peer.ufrag:
            publication.connection.restart_ice()
        publication.connection.set_peer(peer)
        stopped = publication.update(accepted, sources)
        self._rooms.renegotiated(in_room, who, publication, stopped)
        return negotiation.publish_answer(
            description, accepted, publication.connection.local(), self.settings.start_bitrate_kbps
        )

    async def subscribe(self, room: str, participant: str, *, fresh: bool = False) -> None:
        self._check_open()
        in_room, who = self._rooms.enter(room, participant)
        if who.subscription is None or fresh:
            self._rooms.subscription_for(in_room, who)
        self._rooms.give_all(in_room, who)
        self._rooms.send_offer(in_room, who)

    async def answer(self, room: str, participant: str, revision: int, answer: str) -> None:
        _, who = self._rooms.find(room, participant)
        if who.subscription is None:
            raise RelayError("stale_revision", "there is no subscribe connection")
        who.subscription.answered(revision, answer)
        self._rooms.flush_offers(self._core.clock())

    async def restart_subscribe(self, room: str, participant: str) -> None:
        in_room, who = self._rooms.find(room, participant)
        if who.subscription is None or who.subscription.fixed:
            raise RelayError("no_track", "there is no subscribe connection to restart")
        who.subscription.connection.restart_ice()
        self._rooms.send_offer(in_room, who)

    async def set_paused(self, room: str, participant: str, track_id: str, paused: bool) -> None:
        _, who = self._rooms.find(room, participant)
        try:
            if who.subscription is None:
                raise KeyError(track_id)
            who.subscription.set_paused(track_id, paused)
        except KeyError:
            raise RelayError("no_track", "this participant does not receive that track") from None
        self._drain()

    async def watch(self, room: str, viewer: str, publisher: str, offer: str) -> str:
        self._check_open()
        description = sdp.parse(offer)
        peer, accepted = negotiation.accept_watch(description)
        in_room, who = self._rooms.enter(room, viewer)
        subscription = self._rooms.subscription_for(in_room, who)
        subscription.fix(peer, accepted, publisher)
        self._rooms.give_all(in_room, who)
        return negotiation.watch_answer(description, accepted, subscription.slots, subscription.connection.local())

    async def add_candidates(self, room: str, participant: str, direction: Direction, fragment: str) -> str:
        _, who = self._rooms.find(room, participant)
        parsed = sdp.parse_fragment(fragment)
        connection, mids = _restartable(who, direction)
        if connection is None or connection.peer is None:
            raise RelayError("no_participant", "no such connection")
        if connection.peer.ufrag == parsed.ufrag:
            # A lite agent learns the peer's addresses from its checks.
            return ""
        connection.restart_ice()
        connection.set_ice(parsed.ufrag, parsed.password)
        return negotiation.restart_fragment(connection.local(), mids, parsed.mids or tuple(mids))

    async def leave(self, room: str, participant: str) -> None:
        in_room = self._rooms.rooms.get(room)
        who = in_room.participants.get(participant) if in_room is not None else None
        if in_room is not None and who is not None:
            self._rooms.leave(in_room, who)

    async def close_room(self, room: str) -> None:
        in_room = self._rooms.rooms.get(room)
        if in_room is not None:
            self._rooms.close_room(in_room)

    def on_event(self, listener: Callable[[RelayEvent], None]) -> None:
        self._listener = listener

    def _check_open(self) -> None:
        if self._draining:
            raise RelayError("draining", "this relay is stopping")

    def _emit(self, event: RelayEvent) -> None:
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:
            # The listener is the hub's; its fault must not stop the media.
            log.exception("the listener failed on %s", type(event).__name__)

    # ---- what comes in ----

    def _readable(self, local: int) -> None:
        self._plane.read_ready(local)
        self._drain()

    def _drain(self) -> None:
        for record in self._plane.drain():
            try:
                self._handle(record)
            except Exception:
                self._core.dropped["control_error"] += 1
                log.exception("handling a %s record", type(record).__name__)

    def _handle(self, record: Record) -> None:
        match record:
            case ControlDatagram():
                self._control_datagram(record)
            case Arrivals():
                self._upkeep.arrived(record)
            case Rtcp():
                self._upkeep.reported(record)
            case KeyFrameWanted():
                self._rooms.key_frame_wanted(record.track, record.ssrc)
            case FirstPacket():
                self._rooms.first_packet(record.track)
            case UnknownSsrc():
                owner = self._rooms.owners.get(record.transport)
                if owner is not None and owner.publication is not None:
                    owner.publication.unknown_ssrc(record)
            case _:
                # Sent: the log for the bandwidth estimator, which is the next step's.
                return

    def _control_datagram(self, record: ControlDatagram) -> None:
        path = Path(record.source, record.local)
        if record.data[0] > 3:
            agent = self._core.ice.owner(path)
            owner = self._rooms.owners.get(agent.transport) if agent is not None else None
            if owner is None:
                self._core.dropped["dtls_unknown_source"] += 1
            else:
                owner.connection.receive_dtls(record.data)
            return
        now = self._core.clock()
        checked = self._core.ice.receive(record.data, path, now)
        if checked is None:
            return
        self._plane.send_raw(checked.reply, record.source, record.local)
        owner = self._rooms.owners.get(checked.agent.transport)
        if owner is not None:
            owner.connection.checked(checked, now)

    async def _probing(self) -> None:
        while True:
            await asyncio.sleep(self.settings.probe_interval_s)
            if not await self._probe.check(self._core.clock()):
                log.warning("the self-probe of the media port was not answered")


def _probe_target(port: UdpPort) -> tuple[str, int]:
    return next((one for one in port.bound if one[0] == "127.0.0.1"), port.bound[0])


def _current(who: Participant, peer: negotiation.Peer) -> Publication | None:
    """The live publication that `peer` renegotiates, None when it is a new connection."""
    for one in (who.pending, who.publication):
        if one is not None and one.connection.is_same_peer(peer):
            return one
    return None


def _restartable(who: Participant, direction: Direction) -> tuple[Connection | None, list[str]]:
    if direction == "publish":
        publication = who.pending or who.publication
        return (publication.connection, list(publication.sections)) if publication else (None, [])
    subscription = who.subscription
    return (subscription.connection, [one.mid for one in subscription.slots]) if subscription else (None, [])
