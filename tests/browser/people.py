"""What people do with the pages, as steps a test can read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pyotp
from playwright.async_api import Page, expect

# for a machine that does much else at the same time
DEADLINE_MS = 60_000


async def sign_in(page: Page, base_url: str, person: dict[str, Any]) -> None:
    """Password, then the code of the authenticator. A code is good once: a second sign-in waits for the next one."""
    await page.goto(f"{base_url}/account/sign-in")
    await page.get_by_label("E-mail").fill(person["email"])
    await page.get_by_label("Password", exact=True).fill(person["password"])
    await page.get_by_role("button", name="Continue").click()
    code = page.get_by_role("textbox", name="Code")
    await expect(code).to_be_visible()
    # the newest code the server takes (one step of clock difference is allowed), so that a used one is rarely met
    for offset_s in (0, 30, 60):
        await code.fill(pyotp.TOTP(person["totp_secret"]).at(int(time.time()) + offset_s))
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_load_state()
        if "/account/code" not in page.url:
            return
        if offset_s == 30:
            await page.wait_for_timeout(1000 * (31 - int(time.time()) % 30))
    raise AssertionError("no code was accepted")


async def open_at_all_hours(page: Page, base_url: str, service_name: str) -> None:
    """The specialist offers every hour of the week and a service that can be booked for the next minutes."""
    await page.goto(f"{base_url}/desk/availability")
    for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"):
        froms = page.get_by_label(f"{day} from")
        if not await froms.count():
            await page.get_by_role("button", name=f"Add hours on {day}").click()
        # one row for the whole day, the others empty
        for number in range(await froms.count()):
            await froms.nth(number).fill("00:00" if number == 0 else "")
            await page.get_by_label(f"{day} until").nth(number).fill("23:59" if number == 0 else "")
    await page.get_by_role("button", name="Save the hours").click()
    await expect(page.get_by_role("status").first).to_be_visible()
    await page.goto(f"{base_url}/desk/services")
    await page.get_by_role("link", name=service_name).first.click()
    await page.get_by_label("Shortest notice, minutes").fill("0")
    await page.get_by_label("A start every … minutes").fill("5")
    await page.get_by_role("button", name="Save the service").click()
    await expect(page.get_by_label("Shortest notice, minutes")).to_be_hidden()


async def book_first_slot(
    page: Page, base_url: str, service: str, specialist: str, name: str, email: str, reason: str
) -> datetime:
    """From the start page to the confirmation; returns the start."""
    await page.goto(base_url)
    card = page.get_by_role("region", name=service)
    await card.get_by_role("link", name=specialist).click()
    await expect(page.get_by_label("Time zone")).to_be_visible()
    await page.locator("a.day.free").first.click()
    slot = page.locator("a.slot").first
    start = await slot.locator("time").get_attribute("datetime")
    assert start is not None
    await slot.click()
    await page.get_by_label("Your name").fill(name)
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Reason").fill(reason)
    await page.get_by_role("checkbox").check()
    await page.get_by_role("button", name="Confirm booking").click()
    await expect(page.get_by_role("heading", name="Your appointment is booked")).to_be_visible()
    return datetime.fromisoformat(start.replace("Z", "+00:00")).astimezone(UTC)


async def join(page: Page) -> None:
    """Past the preview into the room."""
    button = page.get_by_role("button", name="Join", exact=True)
    await expect(button).to_be_visible(timeout=DEADLINE_MS)
    await button.click()


async def call_state(page: Page, state: str) -> None:
    await expect(page.locator("html")).to_have_attribute("data-call-state", state, timeout=DEADLINE_MS)


async def received(page: Page, name: str) -> dict[str, float]:
    """What the video named after `name` has decoded: {"frames", "width", "audio"}; audio is the highest level heard
    in a second, 0 when nothing is."""
    video = page.locator(f'video[aria-label*="{name}"]').first
    await expect(video).to_be_attached(timeout=DEADLINE_MS)
    result: dict[str, float] = await video.evaluate(
        """async (video) => {
          const streams = [...document.querySelectorAll('video, audio')]
            .filter((element) => element.srcObject && !element.closest('#self-view'))
            .map((element) => element.srcObject);
          const track = streams.flatMap((stream) => stream.getAudioTracks())[0];
          let level = 0;
          if (track) {
            const context = new AudioContext();
            await context.resume();
            const analyser = context.createAnalyser();
            context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
            const samples = new Float32Array(analyser.fftSize);
            for (let n = 0; n < 40; n++) {
              await new Promise((done) => setTimeout(done, 50));
              analyser.getFloatTimeDomainData(samples);
              level = Math.max(level, ...samples.map(Math.abs));
            }
            await context.close();
          }
          return {frames: video.getVideoPlaybackQuality().totalVideoFrames, width: video.videoWidth, audio: level};
        }"""
    )
    return result


async def expect_media(page: Page, name: str) -> None:
    """Frames of `name` grow and sound is heard."""
    await page.wait_for_function(
        """(name) => [...document.querySelectorAll(`video[aria-label*="${name}"]`)]
             .some((video) => video.getVideoPlaybackQuality().totalVideoFrames > 5)""",
        arg=name,
        timeout=DEADLINE_MS,
    )
    before = await received(page, name)
    after = await received(page, name)
    assert after["frames"] > before["frames"] > 0, f"no new frames: {before} → {after}"
    assert after["width"] > 0
    # the fake microphone beeps once a second; silence would be exactly 0
    assert max(before["audio"], after["audio"]) > 0.001, f"no sound: {before}, {after}"
