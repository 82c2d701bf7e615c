"""The two ways a web process reaches rooms and relays: all in this process, or through Redis."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from consult.settings import Settings
from media.relay import LocalRelay
from media.settings import RelaySettings
from signaling.directory import LocalDirectory
from signaling.post import Post
from signaling.redis_directory import RedisDirectory
from signaling.redis_directory import connect as connect_redis
from signaling.relay_pool import LocalPool
from signaling.remote_relay import RelayServer, RemotePool
from web.keys import Connect

DRAIN_SECONDS = 6.0


def relay_settings(settings: Settings) -> RelaySettings:
    """What the environment says about media, for one relay."""
    return RelaySettings(
        port=settings.media_port,
        announced_ips=settings.media_ips,
        turn_hosts=tuple(_host(url) for url in settings.turn_urls if url.startswith("turn")),
    )


def _host(turn_url: str) -> str:
    """turn:host:port?transport=udp → host (RFC 7065)."""
    return urlsplit(f"//{turn_url.partition(':')[2].partition('?')[0]}").hostname or ""


def connect_locally(relay: LocalRelay) -> Connect:
    """Everything in this process."""
    return Connect(
        directory=LocalDirectory("local", secrets.token_hex(8)),
        pool=LocalPool(relay),
        media_flows=relay.healthy,
        relay_snapshot=relay.snapshot,
    )


@asynccontextmanager
async def connect_through_redis(settings: Settings) -> AsyncIterator[Connect]:
    """This web process as a node; media processes are found by their beats."""
    redis = connect_redis(settings.redis_url or "")
    directory = RedisDirectory(redis, node_name("web", settings.port), kind="web")
    post = Post(directory)
    try:
        yield Connect(
            directory=directory,
            pool=RemotePool(directory, post),
            media_flows=lambda: any(not member.draining for member in directory.members("media")),
            post=post,
        )
    finally:
        await redis.aclose()


@asynccontextmanager
async def announce_relay(settings: Settings, relay: LocalRelay) -> AsyncIterator[None]:
    """This process's relay, offered to the web processes. At the end its rooms move to other relays first: those who
    own them have DRAIN_SECONDS, and what has nowhere to go is closed."""
    redis = connect_redis(settings.redis_url or "")
    directory = RedisDirectory(redis, node_name("media", settings.media_port), kind="media")
    server = RelayServer(directory, relay)
    try:
        await directory.start()
        yield
        server.drain()
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while server.rooms and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 (others empty it)
            await asyncio.sleep(0.1)
        await server.stop()
        await directory.stop()
    finally:
        await redis.aclose()


def node_name(kind: str, port: int) -> str:
    """The same at every start of this process on this machine, and no other's."""
    return f"{kind}-{socket.gethostname()}-{port}"
