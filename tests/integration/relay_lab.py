"""A relay with a page server and a bad network for tests: real sockets, real browsers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from media.api import RelayError, RelayEvent, SubscribeOffer
from media.relay import LocalRelay

PAGES = Path(__file__).parent / "relay_browser"
ROOM = "room"
BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
]


async def eventually(
    look: Callable[[], Any] | Callable[[], Awaitable[Any]], within_s: float = 60.0, every_s: float = 0.1
) -> Any:
    """The first truthy result of `look`; fails with the last one after a generous while."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s} s: {look!r} gave {found!r}")
        await asyncio.sleep(every_s)


_tasks: set[asyncio.Task[Any]] = set()


def keep(work: Coroutine[Any, Any, Any]) -> None:
    """Run in the background; the loop itself keeps only weak references."""
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class LossyProxy:
    """A UDP proxy between browsers and the relay that loses a seeded share of the media (never STUN and DTLS)
    and delays everything. Every client gets an upstream socket of its own, as behind a NAT; `rebind` gives it
    another."""

    def __init__(self, upstream: tuple[str, int], *, loss: float = 0.0, delay_s: float = 0.0) -> None:
        self.upstream = upstream
        self.loss = loss
        self.delay_s = delay_s
        self.blocked = False
        self._closed = False
        self.lost = 0
        self.passed = 0
        self._random = random.Random(7)
        self._front: asyncio.DatagramTransport | None = None
        self._back: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._opening: set[tuple[str, int]] = set()

    @property
    def port(self) -> int:
        assert self._front is not None
        return int(self._front.get_extra_info("sockname")[1])

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Receiver(self._from_client), local_addr=("127.0.0.1", 0)
        )

    def close(self) -> None:
        self._closed = True
        for transport in (self._front, *self._back.values()):
            if transport is not None:
                transport.close()

    def rebind(self) -> None:
        """The NAT forgets everybody: the next packets come from new addresses."""
        for transport in self._back.values():
            transport.close()
        self._back.clear()

    def _from_client(self, data: bytes, client: tuple[str, int]) -> None:
        back = self._back.get(client)
        if back is not None:
            self._pass(lambda: back.sendto(data), data)
        elif client not in self._opening:
            self._opening.add(client)
            keep(self._open_back(client, data))

    async def _open_back(self, client: tuple[str, int], first: bytes) -> None:
        loop = asyncio.get_running_loop()

        def to_client(data: bytes, _: tuple[str, int]) -> None:
            front = self._front
            assert front is not None
            self._pass(lambda: front.sendto(data, client), data)

        transport, _ = await loop.create_datagram_endpoint(lambda: _Receiver(to_client), remote_addr=self.upstream)
        self._opening.discard(client)
        self._back[client] = transport
        self._pass(lambda: transport.sendto(first), first)

    def _pass(self, send: Callable[[], None], data: bytes) -> None:
        if self.blocked:
            return
        if data and 128 <= data[0] <= 191 and self._random.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, lambda: None if self._closed else send())
        else:
            send()


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._receive(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """ICMP errors are part of a bad network."""


class PageServer:
    """Serves the page and passes its commands to the relay; the events wait in `events`."""

    def __init__(self, relay: LocalRelay) -> None:
        self.relay = relay
        self.events: list[RelayEvent] = []
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._fresh: set[str] = set()
        self._runner: web.AppRunner | None = None
        self.base_url = ""
        relay.on_event(self._event)

    async def open(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/client.js", self._script)
        app.router.add_get("/ws/{id}", self._websocket)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://localhost:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        for socket in list(self._sockets.values()):
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def of(self, event_type: type[Any], /, **fields: Any) -> list[Any]:
        """The events of this type with these values."""
        return [
            event
            for event in self.events
            if isinstance(event, event_type) and all(getattr(event, name) == one for name, one in fields.items())
        ]

    async def _page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGES / "index.html")

    async def _script(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGES / "client.js")

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        participant = request.match_info["id"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[participant] = socket
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._command(participant, socket, json.loads(message.data))
        return socket

    async def _command(self, participant: str, socket: web.WebSocketResponse, body: dict[str, Any]) -> None:
        number, name = body.pop("number"), body.pop("name")
        try:
            result = await getattr(self.relay, name)(ROOM, participant, **body)
            await socket.send_json({"number": number, "result": result})
        except RelayError as error:
            await socket.send_json({"number": number, "error": error.code})

    def _event(self, event: RelayEvent) -> None:
        self.events.append(event)
        if isinstance(event, SubscribeOffer):
            socket = self._sockets.get(event.participant)
            if socket is not None and not socket.closed:
                keep(socket.send_json({"offer": event.offer, "revision": event.revision}))


@asynccontextmanager
async def page_server(relay: LocalRelay) -> AsyncIterator[PageServer]:
    server = PageServer(relay)
    await server.open()
    try:
        yield server
    finally:
        await server.close()
