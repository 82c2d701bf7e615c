"""Booking POSTs per second over HTTP, and the weight and time of the booking page, on `consult serve` with SQLite."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import async_playwright

from tests import servers
from tests.browser.conftest import CHROMIUM_ARGUMENTS
from tests.consult_processes import Served, serve_demo

Figure = dict[str, Any]


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, serve_demo(Path(folder)) as served:
        return [*asyncio.run(_posts(served)), *asyncio.run(_page(served))]


async def _posts(served: Served) -> list[Figure]:
    """Books every free slot of one specialist's next weeks, eight at a time."""
    service = served.demo["services"][0]
    specialist = service["specialists"][0]
    today = datetime.now(UTC).date()
    async with aiohttp.ClientSession(served.base_url) as http:
        query = {
            "service": service["id"],
            "specialist": specialist,
            "from": today.isoformat(),
            "to": (today + timedelta(days=40)).isoformat(),
            "zone": "UTC",
        }
        async with http.get("/api/v1/slots", params=query) as response:
            slots = (await response.json())["slots"]
        # a booking blocks its own neighbours: take slots that do not touch
        starts: list[str] = []
        last = ""
        for slot in slots:
            if slot["start"] >= last:
                starts.append(slot["start"])
                last = (datetime.fromisoformat(slot["end"]) + timedelta(minutes=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        statuses: dict[int, int] = {}
        queue = list(enumerate(starts))

        async def book() -> None:
            while queue:
                number, start = queue.pop(0)
                body = {
                    "service": service["id"],
                    "specialist": specialist,
                    "start": start,
                    "zone": "Europe/Berlin",
                    "client": {"name": f"Client {number}", "email": f"client{number}@example.org"},
                    "answers": {},
                    "consent": True,
                }
                async with http.post("/api/v1/bookings", json=body) as answer:
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
                    await answer.read()

        before = time.perf_counter()
        await asyncio.gather(*(book() for _ in range(8)))
        elapsed = time.perf_counter() - before
    created = statuses.get(201, 0)
    return [
        {
            "name": "booking_posts",
            "value": round(created / elapsed, 1),
            "unit": "1/s",
            "created": created,
            "other_answers": {str(status): n for status, n in statuses.items() if status != 201},
            "database": "sqlite",
        }
    ]


async def _page(served: Served) -> list[Figure]:
    """Transferred bytes (scripts and styles included) and load times of `/` and the calendar, 10 fresh visits."""
    service = served.demo["services"][0]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=servers.find_program("chromium"), args=CHROMIUM_ARGUMENTS
        )
        weights: list[int] = []
        loads: list[float] = []
        paints: list[float] = []
        for _ in range(10):
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(served.base_url, wait_until="networkidle")
            # the calendar is the heaviest of the booking pages
            await page.get_by_role("region", name=service["name"]).get_by_role("link").last.click()
            await page.locator("a.slot").first.wait_for()
            await page.wait_for_load_state("networkidle")
            measured = await page.evaluate(
                """() => {
                  const [navigation] = performance.getEntriesByType('navigation');
                  const all = [navigation, ...performance.getEntriesByType('resource')];
                  const paint = performance.getEntriesByName('first-contentful-paint')[0];
                  return {bytes: all.reduce((sum, entry) => sum + entry.transferSize, 0),
                          load: navigation.loadEventEnd, paint: paint ? paint.startTime : null};
                }"""
            )
            weights.append(measured["bytes"])
            loads.append(measured["load"])
            paints.append(measured["paint"])
            url = page.url.removeprefix(served.base_url)
            await context.close()
        await browser.close()
    return [
        {"name": "booking_page_weight", "value": max(weights), "unit": "bytes", "page": url},
        {"name": "booking_page_load", "value": round(statistics.median(loads), 1), "unit": "ms", "page": url},
        {"name": "booking_page_first_paint", "value": round(statistics.median(paints), 1), "unit": "ms", "page": url},
    ]
