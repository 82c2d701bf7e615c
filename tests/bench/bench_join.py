"""Join click → first decoded remote frame, in a running room: 20 joins of a client who was admitted before."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from tests import servers
from tests.browser import people
from tests.browser.conftest import CHROMIUM_ARGUMENTS
from tests.consult_processes import Served, serve_demo

JOINS = 20

CLICK_AND_WAIT = """() => new Promise((resolve) => {
  const begin = performance.now();
  document.getElementById('join').click();
  const look = () => {
    const seen = [...document.querySelectorAll('.tile video')]
      .some((video) => video.getVideoPlaybackQuality().totalVideoFrames > 0);
    if (seen) resolve(performance.now() - begin);
    else requestAnimationFrame(look);
  };
  look();
})"""


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, serve_demo(Path(folder)) as served:
        times = asyncio.run(_joins(served))
    ordered = sorted(times)
    return [
        {"name": "join_to_first_frame_p50", "value": round(statistics.median(ordered)), "unit": "ms", "joins": JOINS},
        {
            "name": "join_to_first_frame_p95",
            "value": round(ordered[round(0.95 * (len(ordered) - 1))]),
            "unit": "ms",
            "joins": JOINS,
        },
    ]


async def _joins(served: Served) -> list[float]:
    consultation = served.demo["consultation"]
    async with async_playwright() as playwright:

        async def page() -> Any:
            browser = await playwright.chromium.launch(
                executable_path=servers.find_program("chromium"), args=CHROMIUM_ARGUMENTS
            )
            return await browser.new_page(viewport={"width": 640, "height": 480})

        client, specialist = await page(), await page()
        await client.goto(consultation["client_join_url"])
        await people.join(client)
        await specialist.goto(consultation["specialist_join_url"])
        await people.join(specialist)
        await specialist.get_by_role("button", name="Admit").click()
        await people.expect_media(client, served.demo["specialists"][0]["name"])
        times: list[float] = []
        for _ in range(JOINS):
            await client.get_by_role("button", name="Leave").click()
            await people.call_state(client, "ended")
            await client.goto("about:blank")
            await client.goto(consultation["client_join_url"])
            await client.locator("#preview-video").wait_for()
            await client.wait_for_function("() => document.querySelector('#preview-video').videoWidth > 0")
            await client.wait_for_timeout(500)
            times.append(await client.evaluate(CLICK_AND_WAIT))
            await people.call_state(client, "connected")
        return times
