"""A specialist in Chromium and a client in Firefox on a phone's screen, through the real pages and the real relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser import people
from tests.browser.bidi import Firefox, Tab, firefox
from tests.browser.conftest import Launch
from tests.browser.test_call_page import PHONE, SPY, WIDE, new_page
from tests.consult_processes import Served, serve_demo

# Firefox's getVideoPlaybackQuality counts nothing for a call, its getStats does.
RECEIVED = """(async () => {
  const sum = {frames: 0, energy: 0};
  for (const peer of window.peers.filter(({connectionState}) => connectionState === 'connected')) {
    for (const entry of (await peer.getStats()).values()) {
      if (entry.type !== 'inbound-rtp') continue;
      sum.frames += entry.framesDecoded ?? 0;
      sum.energy += entry.totalAudioEnergy ?? 0;
    }
  }
  return sum;
})()"""
CREDENTIALS = "window.peers.map(({localDescription}) => /ufrag:(.*)/.exec(localDescription.sdp)[1])"
STATES = "window.peers.map(({connectionState}) => connectionState)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_demo(tmp_path_factory.mktemp("firefox")) as served:
        yield served


@pytest.fixture
async def browser() -> AsyncIterator[Firefox]:
    async with firefox() as started:
        yield started


async def call_state(tab: Tab, state: str) -> None:
    await tab.wait_for(f"document.documentElement.dataset.callState === '{state}'")


async def expect_media(tab: Tab) -> None:
    """Pictures are decoded, and something is heard, from now on."""
    end = time.monotonic() + people.DEADLINE_MS / 1000
    before = await tab.evaluate(RECEIVED)
    while True:
        await asyncio.sleep(0.3)
        now = await tab.evaluate(RECEIVED)
        if now["frames"] < before["frames"]:
            before = now  # new connections count from 0
        if now["frames"] > before["frames"] + 5 and now["energy"] > before["energy"]:
            return
        assert time.monotonic() < end, f"neither pictures nor sound: {before} → {now}"


async def test_firefox_and_chromium_talk(launch: Launch, browser: Firefox, server: Served, screenshots: Path) -> None:
    links = server.demo["consultation"]
    chromium = await new_page(await launch("--auto-select-desktop-capture-source=Entire screen"), WIDE)
    client = await browser.new_page(PHONE["width"], PHONE["height"], SPY)

    await client.goto(links["client_join_url"])
    await client.wait_for("document.querySelector('#preview-video')?.videoWidth > 0")
    await client.screenshot(screenshots / "firefox-prejoin-390.png")
    await client.click("#join")
    await call_state(client, "waiting")
    await client.screenshot(screenshots / "firefox-waiting-390.png")

    await chromium.goto(links["specialist_join_url"])
    await people.join(chromium)
    await chromium.get_by_role("button", name="Admit").click()
    await call_state(client, "connected")
    await people.call_state(chromium, "connected")
    await expect_media(client)
    await people.expect_media(chromium, "Video of ")
    assert await client.evaluate("document.querySelector('.tile video').paused") is False
    await client.screenshot(screenshots / "firefox-call-390.png")

    # what Firefox's statistics say is understood: a good connection is not called a lost one
    await client.wait_for("document.querySelector('#quality').dataset.quality ?? ''")
    await asyncio.sleep(4)
    assert await client.evaluate("document.querySelector('#quality').dataset.quality") != "lost"

    # both switches reach the other side, and the picture comes back
    await client.click("#microphone")
    await client.click("#camera")
    await expect(chromium.locator(".tile-muted")).to_be_visible()
    await expect(chromium.locator(".tile-avatar")).to_be_visible()
    await client.click("#microphone")
    await client.click("#camera")
    await expect(chromium.locator(".tile-avatar")).to_be_hidden()
    await people.expect_media(chromium, "Video of ")

    await client.click("#more")
    await client.click("#menu-chat")
    await client.click("#chat-text")
    await client.type("Guten Tag\ue007")
    await chromium.get_by_role("button", name="Chat").click()
    await expect(chromium.locator(".chat-text")).to_have_text("Guten Tag")
    await client.click("#chat-close")

    # another network: new ICE credentials on the same connections
    old = await client.evaluate(CREDENTIALS)
    await client.evaluate("void dispatchEvent(new Event('online'))")
    await client.wait_for(f"{CREDENTIALS}.every((now) => !{old}.includes(now))")
    await call_state(client, "connected")
    await expect_media(client)
    assert await client.evaluate(STATES) == ["connected", "connected"]

    await chromium.get_by_role("button", name="Share your screen").click()
    await client.wait_for("""document.querySelector('video[aria-label^="Screen of"]')?.currentTime > 0.5""")
    await client.screenshot(screenshots / "firefox-screen-390.png")
    await chromium.get_by_role("button", name="Stop sharing").click()
    await client.wait_for("""document.querySelector('video[aria-label^="Screen of"]') === null""")

    # back by itself after a reload, and back by hand after leaving
    await client.reload()
    await call_state(client, "connected")
    await expect_media(client)
    await client.click("#leave")
    await call_state(client, "ended")
    await expect(chromium.locator(".tile")).to_have_count(0)
    await client.click("#return")
    await client.wait_for("['waiting', 'connected'].includes(document.documentElement.dataset.callState)")
    if await client.evaluate("document.documentElement.dataset.callState") == "waiting":
        await chromium.get_by_role("button", name="Admit").click()
    await call_state(client, "connected")
    await expect_media(client)
    await people.expect_media(chromium, "Video of ")
    assert [line for line in browser.console if "JavaScript" in line or "Error" in line] == []
