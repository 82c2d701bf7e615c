"""The directory over Redis (redis.asyncio), for several web and media processes.

Keys, all with a time to live, all of them rebuilt when Redis forgets them:

    consult:alive:NODE    the instance that lives under this node name; 2 s, renewed every 0.5 s
    consult:room:ROOM     hash node, instance, fence; 60 s, renewed every second by the owner
    consult:place:ROOM    hash node, instance, session: the relay; 60 s, renewed with the room
    consult:epoch         random; when it is gone or another one, Redis has forgotten everything

Channels: consult:mail:NODE and consult:beats. Mail carries chat and names, so it goes by pub/sub only: nothing personal
is ever stored in Redis. While Redis is away `claim` and `owners` raise DirectoryUnavailable, `post` returns False, and
nobody is taken for dead (signaling/roster.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from signaling.directory import DirectoryUnavailable, Lease, Place
from signaling.roster import BEAT_S, Member, Roster

log = logging.getLogger(__name__)

ALIVE_MS = 2_000
LEASE_MS = 60_000
RENEW_EVERY_BEATS = 2
REDIS_TIMEOUT_S = 2.0
# Our own beats come in every 0.5 s: that long without any, and the subscription is dead. Longer than the time for a
# command, because making it anew costs the sockets of other nodes a resume.
SILENCE_S = 5.0
RECONNECT_S = 0.2

_BEATS = "consult:beats"
_ALIVE = "consult:alive:"
_EPOCH = "consult:epoch"

# KEYS room. ARGV node, instance, prefix of the alive keys, ttl in ms, fence of the lease to take over ('' for none).
# The fence is Redis's clock in µs: it goes on growing when Redis has forgotten the last one, and stays below 2^53.
_CLAIM = """
local held = redis.call('HMGET', KEYS[1], 'node', 'instance', 'fence')
if held[1] and held[3] ~= ARGV[5] and redis.call('GET', ARGV[3] .. held[1]) == held[2] then
  return held
end
local time = redis.call('TIME')
local fence = tonumber(time[1]) * 1000000 + tonumber(time[2])
if held[3] and tonumber(held[3]) >= fence then fence = tonumber(held[3]) + 1 end
local text = string.format('%.0f', fence)
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'instance', ARGV[2], 'fence', text)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {ARGV[1], ARGV[2], text}
"""

# KEYS room, place. ARGV node, instance, fence, ttl, then the place's node, instance, session ('' for none).
# 0: the room is somebody else's now.
_RENEW = """
local fence = redis.call('HGET', KEYS[1], 'fence')
if fence and tonumber(fence) > tonumber(ARGV[3]) then return 0 end
if fence ~= ARGV[3] then
  redis.call('HSET', KEYS[1], 'node', ARGV[1], 'instance', ARGV[2], 'fence', ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[2], 'node', ARGV[5], 'instance', ARGV[6], 'session', ARGV[7])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 1
"""

_RELEASE = """
if redis.call('HGET', KEYS[1], 'fence') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

_SET_PLACE = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'node', ARGV[2], 'instance', ARGV[3], 'session', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
"""

_beat_encoder = msgspec.msgpack.Encoder()
_beat_decoder = msgspec.msgpack.Decoder(Member)

_FAILURES = (RedisError, OSError, TimeoutError)


def connect(url: str) -> Redis:
    """A client that fails fast: retrying is the directory's own business."""
    client: Redis = Redis.from_url(
        url,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        socket_timeout=SILENCE_S,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return client


class RedisDirectory:
    """`redis` is from `connect` and stays the caller's to close. `instance` is new for every start of the node."""

    def __init__(
        self, redis: Redis, node: str, instance: str | None = None, kind: Literal["web", "media"] = "web"
    ) -> None:
        self._redis = redis
        self._own = Member(node=node, instance=instance or secrets.token_hex(8), kind=kind)
        self._roster = Roster(self._own)
        self._held: dict[str, Lease] = {}
        self._places: dict[str, Place] = {}
        self._mail: list[Callable[[bytes], None]] = []
        self._gone: list[Callable[[Member], None]] = []
        self._gap: list[Callable[[], None]] = []
        self._lease_lost: list[Callable[[Lease], None]] = []
        self._epoch: bytes | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribed = asyncio.Event()
        self._claim_script = redis.register_script(_CLAIM)
        self._renew_script = redis.register_script(_RENEW)
        self._release_script = redis.register_script(_RELEASE)
        self._set_place_script = redis.register_script(_SET_PLACE)

    @property
    def own(self) -> Member:
        return self._own

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when mail arrives. Raises DirectoryUnavailable when Redis is not there within seconds."""
        self._tasks = [asyncio.create_task(self._listen(), name="directory mail")]
        try:
            async with asyncio.timeout(3 * REDIS_TIMEOUT_S):
                await self._subscribed.wait()
                await self._beat()
        except _FAILURES as error:
            await self._end_tasks()
            raise DirectoryUnavailable from error
        self._tasks.append(asyncio.create_task(self._beats(), name="directory beats"))

    async def stop(self, *, goodbye: bool = True) -> None:
        await self._end_tasks()
        if not goodbye:
            return
        with contextlib.suppress(*_FAILURES):
            for lease in list(self._held.values()):
                await self.release(lease)
            leaving = msgspec.structs.replace(self._own, leaving=True)
            await self._redis.delete(_ALIVE + self._own.node)
            await self._redis.publish(_BEATS, _beat_encoder.encode(leaving))

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _beats(self) -> None:
        count = 0
        away = False
        while True:
            await asyncio.sleep(BEAT_S)
            count += 1
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    forgotten = await self._beat()
                    if forgotten or count % RENEW_EVERY_BEATS == 0:
                        await self._renew()
                away = False
            except _FAILURES:
                if not away:
                    log.warning("Redis is away; running rooms go on")
                away = True

    async def _beat(self) -> bool:
        """Say that we live. True when Redis has forgotten everything since the last beat."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(_ALIVE + self._own.node, self._own.instance, px=ALIVE_MS)
            pipe.set(_EPOCH, secrets.token_hex(8), nx=True)
            pipe.get(_EPOCH)
            pipe.publish(_BEATS, _beat_encoder.encode(self._own))
            epoch = (await pipe.execute())[2]
        forgotten = self._epoch is not None and epoch != self._epoch
        self._epoch = epoch
        return forgotten

    async def _renew(self) -> None:
        leases = list(self._held.values())
        if not leases:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for lease in leases:
                place = self._places.get(lease.room)
                of_place = (place.node, place.instance, place.session) if place is not None else ("", "", "")
                await self._renew_script(
                    keys=[_room(lease.room), _place(lease.room)],
                    args=[lease.node, lease.instance, lease.fence, LEASE_MS, *of_place],
                    client=pipe,
                )
            results = await pipe.execute()
        for lease, kept in zip(leases, results, strict=True):
            if not kept and self._held.get(lease.room) == lease:
                self._forget(lease)
                for listener in self._lease_lost:
                    listener(lease)

    def _forget(self, lease: Lease) -> None:
        self._held.pop(lease.room, None)
        self._places.pop(lease.room, None)

    async def _listen(self) -> None:
        subscribed_before = False
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(_BEATS, _mailbox(self._own.node))
                    confirmed = 0
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            confirmed += 1
                            if confirmed == 2:
                                if subscribed_before:
                                    self._tell_gap()
                                subscribed_before = True
                                self._subscribed.set()
                        elif message["type"] == "message":
                            self._hear(message)
            except _FAILURES:
                await asyncio.sleep(RECONNECT_S)

    def _tell_gap(self) -> None:
        for listener in self._gap:
            listener()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["channel"] != _BEATS.encode():
            for listener in self._mail:
                listener(message["data"])
            return
        try:
            beat = _beat_decoder.decode(message["data"])
        except msgspec.MsgspecError:
            return  # of another version, during an upgrade
        for member in self._roster.hear(beat, time.monotonic()):
            log.warning("%s %s is gone", member.kind, member.node)
            for tell in self._gone:
                tell(member)

    # ---- the interface ----------------------------------------------------------------------------------------------

    def describe(self, *, load: float, draining: bool = False) -> None:
        self._own = msgspec.structs.replace(self._own, load=load, draining=draining)

    def members(self, kind: Literal["web", "media"]) -> list[Member]:
        return self._roster.members(kind)

    def on_mail(self, listener: Callable[[bytes], None]) -> None:
        self._mail.append(listener)

    def on_gone(self, listener: Callable[[Member], None]) -> None:
        self._gone.append(listener)

    def on_gap(self, listener: Callable[[], None]) -> None:
        self._gap.append(listener)

    def on_lease_lost(self, listener: Callable[[Lease], None]) -> None:
        self._lease_lost.append(listener)

    async def post(self, node: str, body: bytes) -> bool:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                receivers: int = await self._redis.publish(_mailbox(node), body)
        except _FAILURES:
            return False
        return receivers > 0

    async def claim(self, room: str, *, over: Lease | None = None) -> Lease:
        own = self._own
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                node, instance, fence = await self._claim_script(
                    keys=[_room(room)],
                    args=[own.node, own.instance, _ALIVE, LEASE_MS, over.fence if over is not None else ""],
                )
        except _FAILURES as error:
            raise DirectoryUnavailable from error
        lease = Lease(room=room, node=node.decode(), instance=instance.decode(), fence=int(fence))
        if (lease.node, lease.instance) == (own.node, own.instance):
            self._held[room] = lease
        return lease

    async def owners(self, rooms: Collection[str]) -> dict[str, Lease]:
        found: dict[str, Lease] = {}
        if not rooms:
            return found
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for room in rooms:
                        pipe.hmget(_room(room), ["node", "instance", "fence"])
                    answers = await pipe.execute()
                for room, (node, instance, fence) in zip(rooms, answers, strict=True):
                    if node is not None:
                        found[room] = Lease(room=room, node=node.decode(), instance=instance.decode(), fence=int(fence))
                nodes = sorted({lease.node for lease in found.values()})
                living = await self._redis.mget([_ALIVE + node for node in nodes]) if nodes else []
        except _FAILURES as error:
            raise DirectoryUnavailable from error
        alive = {(node, _text(each)) for node, each in zip(nodes, living, strict=True)}
        return {room: lease for room, lease in found.items() if (lease.node, lease.instance) in alive}

    async def release(self, lease: Lease) -> None:
        self._forget(lease)
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._release_script(keys=[_room(lease.room)], args=[lease.fence])

    async def place_of(self, room: str) -> Place | None:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                fields = await self._redis.hmget(_place(room), ["node", "instance", "session"])
        except _FAILURES as error:
            raise DirectoryUnavailable from error
        node, instance, session = (_text(field) for field in fields)
        return Place(node=node, instance=instance, session=session) if node else None

    async def set_place(self, lease: Lease, place: Place) -> bool:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                noted = await self._set_place_script(
                    keys=[_room(lease.room), _place(lease.room)],
                    args=[lease.fence, place.node, place.instance, place.session, LEASE_MS],
                )
        except _FAILURES as error:
            raise DirectoryUnavailable from error
        if noted:
            self._places[lease.room] = place
        return bool(noted)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _room(room: str) -> str:
    return f"consult:room:{room}"


def _place(room: str) -> str:
    return f"consult:place:{room}"


def _mailbox(node: str) -> str:
    return f"consult:mail:{node}"
