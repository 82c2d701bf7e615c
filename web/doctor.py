"""`consult doctor`: what this installation needs, with a verdict each, and what to do about a failed one.

Nothing is changed: no file is made, no table, no mail is sent.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import aiosmtplib
from redis.asyncio import Redis

from consult.errors import SettingsError
from consult.privacy.keys import read_key_file
from consult.settings import Settings, is_loopback
from migrations import current_revision

PATIENCE_SECONDS = 5.0
STUN_MAGIC_COOKIE = 0x2112A442  # RFC 8489 section 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`note`: works, but worth knowing."""

    what: str
    state: Literal["ok", "note", "failed"]
    text: str


async def examine(settings: Settings) -> list[Verdict]:
    checks: list[tuple[str, Callable[[Settings], Awaitable[Verdict]]]] = [
        ("data directory", _data_directory),
        ("database", _database),
        ("keys", _keys),
        ("redis", _redis),
        ("mail", _mail),
        ("media port", _media_port),
        ("turn", _turn),
        ("metrics", _metrics),
    ]
    verdicts = []
    for what, check in checks:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                verdicts.append(await check(settings))
        except TimeoutError:
            verdicts.append(Verdict(what, "failed", f"no answer within {PATIENCE_SECONDS:.0f} s"))
        except Exception as error:
            # the text of a driver's error may hold the URL with its password
            verdicts.append(Verdict(what, "failed", f"cannot be reached ({type(error).__name__})"))
    return verdicts


async def _data_directory(settings: Settings) -> Verdict:
    what, path = "data directory", settings.data_dir
    if not path.exists():
        return Verdict(what, "note", f"{path} does not exist yet; the first start makes it")
    probe = path / f".doctor.{secrets.token_hex(4)}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Verdict(what, "failed", f"{path} cannot be written ({error.strerror})")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Verdict(what, "note", f"{path}: others on this machine may look into it (mode {mode:04o}; chmod 700)")
    return Verdict(what, "ok", str(path))


async def _metrics(settings: Settings) -> Verdict:
    what, host = "metrics", urlsplit(settings.public_url).hostname or ""
    if settings.metrics_token is not None:
        return Verdict(what, "ok", "/metrics answers to CONSULT_METRICS_TOKEN")
    if is_loopback(host):
        return Verdict(what, "ok", "/metrics answers to this machine only")
    return Verdict(what, "note", "/metrics answers nobody: behind a proxy it needs CONSULT_METRICS_TOKEN")


async def _database(settings: Settings) -> Verdict:
    what = "database"
    embedded = settings.database_url.startswith("sqlite")
    name = "SQLite" if embedded else "PostgreSQL"
    if embedded and not settings.data_dir.exists():
        return Verdict(what, "note", "SQLite: no file yet; the first start makes it")
    found, newest = await current_revision(settings.database_url)
    if found is None:
        state: Literal["note", "failed"] = "note" if embedded else "failed"
        return Verdict(what, state, f"{name} answers and is empty: run `consult migrate`")
    if found != newest:
        return Verdict(what, "failed", f"{name} is at revision {found}, not {newest}: run `consult migrate`")
    return Verdict(what, "ok", f"{name} answers, at the newest revision {newest}")


async def _keys(settings: Settings) -> Verdict:
    what = "keys"
    if not settings.keys_required and not settings.keys_file.exists():
        return Verdict(what, "note", f"no key file yet; `consult serve` makes {settings.keys_file} at its first start")
    try:
        keys = read_key_file(settings.keys_file)
    except SettingsError as error:
        return Verdict(what, "failed", error.expected)
    return Verdict(what, "ok", f"{settings.keys_file}, {len(keys.wrapping)} version(s), current {keys.current}")


async def _redis(settings: Settings) -> Verdict:
    what = "redis"
    if settings.redis_url is None:
        return Verdict(what, "note", "not configured: `consult serve` needs none, separate processes do")
    client = Redis.from_url(settings.redis_url, socket_timeout=3, socket_connect_timeout=3)
    try:
        await client.ping()
        version = (await client.info("server")).get("redis_version", "?")
    finally:
        await client.aclose()
    return Verdict(what, "ok", f"answers, version {version}")


async def _mail(settings: Settings) -> Verdict:
    what = "mail"
    if settings.smtp_url is None:
        return Verdict(
            what, "note", f"CONSULT_SMTP_URL is not set: mails are files under {settings.data_dir / 'outbox'}"
        )
    parts = urlsplit(settings.smtp_url)
    tls = parts.scheme == "smtps"
    client = aiosmtplib.SMTP(
        hostname=parts.hostname, port=parts.port or (465 if tls else 587), use_tls=tls, timeout=PATIENCE_SECONDS
    )
    await client.connect()
    await client.ehlo()
    secured = tls or client.get_transport_info("sslcontext") is not None
    if not parts.username and not secured:
        await client.quit()
        return Verdict(what, "note", f"{parts.hostname} answers, without encryption")
    await client.quit()
    return Verdict(what, "ok", f"{parts.hostname} answers")


async def _media_port(settings: Settings) -> Verdict:
    """Free: a relay could start. In use: a relay (or something else) is there; ask it by STUN."""
    what, port = "media port", settings.media_port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return Verdict(what, "failed", f"UDP {port}: {error.strerror}")
            return Verdict(what, "ok", f"UDP {port} is in use: a relay runs there (see /healthz)")
    announced = ", ".join(settings.media_ips) or "this machine's own addresses"
    text = f"UDP {port} is free; announced: {announced}"
    if not settings.media_ips and settings.is_https:
        return Verdict(what, "note", f"{text}. Behind NAT or in a container set CONSULT_MEDIA_IP")
    return Verdict(what, "ok", text)


async def _turn(settings: Settings) -> Verdict:
    what = "turn"
    if not settings.turn_urls:
        return Verdict(what, "note", "not configured: people behind firewalls that block UDP cannot join a call")
    answers = []
    for url in settings.turn_urls:
        parts = urlsplit(f"//{url.partition(':')[2].partition('?')[0]}")
        host, port = parts.hostname or "", parts.port or (5349 if url.startswith(("turns:", "stuns:")) else 3478)
        if url.startswith(("turns:", "stuns:")) or "transport=tcp" in url:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            answers.append(f"{host}:{port} accepts connections")
        elif await _stun(host, port):
            answers.append(f"{host}:{port} answers")
        else:
            return Verdict(what, "failed", f"{host}:{port} does not answer over UDP")
    return Verdict(what, "ok", "; ".join(answers))


async def _stun(host: str, port: int) -> bool:
    """A STUN Binding request (RFC 8489): every TURN server answers it without a password."""
    transaction = secrets.token_bytes(12)
    request = struct.pack("!HHI", 0x0001, 0, STUN_MAGIC_COOKIE) + transaction
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, _, _, _, address = found[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        for _ in range(3):
            probe.sendto(request, address)
            try:
                async with asyncio.timeout(1):
                    answer = await loop.sock_recv(probe, 1500)
            except TimeoutError:
                continue
            if answer[8:20] == transaction:
                return True
    return False
