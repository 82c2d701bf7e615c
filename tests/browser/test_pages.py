"""Every page at both sizes: a screenshot, no axe violation, nothing wider than the screen, no error in the console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.browser import people
from tests.browser.conftest import Launch
from tests.consult_processes import Served

SIZES = {"1280": (1280, 800), "390": (390, 844)}


class Look:
    """Visits pages as one person and keeps what is wrong with them."""

    def __init__(self, page: Page, served: Served, screenshots: Path, suffix: str) -> None:
        self.page = page
        self.served = served
        self.screenshots = screenshots
        self.suffix = suffix
        self.faults: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))

    def _on_console(self, message: Any) -> None:
        # an HTTP error status is what some pages are about
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    async def visit(self, path: str, name: str, status: int = 200) -> None:
        response = await self.page.goto(self.served.base_url + path)
        assert response is not None
        assert response.status == status, f"{path}: {response.status}"
        await self.page.wait_for_load_state("networkidle")
        await self.check(name)

    async def check(self, name: str, full_page: bool = True) -> None:
        await self.page.screenshot(path=self.screenshots / f"{name}-{self.suffix}.png", full_page=full_page)
        results = await Axe().run(self.page)
        assert results.response["passes"], "axe looked at the page"
        self.faults += [
            f"{name}: axe {violation['id']}: {violation['help']}: {[node['target'] for node in violation['nodes']][:3]}"
            for violation in results.response["violations"]
        ]
        wider = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wider > 0:
            self.faults.append(f"{name}: {wider} px wider than the screen")


@asynccontextmanager
async def looking(
    browser: Browser, served: Served, screenshots: Path, size: str, scheme: str = "light"
) -> AsyncIterator[Look]:
    width, height = SIZES[size]
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        timezone_id="America/New_York",
        reduced_motion="reduce",
    )
    look = Look(await context.new_page(), served, screenshots, size if scheme == "light" else f"{size}-{scheme}")
    try:
        yield look
    finally:
        await context.close()
    assert not look.faults, "\n".join(look.faults)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_the_clients_pages(served: Served, launch: Launch, screenshots: Path, size: str, scheme: str) -> None:
    service = served.demo["services"][0]
    async with looking(await launch(), served, screenshots, size, scheme) as look:
        page = look.page
        await look.visit("/", "booking-start")
        await page.get_by_role("region", name=service["name"]).get_by_role("link").last.click()
        await page.wait_for_load_state("networkidle")
        # the visitor's zone is found and named
        await expect(page.get_by_label("Time zone")).to_have_value("America/New_York")
        await look.check("booking-calendar")
        await page.locator("a.day.free").first.click()
        await page.locator('#calendar:not([aria-busy="true"]) a.slot').first.wait_for()
        await page.wait_for_load_state("networkidle")
        await look.check("booking-times")
        await page.locator("a.slot").first.click()
        await page.get_by_label("Your name").fill("Ada Example")
        await look.check("booking-details")
        await page.get_by_role("button", name="Confirm booking").click()
        await page.get_by_role("link", name="need").or_(page.locator("#problems")).first.wait_for()
        assert await page.get_by_label("Your name").input_value() == "Ada Example", "what was typed is kept"
        await look.check("booking-details-error")
        await page.get_by_label("E-mail").fill("ada@example.org")
        await page.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Confirm booking").click()
        await expect(page.get_by_role("heading", name="Your appointment is booked")).to_be_visible()
        await look.check("booking-confirmed")
        await page.get_by_role("link", name="Cancel or choose another time").click()
        await page.wait_for_load_state("networkidle")
        await look.check("manage")
        await page.get_by_role("link", name="Reschedule").click()
        await page.wait_for_load_state("networkidle")
        await look.check("manage-reschedule")
        booking = page.url.removesuffix("/reschedule")
        await page.locator("a.day.free").last.click()
        await page.locator("button.slot").first.click()
        await expect(page.get_by_role("heading", name="Move your appointment?")).to_be_visible()
        await look.check("manage-move")
        await page.goto(booking)
        await page.get_by_role("link", name="Cancel the appointment").click()
        await page.wait_for_load_state("networkidle")
        await look.check("manage-cancel")
        await page.locator(f'form[action="{booking.removeprefix(served.base_url)}/cancel"] button').click()
        await expect(page.get_by_text("You cancelled this appointment")).to_be_visible()
        await look.check("manage-cancelled")
        await look.visit(f"/manage/{'0' * 32}", "manage-without-its-link")
        await look.visit("/privacy", "privacy")
        await look.visit("/terms", "terms")
        await look.visit("/devices", "device-test")
        await look.visit("/nowhere", "not-found", status=404)
        await look.visit("/account/sign-in", "sign-in")


@pytest.mark.parametrize("size", list(SIZES))
async def test_the_specialists_pages(served: Served, launch: Launch, screenshots: Path, size: str) -> None:
    async with looking(await launch(), served, screenshots, size) as look:
        await people.sign_in(look.page, served.base_url, served.demo["specialists"][0])
        await look.visit("/desk", "desk-today")
        await look.visit("/desk/calendar", "desk-calendar")
        await look.visit("/desk/availability", "desk-availability")
        await look.visit("/desk/services/new", "desk-service-new")
        await look.visit("/desk/services", "desk-services")
        await look.page.get_by_role("main").get_by_role("link").first.click()
        await look.page.wait_for_load_state("networkidle")
        await look.check("desk-service")
        await look.visit(f"/desk/consultations/{served.demo['consultation']['id']}", "desk-consultation")
        await look.visit("/account/password", "account")


@pytest.mark.parametrize("size", list(SIZES))
async def test_the_admins_pages(served: Served, launch: Launch, screenshots: Path, size: str) -> None:
    browser = await launch()
    async with looking(browser, served, screenshots, size) as look:
        page, admin = look.page, served.demo["admin"]
        await page.goto(f"{served.base_url}/account/sign-in")
        await page.get_by_label("E-mail").fill(admin["email"])
        await page.get_by_label("Password", exact=True).fill(admin["password"])
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("textbox", name="Code")).to_be_visible()
        await look.check("sign-in-code")
        await people.sign_in(page, served.base_url, admin)
        await look.visit("/admin/sessions", "admin-sessions")
        await look.page.locator('main a[href*="/admin/sessions/"]').first.click()
        await look.page.wait_for_load_state("networkidle")
        await look.check("admin-session")
        await look.visit("/admin/users", "admin-users")
        await look.visit("/admin/reminders", "admin-reminders")
        await look.visit("/admin/deliveries", "admin-deliveries")
        await look.visit("/admin/tokens", "admin-tokens")
        await page.get_by_label("What is the new token for?").fill("Another program")
        await page.get_by_role("button", name="Make a token").click()
        await expect(page.get_by_label("API token", exact=True)).to_be_visible()
        await look.check("admin-token-made")
        # a new colleague: the link, the password, the second factor
        await page.goto(f"{served.base_url}/admin/users")
        await page.get_by_label("Name", exact=True).fill("Nora Newcomer")
        await page.get_by_label("E-mail").fill(f"nora.{size}@example.org")
        await page.get_by_role("button", name="Make the invitation").click()
        invitation = page.get_by_label("Invitation link")
        await expect(invitation).to_be_visible()
        await look.check("admin-invited")
        link = await invitation.input_value()
    async with looking(browser, served, screenshots, size) as look:
        page = look.page
        await page.goto(link)
        await look.check("account-welcome")
        await page.get_by_label("Password", exact=True).fill("quiet harbour lantern")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", name="Protect your account")).to_be_visible()
        await look.check("account-enrol")


@pytest.mark.parametrize("size", list(SIZES))
async def test_the_call_pages(served: Served, launch: Launch, screenshots: Path, size: str) -> None:
    consultation = served.demo["consultation"]
    specialist, client = await launch(), await launch()
    async with (
        looking(specialist, served, screenshots, size) as host,
        looking(client, served, screenshots, size) as guest,
    ):
        await guest.page.goto(consultation["client_join_url"])
        await expect(guest.page.get_by_role("button", name="Join", exact=True)).to_be_visible()
        await guest.page.wait_for_function("() => document.querySelector('#preview-video').videoWidth > 0")
        await guest.check("call-prejoin", full_page=False)
        await people.join(guest.page)
        # the second size finds the client admitted before
        await guest.page.wait_for_function(
            "() => ['waiting', 'connected'].includes(document.documentElement.dataset.callState)"
        )
        await guest.check("call-waiting", full_page=False)
        await host.page.goto(consultation["specialist_join_url"])
        await people.join(host.page)
        admit = host.page.get_by_role("button", name="Admit")
        connected = host.page.locator('html[data-call-state="connected"] .tile video')
        await admit.or_(connected).first.wait_for()
        if await admit.count():
            await host.check("call-admit", full_page=False)
            await admit.click()
        await people.call_state(guest.page, "connected")
        await people.call_state(host.page, "connected")
        await people.expect_media(host.page, "Clara Jensen")
        await people.expect_media(guest.page, served.demo["specialists"][0]["name"])
        await host.check("call-host", full_page=False)
        await guest.check("call-guest", full_page=False)
        await guest.page.get_by_role("button", name="More").click()
        await guest.check("call-more", full_page=False)
        await guest.page.keyboard.press("Escape")
        await guest.page.get_by_role("button", name="Leave").click()
        await people.call_state(guest.page, "ended")
        await guest.check("call-ended", full_page=False)
    # the link without its secret part, in a browser that has never seen it
    async with looking(client, served, screenshots, size) as stranger:
        await stranger.visit(f"/join/{consultation['id']}", "call-no-token")
        await expect(stranger.page.get_by_role("button", name="Join", exact=True)).to_be_hidden()
