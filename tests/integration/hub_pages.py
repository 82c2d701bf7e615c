"""Browser pages as far as /ws can tell, and a hub in a web server of its own to serve them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from signaling.hub import Hub
from tests.unit.signaling.fakes import FakeAdmission, FakeRecord, grant

ORIGIN = "https://consult.example"
PATIENCE_S = 40


@dataclass
class Page:
    """A browser page as far as /ws can tell."""

    socket: aiohttp.ClientWebSocketResponse
    welcome: dict[str, Any] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    _request: int = 0

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = await self.socket.receive_json()
        self.seen.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message of this type with these fields; others are passed over."""
        while True:
            message = await self.receive()
            if message["type"] == kind and all(message[key] == value for key, value in fields.items()):
                return message

    async def presence(self, participant: str, presence: str) -> None:
        """Wait until this page is told that someone is waiting, joined, reconnecting."""
        while True:
            info = (await self.until("participant_changed"))["participant"]
            if (info["id"], info["presence"]) == (participant, presence):
                return

    async def request(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for what answers it."""
        self._request += 1
        await self.send(kind, request=self._request, **fields)
        while True:
            message = await self.receive()
            if message.get("request") == self._request:
                return message

    async def closed(self) -> int:
        """The close code, passing over what comes before it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.CLOSE:
                    return int(message.data)
                if message.type in (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
                    return self.socket.close_code or 0
                if message.type is aiohttp.WSMsgType.TEXT:
                    self.seen.append(json.loads(message.data))


class House:
    """A hub in a web server of its own, and a browser."""

    def __init__(self, hub: Hub, server: TestServer, admission: FakeAdmission, record: FakeRecord) -> None:
        self.hub = hub
        self.server = server
        self.admission = admission
        self.record = record
        self.browser = aiohttp.ClientSession()

    async def open(self, origin: str = ORIGIN) -> Page:
        return Page(await self.browser.ws_connect(self.server.make_url("/ws"), origin=origin, max_msg_size=0))

    async def join(self, participant: str, role: str = "client", **more: Any) -> Page:
        page = await self.open()
        ticket = self.admission.ticket(grant(participant, role, live=True, **more))  # type: ignore[arg-type]
        await page.send("join", ticket=ticket, version=1)
        page.welcome = await page.until("welcome")
        return page

    async def resume(self, page: Page, **more: Any) -> Page:
        again = await self.open()
        await again.send("resume", token=page.welcome["resume_token"], **more)
        again.welcome = await again.receive()
        return again


@asynccontextmanager
async def house(hub: Hub, admission: FakeAdmission, record: FakeRecord) -> AsyncIterator[House]:
    app = web.Application()
    app.router.add_get("/ws", hub.handle)
    server = TestServer(app)
    await hub.start()
    await server.start_server()
    built = House(hub, server, admission, record)
    try:
        yield built
    finally:
        await hub.stop()
        await built.browser.close()
        await server.close()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def call(place: House) -> tuple[Page, Page]:
    """A specialist and an admitted client."""
    doctor = await place.join("doctor", "specialist")
    client = await place.join("client")
    await doctor.until("participant_changed")
    assert (await doctor.request("admit", participant="client"))["type"] == "done"
    await client.until("admitted")
    await client.until("started")
    return doctor, client
