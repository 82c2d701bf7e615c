"""A real Firefox, driven by WebDriver BiDi over its own WebSocket (https://w3c.github.io/webdriver-bidi/).

Playwright drives a Firefox of its own build only; BiDi is what Firefox itself speaks.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests import servers

PREFERENCES: dict[str, bool | int | str] = {
    # a moving picture and a tone, and nobody to answer the prompt
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    # The relay of the tests is on this machine. Without a permission Firefox offers the default route's address only,
    # and fake devices need none: so it is given.
    "media.peerconnection.ice.loopback": True,
    "permissions.default.camera": 1,
    "permissions.default.microphone": 1,
    "media.gmp-manager.updateEnabled": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.server": "",
    "remote.prefs.recommended": True,
}
DEADLINE_S = 30.0


class BidiError(Exception):
    """Firefox refused a command, or a script threw. The text is Firefox's."""


class Firefox:
    """One browser process with a profile of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.console: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; raises BidiError."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._waiting[number], 2 * DEADLINE_S)
        if answer.get("type") == "error":
            raise BidiError(f"{method}: {answer.get('error')}: {answer.get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    async def new_page(self, width: int = 1280, height: int = 800, script: str = "") -> Tab:
        """A new tab; `script` runs before each document's own."""
        context = (await self.command("browsingContext.create", type="tab"))["context"]
        await self.command("browsingContext.setViewport", context=context, viewport={"width": width, "height": height})
        if script:
            await self.command("script.addPreloadScript", functionDeclaration=f"() => {{{script}}}", contexts=[context])
        return Tab(self, context)

    async def close(self) -> None:
        with suppress(BidiError, TimeoutError, ConnectionError, aiohttp.ClientError):
            await self.command("browser.close")
        self._reader.cancel()

    async def _read(self) -> None:
        async for message in self._socket:
            content = json.loads(message.data)
            if content.get("type") == "event":
                entry = content["params"]
                self.console.append(f"{entry.get('level')}: {entry.get('text')}")
                continue
            waiting = self._waiting.pop(content.get("id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(content)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(BidiError("Firefox has ended"))


class Tab:
    """One page. Scripts are expressions and may be promises; values come back as plain JSON values."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self.firefox = firefox
        self.context = context

    async def goto(self, url: str) -> None:
        await self.firefox.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    async def reload(self) -> None:
        await self.firefox.command("browsingContext.reload", context=self.context, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        result = await self._run(f"(async () => JSON.stringify(await ({expression})))()")
        return json.loads(result["value"]) if result["type"] == "string" else None

    async def wait_for(self, expression: str, deadline_s: float = DEADLINE_S) -> Any:
        """The first true value of the expression."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            value = await self.evaluate(expression)
            if value:
                return value
            await asyncio.sleep(0.2)
        state = await self.evaluate("document.documentElement.dataset.callState ?? document.title")
        raise AssertionError(f"not in {deadline_s} s: {expression}; the page: {state}; {self.firefox.console[-10:]}")

    async def click(self, selector: str) -> None:
        """A real click, by the pointer, in the middle of what the CSS selector finds: a user's gesture."""
        quoted = json.dumps(selector)
        await self.wait_for(f"document.querySelector({quoted})?.checkVisibility() ?? false")
        await self._run(f"document.querySelector({quoted}).scrollIntoView({{block: 'center'}})")
        element = await self._run(f"document.querySelector({quoted})")
        origin = {"type": "element", "element": {"sharedId": element["sharedId"]}}
        await self._perform(
            {
                "type": "pointer",
                "id": "mouse",
                "actions": [
                    {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
                    {"type": "pointerDown", "button": 0},
                    {"type": "pointerUp", "button": 0},
                ],
            }
        )

    async def type(self, text: str) -> None:
        """Keys into what has the focus; "\\ue007" is Enter."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        await self._perform({"type": "key", "id": "keyboard", "actions": actions})

    async def screenshot(self, path: Path) -> None:
        answer = await self.firefox.command("browsingContext.captureScreenshot", context=self.context)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def _perform(self, source: dict[str, Any]) -> None:
        await self.firefox.command("input.performActions", context=self.context, actions=[source])

    async def _run(self, expression: str) -> dict[str, Any]:
        answer = await self.firefox.command(
            "script.evaluate",
            expression=expression,
            target={"context": self.context},
            awaitPromise=True,
            userActivation=False,
        )
        if answer["type"] == "exception":
            raise BidiError(f"{expression}: {answer['exceptionDetails']['text']}")
        result: dict[str, Any] = answer["result"]
        return result


def _profile(folder: Path, preferences: dict[str, bool | int | str]) -> None:
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
    (folder / "user.js").write_text("\n".join(lines) + "\n")


@asynccontextmanager
async def firefox(**preferences: bool | int | str) -> AsyncIterator[Firefox]:
    """A headless Firefox with a fake camera and microphone; ends with the block."""
    port = servers.free_port()
    folder = Path(tempfile.mkdtemp(prefix="firefox-"))
    _profile(folder, PREFERENCES | preferences)
    program = servers.find_program("firefox-esr")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--profile", folder, f"--remote-debugging-port={port}"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        async with (
            aiohttp.ClientSession() as http,
            await _connected(http, port, process, folder / "log") as socket,
        ):
            browser = Firefox(socket)
            await browser.command("session.new", capabilities={})
            await browser.command("session.subscribe", events=["log.entryAdded"])
            yield browser
            await browser.close()
    finally:
        servers.end(process)
        shutil.rmtree(folder, ignore_errors=True)


async def _connected(
    http: aiohttp.ClientSession, port: int, process: subprocess.Popen[bytes], log: Path
) -> aiohttp.ClientWebSocketResponse:
    end = time.monotonic() + 2 * DEADLINE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"Firefox ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            return await http.ws_connect(f"ws://127.0.0.1:{port}/session", max_msg_size=0)
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(0.2)
    raise TimeoutError(f"Firefox does not answer:\n{log.read_text()[-2000:]}")
