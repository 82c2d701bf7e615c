"""What the booking pages' scripts add: the own zone, months without a page load, arrow keys, a device test."""

from __future__ import annotations

import re
from datetime import date, timedelta

from playwright.async_api import Page, expect

from tests.browser.conftest import Launch
from tests.consult_processes import Served


async def open_calendar(page: Page, served: Served) -> None:
    await page.goto(served.base_url)
    await page.get_by_role("link", name="First available").first.click()
    await expect(page.locator("#month-title")).to_be_visible()


async def test_times_are_in_the_zone_of_the_browser_and_can_be_changed(launch: Launch, served: Served) -> None:
    browser = await launch()
    context = await browser.new_context(timezone_id="Asia/Kolkata", locale="en-GB")
    page = await context.new_page()
    await open_calendar(page, served)
    zone = page.get_by_label("Time zone")
    await expect(zone.locator("option:checked")).to_have_text(re.compile(r"^Asia/(Kolkata|Calcutta) \(UTC\+5:30\)$"))
    first = page.locator("a.slot").first
    in_india = await first.inner_text()
    instant = await first.locator("time").get_attribute("datetime")
    await page.evaluate("window.stillHere = true; document.getElementById('calendar').dataset.old = ''")
    await zone.select_option("Asia/Tokyo")
    await expect(page.locator("#calendar:not([data-old])")).to_be_visible()
    await expect(page.locator("#zone option:checked")).to_have_text("Asia/Tokyo (UTC+9)")
    tokyo = page.locator(f"a.slot:has(time[datetime='{instant}'])")
    if await tokyo.count():  # it may be the next day there
        assert await tokyo.inner_text() != in_india
    assert await page.evaluate("window.stillHere"), "the page was not loaded again"
    # the choice is kept
    await page.reload()
    await expect(page.locator("#zone option:checked")).to_have_text("Asia/Tokyo (UTC+9)")


async def test_the_calendar_is_a_grid_for_the_keyboard(launch: Launch, served: Served) -> None:
    browser = await launch()
    page = await (await browser.new_context(timezone_id="Europe/Berlin")).new_page()
    await open_calendar(page, served)
    await expect(page.get_by_role("grid")).to_be_visible()
    assert await page.locator("[data-day][tabindex='0']").count() == 1, "one day is in the tab order"

    async def focused() -> date:
        found = await page.evaluate("document.activeElement.dataset.day ?? ''")
        return date.fromisoformat(found)

    await page.locator("[data-day][tabindex='0']").focus()
    start = await focused()
    title = await page.locator("#month-title").inner_text()
    await page.keyboard.press("PageDown")
    await expect(page.locator("#month-title")).not_to_have_text(title)
    day = await focused()
    assert (day.year * 12 + day.month) - (start.year * 12 + start.month) == 1
    await page.keyboard.press("Home")
    assert (await focused()).weekday() == 0 or (await focused()).day == 1
    monday = await focused()
    await page.keyboard.press("ArrowRight")
    assert await focused() == monday + timedelta(days=1)
    await page.keyboard.press("ArrowDown")
    assert await focused() == monday + timedelta(days=8)
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("ArrowLeft")
    assert await focused() == monday
    # over the edge of the month
    for _ in range(6):
        if (await focused()).month != day.month:
            break
        before = await focused()
        await page.keyboard.press("ArrowUp")
        await expect(page.locator(":focus[data-day]")).not_to_have_attribute("data-day", before.isoformat())
    await expect(page.locator("#month-title")).to_have_text(title)
    # back and forth are the browser's own
    await page.go_back()
    await expect(page.locator("#month-title")).not_to_have_text(title)


async def test_choosing_a_day_shows_its_times_and_brings_a_phone_there(launch: Launch, served: Served) -> None:
    browser = await launch()
    context = await browser.new_context(viewport={"width": 390, "height": 844}, timezone_id="Europe/Berlin")
    page = await context.new_page()
    await open_calendar(page, served)
    # free days may be few at the end of a month: the next one has many
    if await page.locator("a.day").count() < 2:
        await page.get_by_role("link", name="Next month").click()
    other = page.locator("a.day:not([aria-current])").first
    day = await other.get_attribute("data-day")
    await other.click()
    await expect(page.locator(f"a.day[data-day='{day}']")).to_have_attribute("aria-current", "date")
    await expect(page.locator("#times-title")).to_be_focused()
    await expect(page.locator("#times-title")).to_be_in_viewport()
    assert f"date={day}" in page.url, "the address can be kept and sent"


async def test_the_pages_work_without_javascript(launch: Launch, served: Served) -> None:
    browser = await launch()
    context = await browser.new_context(java_script_enabled=False, locale="en-GB")
    page = await context.new_page()
    await open_calendar(page, served)
    await page.locator("#zone").select_option("America/New_York")
    await page.get_by_role("button", name="Use this time zone").click()
    await expect(page.locator("#zone option:checked")).to_have_text(re.compile("America/New York"))
    await page.locator("a.slot").first.click()
    await page.get_by_role("button", name="Confirm booking").click()
    await expect(page.get_by_role("alert")).to_contain_text("3 fields need another look")
    await page.get_by_label("Your name").fill("No Script")
    await page.get_by_label("E-mail").fill("no-script@example.org")
    await page.get_by_label("I agree").check()
    await page.get_by_role("button", name="Confirm booking").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your appointment is booked")


async def test_the_mailed_link_opens_once_pasted_and_leaves_no_secret(launch: Launch, served: Served) -> None:
    browser = await launch()
    page = await (await browser.new_context(locale="en-GB")).new_page()
    slots = await page.request.get(f"{served.base_url}/api/v1/services")
    service = (await slots.json())["services"][0]
    free = await page.request.get(f"{served.base_url}/api/v1/slots?service={service['id']}")
    (slot, *_) = (await free.json())["slots"]
    answer = await page.request.post(
        f"{served.base_url}/api/v1/bookings",
        data={
            "service": service["id"],
            "specialist": slot["specialist"],
            "start": slot["start"],
            "zone": "Europe/Berlin",
            "client": {"name": "Link Opener", "email": "link@example.org"},
            "answers": {},
            "consent": True,
        },
    )
    assert answer.status == 201, await answer.text()
    manage_url = (await answer.json())["manage_url"]
    await page.goto(manage_url)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your appointment")
    assert "#" not in page.url
    stranger = await (await browser.new_context(locale="en-GB")).new_page()
    await stranger.goto(manage_url[:-4])
    await expect(stranger.get_by_role("heading", name="Please open the whole link")).to_be_visible()


async def test_devices_can_be_tried_before_the_day(launch: Launch, served: Served) -> None:
    browser = await launch()
    page = await (await browser.new_context(locale="en-GB")).new_page()
    await page.goto(f"{served.base_url}/devices")
    await page.get_by_role("button", name="Turn on camera and microphone").click()
    await expect(page.locator("#preview-video")).to_be_visible()
    # the fake microphone beeps
    await expect(page.get_by_role("status")).to_have_text("Your camera and your microphone work.", timeout=20_000)
    await expect(page.get_by_label("Microphone", exact=True)).to_be_enabled()
    silent = await (await browser.new_context(locale="en-GB")).new_page()
    await silent.goto(f"{served.base_url}/devices")
    await silent.get_by_role("button", name="Continue without camera").click()
    await expect(silent.get_by_role("status")).to_have_text("Your microphone works.", timeout=20_000)
    await expect(silent.locator("#preview-video")).to_be_hidden()
