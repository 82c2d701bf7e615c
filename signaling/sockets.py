"""One browser's WebSocket: what may come in, how fast; what goes out, and what happens to a reader who is too slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from signaling.messages import HEARTBEAT_MS
from signaling.rate import TokenBucket

# What may wait for a slow reader: a welcome with a long chat is about 200 kB.
MAX_QUEUED_FRAMES = 512
MAX_QUEUED_BYTES = 1 << 20
CLOSE_TIMEOUT_S = 2.0
# Three missed pings, and a little for a busy machine.
SILENCE_S = 3 * HEARTBEAT_MS / 1000 + 0.5
# A page sends a ping every 2 s and about twenty messages when it joins.
MESSAGES_AT_ONCE = 100
MESSAGES_PER_SECOND = 30.0
# Dropped messages after which a flood is cut off.
FLOOD = 200
WARNING_EVERY_S = 1.0

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def allowed_origins(public_url: str) -> frozenset[str]:
    """The origins whose pages may open a socket: the public URL's, and for a loopback one its other names."""
    parts = urlsplit(public_url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in (None, default) else f":{parts.port}"
    hosts = _LOOPBACK if host in _LOOPBACK else (host,)
    return frozenset(f"{parts.scheme}://{name}{port}".lower() for name in hosts)


class Flood:
    """Counts one socket's messages. `take` says what to do with the next one."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(MESSAGES_AT_ONCE, MESSAGES_PER_SECOND)
        self._dropped = 0
        self._warned_at: float | None = None

    def take(self, seconds: float) -> str:
        """`pass`, `warn` (drop it and say so), `drop`, or `cut`."""
        if self._bucket.take(seconds):
            return "pass"
        self._dropped += 1
        if self._dropped > FLOOD:
            return "cut"
        if self._warned_at is None or seconds - self._warned_at >= WARNING_EVERY_S:
            self._warned_at = seconds
            return "warn"
        return "drop"


class SocketLink:
    """A socket on this node, as a room sees it (signaling/actor.py, Link)."""

    def __init__(self, identifier: str, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.id = identifier
        self.participant: str | None = None
        self.slow = False
        self._request = request
        self._socket = socket
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._close_code: int | None = None
        self._wake = asyncio.Event()
        self._writer = asyncio.create_task(self._write(), name=f"socket {identifier}")

    @property
    def closing(self) -> bool:
        return self._close_code is not None

    def send(self, frame: bytes) -> None:
        if self._close_code is not None:
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        if len(self._frames) > MAX_QUEUED_FRAMES or self._bytes > MAX_QUEUED_BYTES:
            self.slow = True
            self.abort()
            return
        self._wake.set()

    def close(self, code: int) -> None:
        if self._close_code is None:
            self._close_code = code
            self._wake.set()

    def abort(self) -> None:
        """Drop the connection at once, with what is queued."""
        self._close_code = self._close_code or 1008
        self._frames.clear()
        self._bytes = 0
        if self._request.transport is not None:
            self._request.transport.abort()
        self._wake.set()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                while self._frames:
                    frame = self._frames.popleft()
                    self._bytes -= len(frame)
                    await self._socket.send_frame(frame, WSMsgType.TEXT)
                if self._close_code is not None:
                    break
                self._wake.clear()
                await self._wake.wait()
        code = self._close_code if self._close_code is not None else 1011
        self._close_code = code
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close(code=code)

    async def finish(self) -> None:
        """The reader is done: let the writer end, whatever it waits for."""
        self.close(1000)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S + 0.5):
                await self._writer
        except TimeoutError:
            self.abort()
