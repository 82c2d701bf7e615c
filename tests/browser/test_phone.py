"""The call page on a phone: touch, Russian, large text, the keyboard, and what the system takes away.

Chromium emulates the phone. What only an iPhone does is played to the page: its events and its visual viewport.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import people
from tests.browser.conftest import Launch
from tests.browser.test_call_page import WIDE, Room, enter, expect_new_frames, new_page, post
from tests.consult_processes import Served, serve_demo

UPRIGHT = {"width": 390, "height": 844}
ACROSS = {"width": 844, "height": 390}

# Controls that stick out of the screen, text that is cut off, and targets that a finger misses.
MISFITS = """(width) => {
  const found = [];
  const shown = (element) => element.checkVisibility() && !element.closest('.visually-hidden, .skip-link, svg');
  const {scrollWidth} = document.documentElement;
  if (scrollWidth > width) found.push(`the page is ${scrollWidth} wide`);
  for (const element of document.querySelectorAll('button, a, select, h1, h2, p, li, dt, dd')) {
    if (!shown(element)) continue;
    const name = element.id || element.className || element.textContent.trim().slice(0, 30);
    const {left, right, width: wide, height} = element.getBoundingClientRect();
    if (left < -1 || right > width + 1) found.push(`${name} reaches from ${left} to ${right}`);
    if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline')
      found.push(`${name} is cut off`);
    const target = element.matches('button, select, .button');
    if (target && (height < 40 || wide < 40)) found.push(`${name} is ${wide} × ${height}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_demo(tmp_path_factory.mktemp("phone")) as served:
        yield served


@pytest.fixture
def room(server: Served) -> Room:
    return Room(server, post(server, "/api/v1/consultations", {"encryption": "transport"})["id"])


async def phone(browser: Browser, language: str = "ru-RU", **more: Any) -> Page:
    context = await browser.new_context(
        viewport=UPRIGHT,  # type: ignore[arg-type]
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
        locale=language,
        **more,
    )
    return await context.new_page()


async def expect_fits(page: Page, picture: Path | None = None) -> None:
    viewport = page.viewport_size
    assert viewport is not None
    if picture is not None:
        await page.screenshot(path=picture, scale="css")
    assert await page.evaluate(MISFITS, viewport["width"]) == []


async def enlarge(page: Page, percent: int) -> None:
    """As the browser's setting for the size of text does."""
    await page.evaluate(f"document.documentElement.style.fontSize = '{percent}%'")
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def test_russian_and_large_text_fit_each_screen(launch: Launch, server: Served, screenshots: Path) -> None:
    links = server.demo["consultation"]
    client = await phone(await launch(), reduced_motion="reduce")
    specialist = await new_page(await launch(), WIDE)

    async def every_way(name: str) -> None:
        await expect_fits(client, screenshots / f"phone-{name}-ru.png")
        await client.set_viewport_size(ACROSS)  # type: ignore[arg-type]
        await client.evaluate("scrollTo(0, 0)")
        await expect_fits(client, screenshots / f"phone-{name}-across-ru.png")
        await client.set_viewport_size(UPRIGHT)  # type: ignore[arg-type]
        await enlarge(client, 200)
        await expect_fits(client, screenshots / f"phone-{name}-200-ru.png")
        await enlarge(client, 100)

    await client.goto(links["client_join_url"])
    await expect(client.locator("html")).to_have_attribute("lang", "ru")
    await expect(client.locator("#preview-video")).to_be_visible(timeout=people.DEADLINE_MS)
    await every_way("prejoin")
    await client.tap("#join")
    await people.call_state(client, "waiting")
    await every_way("waiting")
    moving = "document.getAnimations().filter((one) => one.effect.getTiming().iterations === Infinity).length"
    assert await client.evaluate(moving) == 0, "who asked for less motion gets it"

    await specialist.goto(links["specialist_join_url"])
    await people.join(specialist)
    await specialist.get_by_role("button", name="Admit").click()
    await people.call_state(client, "connected")
    await expect(client.locator(".tile")).to_have_count(1)
    await every_way("call")
    await client.tap("#more")
    await every_way("menu")
    await client.tap("#menu-info")
    await expect(client.locator("#info-dialog")).to_be_visible()
    await every_way("info")
    await client.locator("#info-dialog [data-close]").tap()
    await client.tap("#leave")
    await people.call_state(client, "ended")
    await every_way("ended")


async def test_the_chat_gives_way_to_the_keyboard(launch: Launch, room: Room, screenshots: Path) -> None:
    anna = await new_page(await launch(), WIDE)
    boris = await phone(await launch(), "en-GB")
    await enter(anna, room.link("Anna"))
    await enter(boris, room.link("Boris"))
    await anna.get_by_role("button", name="Chat").click()
    for number in range(1, 5):
        await anna.get_by_label("Message", exact=True).fill(f"Line {number}\n" + "of several\n" * 8)
        await anna.keyboard.press("Enter")
        await expect(boris.locator(".chat-text")).to_have_count(number)
    await boris.tap("#more")
    await boris.tap("#menu-chat")
    assert await boris.evaluate("document.activeElement.id") == "chat-lines", "a finger has come to read"
    await boris.tap("#chat-text")
    # as on an iPhone: the page keeps its height, what can be seen of it does not
    await boris.evaluate(
        """() => {
          Object.defineProperty(visualViewport, 'height', {value: 480, configurable: true});
          Object.defineProperty(visualViewport, 'offsetTop', {value: 40, configurable: true});
          visualViewport.dispatchEvent(new Event('resize'));
        }"""
    )
    below = await boris.evaluate("document.querySelector('#chat-form').getBoundingClientRect().bottom")
    assert 480 < below <= 520, "the form is above the keyboard"
    await boris.screenshot(path=screenshots / "phone-keyboard.png", scale="css")
    last = await boris.evaluate(
        """() => {
          const lines = document.querySelector('#chat-lines');
          return lines.scrollHeight - lines.scrollTop - lines.clientHeight;
        }"""
    )
    assert last < 2, "the newest line is in sight"
    await boris.evaluate("delete visualViewport.height; delete visualViewport.offsetTop")
    await boris.evaluate("visualViewport.dispatchEvent(new Event('resize'))")
    await boris.tap("#chat-close")
    assert await boris.evaluate("document.querySelector('#call').getBoundingClientRect().bottom") == UPRIGHT["height"]
    assert await boris.evaluate("document.activeElement.id") == "more"


async def test_after_a_phone_call_one_tap_brings_everything_back(launch: Launch, room: Room) -> None:
    anna = await new_page(await launch(), WIDE)
    boris = await phone(await launch(), "en-GB")
    await boris.add_init_script(
        """
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.streams = [];
        window.asked = [];
        navigator.mediaDevices.getUserMedia = async (wish) => {
          window.asked.push([Boolean(wish.audio), Boolean(wish.video)]);
          const stream = await ask(wish);
          window.streams.push(stream);
          return stream;
        };"""
    )
    await enter(anna, room.link("Anna"))
    await enter(boris, room.link("Boris"))
    await expect_new_frames(anna, "Boris")
    # the system takes both devices, and stops what plays
    await boris.evaluate(
        """() => {
          for (const track of window.streams.at(-1).getTracks()) {
            track.dispatchEvent(new Event('mute'));
          }
          for (const video of document.querySelectorAll('video')) video.pause();
        }"""
    )
    await expect(anna.locator(".tile-avatar")).to_be_visible(timeout=people.DEADLINE_MS)
    await expect(anna.get_by_title("Boris is muted")).to_be_visible()
    restore = boris.locator("#tap-to-restore")
    await expect(restore).to_be_visible(timeout=people.DEADLINE_MS)
    asked = await boris.evaluate("window.asked.length")
    await restore.tap()
    await expect(restore).to_be_hidden(timeout=people.DEADLINE_MS)
    assert await boris.evaluate(f"window.asked.slice({asked})") == [[True, True]], "one request"
    await expect(anna.locator(".tile-avatar")).to_be_hidden()
    await expect(anna.get_by_title("Boris is muted")).to_be_hidden()
    await expect_new_frames(anna, "Boris")
    end = time.monotonic() + 10
    while await boris.evaluate("[...document.querySelectorAll('#call video')].some((video) => video.paused)"):
        assert time.monotonic() < end, "a picture stands still"
        await asyncio.sleep(0.1)
    await expect_new_frames(boris, "Anna")
