"""Faults of the server during a call: nobody clicks anything, and the picture comes back by itself."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from playwright.async_api import Page

from tests import servers
from tests.browser import people
from tests.browser.conftest import Launch
from tests.consult_processes import Served, separate_processes, serve_demo, start, start_process, wait_until_ready


async def start_call(served: Served, launch: Launch) -> tuple[Page, Page]:
    """The demo's consultation with both inside: (client's page, specialist's page)."""
    consultation = served.demo["consultation"]
    client = await (await launch()).new_page()
    await client.goto(consultation["client_join_url"])
    await people.join(client)
    await people.call_state(client, "waiting")
    specialist = await (await launch()).new_page()
    await specialist.goto(consultation["specialist_join_url"])
    await people.join(specialist)
    await specialist.get_by_role("button", name="Admit").click()
    await expect_call(served, client, specialist)
    return client, specialist


async def expect_call(served: Served, client: Page, specialist: Page) -> None:
    for page in (client, specialist):
        await people.call_state(page, "connected")
    await people.expect_media(client, served.demo["specialists"][0]["name"])
    await people.expect_media(specialist, "Clara Jensen")


async def frames(page: Page) -> int:
    """Frames shown of the other one's camera; a new video element counts from zero."""
    count: int = await page.locator(".tile video").first.evaluate(
        "(video) => video.getVideoPlaybackQuality().totalVideoFrames"
    )
    return count


async def test_the_whole_server_dies_and_comes_back(launch: Launch, tmp_path: Path) -> None:
    with serve_demo(tmp_path) as served:
        client, specialist = await start_call(served, launch)
        process = served.processes["serve"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        for page in (client, specialist):
            await people.call_state(page, "reconnecting")
        port = served.base_url.rsplit(":", 1)[1]
        again = start(["serve", "--port", port, "--data", str(served.data_dir)], served.environment, served.log)
        try:
            wait_until_ready(served.base_url, again, served.log)
            # both are back in the room: nobody is sent to the waiting room again
            await expect_call(served, client, specialist)
        finally:
            servers.end(again)


async def test_the_network_is_gone_for_twenty_seconds(launch: Launch, tmp_path: Path) -> None:
    """A stopped process answers nothing: for the browsers the same as a dead network. ICE fails after 15 s."""
    with serve_demo(tmp_path) as served:
        client, specialist = await start_call(served, launch)
        process = served.processes["serve"]
        process.send_signal(signal.SIGSTOP)
        try:
            for page in (client, specialist):
                await people.call_state(page, "reconnecting")
            await asyncio.sleep(20)
        finally:
            process.send_signal(signal.SIGCONT)
        await expect_call(served, client, specialist)


async def test_a_media_process_is_killed_and_another_takes_the_call(
    launch: Launch, tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    with separate_processes(tmp_path, postgres_url, redis_url) as served:
        client, specialist = await start_call(served, launch)
        media = served.processes["media"]
        media.kill()
        media.wait()
        await people.call_state(client, "reconnecting")
        start_process(served, "media")
        await expect_call(served, client, specialist)


async def test_a_web_process_is_killed_and_media_flows_on(
    launch: Launch, tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    with separate_processes(tmp_path, postgres_url, redis_url) as served:
        client, specialist = await start_call(served, launch)
        web = served.processes["web"]
        web.kill()
        web.wait()
        before = await frames(client)
        await asyncio.sleep(3)
        assert await frames(client) > before + 20, "the picture goes on without the web process"
        start_process(served, "web")
        wait_until_ready(served.base_url, served.processes["web"], served.log)
        await expect_call(served, client, specialist)


async def test_redis_forgets_everything_and_the_call_goes_on(
    launch: Launch, tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    from redis.asyncio import Redis

    with separate_processes(tmp_path, postgres_url, redis_url) as served:
        client, specialist = await start_call(served, launch)
        async with Redis.from_url(redis_url) as redis:
            assert await redis.dbsize() > 0, "something is there to be forgotten"
            await redis.flushall()
        before = await frames(client)
        await asyncio.sleep(5)
        assert await frames(client) > before + 30
        await expect_call(served, client, specialist)
