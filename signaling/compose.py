"""The two shapes, put together: everything in one process, or web and media processes around a Redis."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from media.api import Relay
from signaling.admission import Admission, Record
from signaling.directory import LocalDirectory
from signaling.hub import Hub, HubLimits
from signaling.post import Post
from signaling.redis_directory import RedisDirectory, connect
from signaling.relay_pool import LocalPool
from signaling.remote_relay import RelayServer, RemotePool
from signaling.turn import ice_servers


@asynccontextmanager
async def embedded_hub(
    relay: Relay,
    *,
    admission: Admission,
    record: Record,
    public_url: str,
    turn_urls: Sequence[str] = (),
    turn_secret: str | None = None,
    limits: HubLimits | None = None,
    client_address: Callable[[web.Request], str] | None = None,
) -> AsyncIterator[Hub]:
    """`consult serve`: one process, the relay called directly. The hub's `handle` serves GET /ws inside the block;
    leaving it stops the hub gracefully (the relay is the caller's)."""
    directory = LocalDirectory("local", secrets.token_hex(8))
    hub = Hub(
        directory=directory,
        pool=LocalPool(relay),
        admission=admission,
        record=record,
        ice_servers=ice_servers(turn_urls, turn_secret),
        public_url=public_url,
        limits=limits,
        client_address=client_address,
    )
    await directory.start()
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()
        await directory.stop()


@asynccontextmanager
async def shared_hub(
    redis_url: str,
    node: str,
    *,
    admission: Admission,
    record: Record,
    public_url: str,
    turn_urls: Sequence[str] = (),
    turn_secret: str | None = None,
    limits: HubLimits | None = None,
    client_address: Callable[[web.Request], str] | None = None,
) -> AsyncIterator[Hub]:
    """`consult web`: rooms are shared with other web processes, media is in `consult media`. `node` is unique among
    the running processes and the same after a restart (host name and port). Raises DirectoryUnavailable."""
    redis = connect(redis_url)
    directory = RedisDirectory(redis, node, kind="web")
    post = Post(directory)
    pool = RemotePool(directory, post)
    hub = Hub(
        directory=directory,
        pool=pool,
        post=post,
        admission=admission,
        record=record,
        ice_servers=ice_servers(turn_urls, turn_secret),
        public_url=public_url,
        limits=limits,
        client_address=client_address,
    )
    try:
        await directory.start()
        await hub.start()
        try:
            yield hub
        finally:
            await hub.stop()
            await pool.stop()
            await directory.stop()
    finally:
        await redis.aclose()


@asynccontextmanager
async def relay_server(redis_url: str, node: str, relay: Relay) -> AsyncIterator[RelayServer]:
    """`consult media`: the relay of this process serves the web processes inside the block. Call `drain` on SIGTERM
    and leave the block when `rooms` is 0 or the deadline has come. Raises DirectoryUnavailable."""
    redis = connect(redis_url)
    directory = RedisDirectory(redis, node, kind="media")
    server = RelayServer(directory, relay)
    try:
        await directory.start()
        try:
            yield server
        finally:
            await server.stop()
            await directory.stop()
    finally:
        await redis.aclose()
