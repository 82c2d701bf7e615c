"""The main job, as people do it: book, wait, be admitted, talk, and find the session in the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser import people
from tests.browser.conftest import Launch
from tests.consult_processes import Served, production, serve_demo

CLIENT = "Olga Petersen"


@pytest.fixture(params=["embedded", "production"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Once as `consult serve` with SQLite, once as the Procfile's processes with PostgreSQL and Redis."""
    if request.param == "embedded":
        with serve_demo(tmp_path) as served:
            yield served
        return
    database_url: str = request.getfixturevalue("postgres_url")
    redis_url: str = request.getfixturevalue("redis_url")
    with production(tmp_path, database_url, redis_url) as served:
        yield served


async def test_from_the_booking_page_to_the_session_log(anywhere: Served, launch: Launch, screenshots: Path) -> None:
    demo, base_url = anywhere.demo, anywhere.base_url
    specialist = demo["specialists"][1]
    service = next(one for one in demo["services"] if one["specialists"] == [specialist["id"]])

    # the specialist opens the calendar for the next minutes
    specialist_page = await (await launch()).new_page(viewport={"width": 1280, "height": 800})
    await people.sign_in(specialist_page, base_url, specialist)
    await people.open_at_all_hours(specialist_page, base_url, service["name"])

    # the client books on a phone and follows the link of the confirmation
    client_browser = await launch()
    client_page = await client_browser.new_page(viewport={"width": 390, "height": 844})
    start = await people.book_first_slot(
        client_page, base_url, service["name"], specialist["name"], CLIENT, "olga@example.org", "My sleep"
    )
    assert start - datetime.now(UTC) < timedelta(minutes=10), "the room of the first slot is open already"
    link = client_page.locator('main a[href*="/join/"]').first
    join_url = await link.get_attribute("href")
    assert join_url is not None
    await client_page.goto(join_url)
    await people.join(client_page)
    await people.call_state(client_page, "waiting")
    await expect(client_page.get_by_role("heading", name="Waiting")).to_be_visible()

    # the specialist sees who waits, enters, and admits
    await specialist_page.goto(f"{base_url}/desk")
    waiting = specialist_page.get_by_role("region", name="Waiting now")
    await expect(waiting.get_by_text(CLIENT)).to_be_visible(timeout=people.DEADLINE_MS)
    await waiting.get_by_role("link", name="Open the room").click()
    await people.join(specialist_page)
    await specialist_page.get_by_role("button", name="Admit").click(timeout=people.DEADLINE_MS)

    for page, other in ((client_page, specialist["name"]), (specialist_page, CLIENT)):
        await people.call_state(page, "connected")
        await people.expect_media(page, other)
    await specialist_page.screenshot(path=screenshots / "call-1280.png")
    await client_page.screenshot(path=screenshots / "call-390.png")

    # a word in writing
    await specialist_page.get_by_role("button", name="Chat").first.click()
    await specialist_page.get_by_label("Message", exact=True).fill("Can you hear me?")
    await specialist_page.get_by_role("button", name="Send").click()
    await client_page.get_by_role("button", name="More").click()
    await client_page.get_by_role("menuitem", name="Chat").click()
    await expect(client_page.get_by_text("Can you hear me?").first).to_be_visible()
    await client_page.get_by_role("button", name="Close the chat").click()

    # two quality samples at least
    await client_page.wait_for_timeout(11_000)
    await client_page.get_by_role("button", name="Leave").click()
    await people.call_state(client_page, "ended")
    await specialist_page.get_by_role("button", name="Leave").click()
    await people.call_state(specialist_page, "ended")

    # the admin finds it in the log
    admin_page = await (await launch()).new_page(viewport={"width": 1280, "height": 800})
    await people.sign_in(admin_page, base_url, demo["admin"])
    await admin_page.goto(f"{base_url}/admin/sessions")
    consultation_id = join_url.split("#")[0].rstrip("/").rsplit("/", 1)[1]
    await admin_page.locator(f'a[href*="{consultation_id}"]').first.click()
    main = admin_page.get_by_role("main")
    await expect(main.get_by_text(CLIENT).first).to_be_visible()
    await expect(main.get_by_text(specialist["name"]).first).to_be_visible()
    await expect(main.get_by_text("VP8").first).to_be_visible()
    await admin_page.screenshot(path=screenshots / "session-of-the-call-1280.png", full_page=True)

    # and over the API: both joined and left, the route is known, quality was measured in both directions
    log = await (
        await admin_page.request.get(
            f"{base_url}/api/v1/consultations/{consultation_id}",
            headers={"Authorization": f"Bearer {demo['api_token']}"},
        )
    ).json()
    by_name = {participant["name"]: participant for participant in log["participants"]}
    assert set(by_name) == {CLIENT, specialist["name"]}
    for participant in by_name.values():
        assert participant["joins"], participant
        assert participant["route"] == "udp", participant
        assert participant["quality"], participant
