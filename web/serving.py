"""Running the processes: `serve` (all roles in one), `web`, `media`, `worker`; their start and their graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from consult import demo
from consult.db import Database
from consult.errors import SettingsError
from consult.notify.worker import mail_channel, run_worker
from consult.people import accounts
from consult.privacy.keys import load_keys
from consult.privacy.vault import Vault
from consult.settings import Settings
from media import relay as relays
from migrations import current_revision, upgrade_async
from signaling.directory import DirectoryUnavailable
from web.app import Parts, create_app, utc_now
from web.connections import announce_relay, connect_locally, connect_through_redis, relay_settings
from web.i18n import translator
from web.keys import PracticeInfo

log = structlog.get_logger("serving")

STOP_SECONDS = 10.0


class StartError(Exception):
    """The process cannot start, and the operator can change that: the message says how."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every role stands on."""

    settings: Settings
    database: Database
    vault: Vault
    practice: PracticeInfo
    demo: dict[str, Any] | None = None


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of the host. Raises StartError when the port is taken or the host is not
    ours."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise StartError(f"--host {host}: this name has no address") from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = sockets[0].getsockname()[1] if port == 0 and len(sockets) > 1 else port
            one.bind((address[0], chosen, *address[2:]))
            one.listen(1024)
            one.setblocking(False)
    except OSError as error:
        for one in sockets:
            one.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is in use by another program: stop it, or choose another port with --port"
            ) from None
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return sockets


@asynccontextmanager
async def ground(settings: Settings, *, migrate: bool, with_demo: bool = False) -> AsyncIterator[Ground]:
    """Keys, a database at the newest revision, and the practice."""
    if not migrate and not settings.keys_file.exists():
        # one process making keys that the others do not have would seal what nobody can open
        raise SettingsError("CONSULT_KEYS", "expected the path of the key file; make one with `consult keys create`")
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault = Vault(load_keys(settings))
    with database_needed():
        if migrate:
            await upgrade_async(settings.database_url)
        else:
            found, newest = await current_revision(settings.database_url)
            if found != newest:
                raise StartError("the database is not at the newest revision: run `consult migrate` first")
    database = Database(settings.database_url)
    try:
        # demo data names the practice, so it comes before the practice is read
        document = await demo.fill(database, vault, settings, utc_now()) if with_demo else None
        async with database.write() as session:
            practice = await accounts.ensure_practice(session, utc_now())
        info = PracticeInfo(practice.id, practice.slug, practice.name, practice.zone, practice.language)
        yield Ground(settings, database, vault, info, document)
    finally:
        await database.close()


@contextlib.contextmanager
def database_needed() -> Iterator[None]:
    """What a driver raises when nobody answers names no variable: say which one to look at."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StartError(f"CONSULT_DATABASE_URL: the database does not answer there ({reason})") from None


def stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    return stop


@asynccontextmanager
async def served(app: web.Application, sockets: list[socket.socket]) -> AsyncIterator[None]:
    """The app on these sockets. At the end new connections are refused, calls are told, and requests finish."""
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS / 2, keepalive_timeout=75
    )
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def background(name: str, run: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """A role in a task of its own. At the end it is asked to stop and has the deadline to finish what it does."""
    stop = asyncio.Event()

    async def body() -> None:
        await run(stop)

    task = asyncio.create_task(body(), name=name)
    try:
        yield task
    finally:
        stop.set()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(task)
        if not task.done():
            log.warning("stopped_late", task=name)
            task.cancel()


async def work(base: Ground, stop: asyncio.Event) -> None:
    """Mail and reminders."""
    await run_worker(
        base.database,
        base.vault,
        mail_channel(base.settings),
        utc_now,
        stop,
        public_url=base.settings.public_url,
        translator=translator,
    )


async def _until(stop: asyncio.Event, *tasks: asyncio.Task[Any]) -> None:
    """Until asked to stop, or until a role dies: then this process ends too, and its supervisor starts it anew."""
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None and not stop.is_set():
            raise RuntimeError(f"the role {task.get_name()} died") from task.exception()


async def run_serve(
    settings: Settings, sockets: list[socket.socket], *, with_demo: bool, say: Callable[[str], None]
) -> None:
    """All roles in one process, with the embedded database unless CONSULT_DATABASE_URL names another."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(ground(settings, migrate=True, with_demo=with_demo))
        relay = await start_relay(settings)
        stack.push_async_callback(relay.stop)
        redis = await stack.enter_async_context(redis_client(settings))
        if redis is not None:
            with _redis_needed():
                await redis.ping()
        worker = await stack.enter_async_context(background("worker", lambda asked: work(base, asked)))
        parts = Parts(
            settings=settings,
            database=base.database,
            vault=base.vault,
            practice=base.practice,
            connect=connect_locally(relay),
            redis=redis,
        )
        await stack.enter_async_context(served(create_app(parts), sockets))
        reachable = ", ".join(f"{ip} port {port}" for ip, port in relay.addresses)
        say(f"Consult is at {settings.public_url}")
        say(f"Media: UDP {reachable} ({'answers' if relay.healthy() else 'DOES NOT ANSWER: see consult doctor'})")
        if settings.smtp_url is None:
            say(f"Mail: files under {settings.data_dir / 'outbox'} (CONSULT_SMTP_URL is not set)")
        if base.demo is not None:
            say(describe_demo(base.demo))
        await _until(stop, worker)
        say("Stopping …")


@contextlib.contextmanager
def _redis_needed() -> Iterator[None]:
    try:
        yield
    except (DirectoryUnavailable, RedisError):
        raise StartError("CONSULT_REDIS_URL: Redis does not answer there") from None


async def run_web(settings: Settings, sockets: list[socket.socket], *, say: Callable[[str], None]) -> None:
    """Pages, API, and the hub; rooms and relays through Redis."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(ground(settings, migrate=False))
        redis = await stack.enter_async_context(redis_client(settings, needed=True))
        connect = await stack.enter_async_context(connect_through_redis(settings))
        parts = Parts(
            settings=settings,
            database=base.database,
            vault=base.vault,
            practice=base.practice,
            connect=connect,
            redis=redis,
        )
        with _redis_needed():
            await stack.enter_async_context(served(create_app(parts), sockets))
        say(f"Consult is at {settings.public_url}")
        await _until(stop)


async def run_media(settings: Settings, *, say: Callable[[str], None]) -> None:
    """One relay, driven over Redis."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(redis_client(settings, needed=True))
        relay = await start_relay(settings)
        stack.push_async_callback(relay.stop)
        with _redis_needed():
            await stack.enter_async_context(announce_relay(settings, relay))
        say(f"Media: UDP {', '.join(f'{ip} port {port}' for ip, port in relay.addresses)}")
        await _until(stop)


async def run_worker_process(settings: Settings, *, say: Callable[[str], None]) -> None:
    stop = stop_on_signals()
    async with (
        ground(settings, migrate=False) as base,
        background("worker", lambda asked: work(base, asked)) as worker,
    ):
        say("Worker: mail and reminders")
        await _until(stop, worker)


async def start_relay(settings: Settings) -> relays.LocalRelay:
    try:
        return await relays.start(relay_settings(settings))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"UDP port {settings.media_port} is in use by another program: stop it, or set CONSULT_MEDIA_PORT"
            ) from None
        raise StartError(f"cannot open UDP port {settings.media_port}: {error.strerror or error}") from None
    except ValueError as error:
        raise StartError(f"CONSULT_MEDIA_IP: {error}") from None


@asynccontextmanager
async def redis_client(settings: Settings, *, needed: bool = False) -> AsyncIterator[Any]:
    """A client for health checks, or None when there is no Redis."""
    if settings.redis_url is None:
        if needed:
            raise SettingsError(
                "CONSULT_REDIS_URL",
                "expected redis://HOST:PORT: separate processes meet there (or use `consult serve`)",
            )
        yield None
        return
    client = Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    try:
        yield client
    finally:
        await client.aclose()


def describe_demo(document: dict[str, Any]) -> str:
    """The log-ins, for the terminal."""
    lines = ["", "Demo log-ins (give the TOTP secret to an authenticator app)"]
    for title, person in [("admin", document["admin"]), *(("specialist", one) for one in document["specialists"])]:
        lines.append(f"  {title:<11} {person['email']}  {person['password']}  TOTP {person['totp_secret']}")
    room = document["consultation"]
    lines += [
        "A consultation that starts now:",
        f"  specialist  {room['specialist_join_url']}",
        f"  client      {room['client_join_url']}",
        "",
    ]
    return "\n".join(lines)
