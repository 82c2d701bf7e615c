"""The booking pages as a visitor without JavaScript uses them, on both databases."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientResponse

from consult.booking import links
from consult.booking.models import Booking, Service
from tests.bookable import open_calendar
from tests.site import Client, Site, open_site, path_of


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path) as site:
        yield site


@pytest.fixture
async def service(site: Site) -> Service:
    return await open_calendar(site)


def found(pattern: str, text: str) -> list[str]:
    return [unescape(one) for one in re.findall(pattern, text)]


async def page(client: Client, path: str, status: int = 200) -> str:
    response = await client.get(path)
    assert response.status == status, await response.text()
    return await response.text()


def filled(**changes: str) -> dict[str, str]:
    return {
        "name": "Jordan Example",
        "email": "jordan@example.org",
        "reason": "Sleep,\nmostly",
        "consent": "yes",
        "key": "a-key-of-this-page",
        **changes,
    }


async def send(client: Client, path: str, form: Mapping[str, str]) -> ClientResponse:
    return await client.post(path, data=form, allow_redirects=False)


async def details_path(client: Client, service: Service, who: str = "any", date: str = "2026-03-09") -> str:
    """The form of the first time of a day."""
    text = await page(client, f"/book/{service.slug}/{who}?date={date}")
    return found(r'class="slot" href="([^"]+)"', text)[0]


async def book(client: Client, service: Service, who: str = "any", **changes: str) -> str:
    """A booking made through the form; the path of its confirmation page."""
    path = await details_path(client, service, who)
    start = found(r"start=(.+)$", path)[0].replace("%3A", ":")
    answer = await send(client, path.partition("?")[0], filled(start=start, **changes))
    assert answer.status == 303, await answer.text()
    return path_of(answer)


async def test_from_the_first_page_to_the_confirmation(site: Site, service: Service) -> None:
    client = await site.client()
    home = await page(client, "/")
    assert "First consultation" in home
    assert {"Boris Example", "Clara Example", "First available"} <= set(found(r"<strong>([^<]+)</strong>", home))
    (calendar_path, *_) = found(r'class="choice" href="([^"]+)"', home)
    calendar = await page(client, calendar_path)
    assert "March 2026" in calendar
    # the first free day is open already; the zone is named
    assert found(r'aria-current="date" aria-label="([^"]+)"', calendar)[0].startswith("Wednesday, 4 March 2026")
    assert "Europe/Berlin (UTC+1)" in found(r"selected>([^<]+)</option>", calendar)
    (next_day, *_) = found(r'class="day free[^"]*" href="([^"]+date=2026-03-05)"', calendar)
    (form_path, *_) = found(r'class="slot" href="([^"]+)"', await page(client, next_day))
    form = await page(client, form_path)
    assert found(r'<li aria-current="step"><span class="step-name">([^<]+)', form) == ["Your details"]
    values = dict(re.findall(r'name="(key|start)" value="([^"]+)"', form))
    answer = await send(client, urlsplit(form_path).path, filled(**values))
    assert answer.status == 303
    where = path_of(answer)
    assert re.fullmatch(r"/manage/[0-9a-f]{32}/confirmed", where), "no secret in the address"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert f"Path={where.removesuffix('/confirmed')}" in cookie
    done = await page(client, where)
    assert "Your appointment is booked" in done
    assert "jordan@example.org" in done
    assert "You can cancel or choose another time until" in done
    (ics,) = found(r'href="([^"]+\.ics)"', done)
    file = await client.get(urlsplit(ics).path)
    assert file.status == 200
    entry = (await file.text()).replace("\r\n ", "")
    assert entry.startswith("BEGIN:VCALENDAR\r\n")
    assert "/join/" in entry, "the client's own calendar has the link"
    stranger = await site.client()
    assert "Please open the whole link" in await page(stranger, urlsplit(ics).path)


async def test_one_service_of_one_person_needs_no_first_step(site: Site) -> None:
    await open_calendar(site, who=("boris",))
    client = await site.client()
    response = await client.get("/", allow_redirects=False)
    assert response.status == 302
    calendar = await page(client, path_of(response))
    assert "Boris Example" in calendar
    assert "All services" not in calendar


async def test_nothing_to_book_is_said(site: Site) -> None:
    assert "Nothing can be booked yet" in await page(await site.client(), "/")
    client = await site.client()
    await page(client, "/book/nothing/any", 404)


async def test_times_are_shown_in_the_chosen_zone(site: Site, service: Service) -> None:
    client = await site.client()
    path = f"/book/{service.slug}/any?date=2026-03-09"
    assert found(r"<time[^>]*>(\d\d:\d\d)</time>", await page(client, path))[:2] == ["09:00", "09:30"]
    chosen = await client.get("/zone", params={"zone": "America/New_York", "to": path}, allow_redirects=False)
    assert (chosen.status, chosen.headers["Location"]) == (303, path)
    assert "zone=America/New_York" in chosen.headers["Set-Cookie"]
    client.session.cookie_jar.update_cookies({"zone": "America/New_York"}, client.make_url("/"))
    text = await page(client, chosen.headers["Location"])
    # the United States changed their clocks the day before, Berlin has not
    assert "America/New York (UTC−4)" in found(r"selected>([^<]+)</option>", text)
    assert found(r"<time[^>]*>(\d\d:\d\d)</time>", text)[:2] == ["04:00", "04:30"]
    client.session.cookie_jar.update_cookies({"zone": "Mars/Olympus"}, client.make_url("/"))
    assert "Europe/Berlin" in await page(client, f"/book/{service.slug}/any")


async def test_a_month_without_times_leads_to_the_first_free_day(site: Site, service: Service) -> None:
    client = await site.client()
    site.now = datetime(2026, 3, 31, 18, 0, tzinfo=UTC)
    text = await page(client, f"/book/{service.slug}/any")
    assert "April 2026" in text, "the first month with times is open"
    text = await page(client, f"/book/{service.slug}/any?month=2026-03")
    assert "No free times in this month." in text
    (jump,) = found(r'href="([^"]+)" rel="nofollow" data-jump', text)
    assert jump.endswith("date=2026-04-01")
    # far outside: the same as no month at all
    for month in ("1999-01", "2031-01", "2026-13", "x"):
        assert "April 2026" in await page(client, f"/book/{service.slug}/any?month={month}")


async def test_an_error_names_the_field_and_keeps_what_was_typed(site: Site, service: Service) -> None:
    client = await site.client()
    path = await details_path(client, service)
    form = filled(email="jordan at example", consent="", name='<b>"J"</b>', start="2026-03-09T08:00:00Z")
    answer = await send(client, path.partition("?")[0], form)
    assert answer.status == 422
    text = await answer.text()
    assert "2 fields need another look" in text
    assert found(r'id="(\w+)-error"', text) == ["email", "consent"]
    assert re.search(r'id="email"[^>]*aria-describedby="email-hint email-error"[^>]*aria-invalid="true"', text)
    assert 'value="jordan at example"' in text
    assert 'value="&lt;b&gt;&#34;J&#34;&lt;/b&gt;"' in text
    assert "Sleep,\nmostly</textarea>" in text
    assert "<title>Error:" in text


async def test_a_taken_time_keeps_the_form_and_offers_three_others(site: Site, service: Service) -> None:
    client, rival = await site.client(), await site.client()
    slug = found(rf'href="/book/{service.slug}/(?!any)([^"]+)"', await page(client, "/"))[0]
    path = await details_path(client, service, slug)
    start = path.partition("start=")[2].replace("%3A", ":")
    await book(rival, service, slug, key="rival", email="rival@example.org")
    answer = await send(client, path.partition("?")[0], filled(start=start))
    assert answer.status == 409
    text = await answer.text()
    assert "This time has just been taken" in text
    assert 'value="Jordan Example"' in text
    assert 'value="yes" required checked' in text
    offered = found(r'form="details" name="start" value="([^"]+)"', text)
    assert len(offered) == 3
    assert start not in offered
    moved = await send(client, path.partition("?")[0], filled(start=offered[1]))
    assert moved.status == 303


async def test_sent_twice_is_one_booking(site: Site, service: Service) -> None:
    client = await site.client()
    assert await book(client, service, name="Sam") == await book(client, service, name="Sam")
    path = await details_path(client, service)
    changed = await send(client, path.partition("?")[0], filled(start="2026-03-09T08:00:00Z", name="Else"))
    assert changed.status == 409
    assert "This booking was already made" in await changed.text()


async def test_a_robot_that_fills_everything_books_nothing(site: Site, service: Service) -> None:
    client = await site.client()
    path = await details_path(client, service)
    form = filled(start="2026-03-09T08:00:00Z", website="https://spam.example")
    assert (await send(client, path.partition("?")[0], form)).status == 422


async def test_another_site_cannot_send_the_form(site: Site, service: Service) -> None:
    client = await site.client()
    path = (await details_path(client, service)).partition("?")[0]
    form = filled(start="2026-03-09T08:00:00Z")
    foreign = {"Origin": "https://evil.example"}
    assert (await client.post(path, data=form, headers=foreign, allow_redirects=False)).status == 403
    sandboxed = {"Origin": "null"}
    assert (await client.post(path, data=form, headers=sandboxed, allow_redirects=False)).status == 403
    own = {"Origin": str(client.make_url("/")).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert (await client.post(path, data=form, headers=own, allow_redirects=False)).status == 303


async def test_the_mailed_link_opens_the_booking_in_another_browser(site: Site, service: Service) -> None:
    first, second = await site.client(), await site.client()
    base = (await book(first, service)).removesuffix("/confirmed")
    id = base.rpartition("/")[2]
    # without the secret: the same page for a booking and for none
    closed = await page(second, base)
    assert "Please open the whole link" in closed
    assert "Jordan" not in closed
    assert closed.replace(id, "") == (await page(second, f"/manage/{'0' * 32}")).replace("0" * 32, "")
    for path in ("cancel", "reschedule"):
        assert (await send(second, f"{base}/{path}", {})).status == 403
    token = links.manage_token(site.vault, id)
    for wrong in ("made.up", f"{id}.{'x' * 32}", links.manage_token(site.vault, "0" * 32)):
        assert (await second.post(f"{base}/open", json={"token": wrong})).status == 404
    opened = await second.post(f"{base}/open", json={"token": token})
    assert opened.status == 204
    assert "First consultation" in await page(second, base)
    # the cookie of one booking opens no other
    other = (await book(first, service, email="other@example.org", key="other")).removesuffix("/confirmed")
    second.session.cookie_jar.update_cookies({"consult_manage": token.partition(".")[2]}, second.make_url(other))
    assert "Please open the whole link" in await page(second, other)


async def test_over_https_the_bookings_cookie_is_a_secure_one(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path, CONSULT_PUBLIC_URL="https://consult.example") as site:
        client, id = await site.client(), "0" * 32
        opened = await client.post(f"/manage/{id}/open", json={"token": links.manage_token(site.vault, id)})
        cookie = opened.headers["Set-Cookie"]
        assert cookie.startswith("__Secure-consult_manage=")
        for part in ("Secure", "HttpOnly", "SameSite=Lax", f"Path=/manage/{id}"):
            assert part in cookie.split("; ")


async def test_moving_and_cancelling(site: Site, service: Service) -> None:
    client = await site.client()
    base = (await book(client, service)).removesuffix("/confirmed")
    text = await page(client, f"{base}/reschedule?date=2026-03-10")
    values = found(r'class="slot" name="start" value="([^"]+)"', text)
    asked = await send(client, f"{base}/reschedule", {"start": values[3]})
    assert asked.status == 200
    assert "Move your appointment?" in await asked.text()
    moved = await send(client, f"{base}/reschedule", {"start": values[3], "confirm": "yes"})
    assert moved.status == 303
    after = await page(client, f"{base}?moved=1")
    assert "Your appointment was moved" in after
    assert "10 March 2026" in after
    # the time it has now is no other time
    text = await page(client, f"{base}/reschedule?date=2026-03-10")
    assert found(r'class="slot" name="start" value="([^"]+)"', text) == [one for one in values if one != values[3]]
    assert "Cancel this appointment?" in await page(client, f"{base}/cancel")
    assert (await send(client, f"{base}/cancel", {})).status == 303
    cancelled = await page(client, base)
    assert "You cancelled this appointment" in cancelled
    assert "Reschedule" not in cancelled
    # once more is no error, and the confirmation page tells the present state
    assert (await send(client, f"{base}/cancel", {})).status == 303
    response = await client.get(f"{base}/confirmed", allow_redirects=False)
    assert path_of(response) == base
    async with site.database.read() as session:
        booking = await session.get_one(Booking, base.rpartition("/")[2])
    assert (booking.status, booking.sequence, booking.cancelled_by) == ("cancelled", 2, "client")


async def test_a_taken_time_leaves_the_appointment_where_it_was(site: Site, service: Service) -> None:
    client = await site.client()
    base = (await book(client, service)).removesuffix("/confirmed")
    text = await page(client, f"{base}/reschedule?date=2026-03-10")
    (wanted, *_) = found(r'class="slot" name="start" value="([^"]+)"', text)
    for who in ("boris", "clara"):
        body = {
            "service": service.id, "specialist": site.people[who].id, "start": wanted, "zone": "UTC",
            "client": {"name": "Rival", "email": "rival@example.org"}, "consent": True,
        }  # fmt: skip
        assert (await client.post("/api/v1/bookings", json=body)).status == 201
    answer = await send(client, f"{base}/reschedule", {"start": wanted, "confirm": "yes"})
    assert answer.status == 409
    text = await answer.text()
    assert "Your appointment stays where it was" in text
    assert len(found(r'class="button" name="start" value="([^"]+)"', text)) == 3


async def test_after_the_deadline_the_page_says_until_when_it_was_possible(site: Site, service: Service) -> None:
    client = await site.client()
    base = (await book(client, service)).removesuffix("/confirmed")
    site.now = datetime(2026, 3, 9, 7, 0, tzinfo=UTC)  # an hour before; two are asked for
    text = await page(client, base)
    assert "It is too late to cancel or move this appointment online" in text
    assert "9 Mar 2026, 07:00" in text
    assert f"{base}/cancel" not in text
    for path in ("cancel", "reschedule"):
        assert path_of(await client.get(f"{base}/{path}", allow_redirects=False)) == base
    refused = await send(client, f"{base}/cancel", {})
    assert refused.status == 409
    assert "too late" in await refused.text()
    site.now += timedelta(minutes=55)
    assert "Go to the call" in await page(client, base)


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nX: y", "x"])
async def test_switches_lead_to_our_own_pages_only(site: Site, target: str) -> None:
    client = await site.client()
    for path in ("/language/ru", "/zone"):
        response = await client.get(path, params={"to": target, "zone": "UTC"}, allow_redirects=False)
        assert (response.status, response.headers["Location"]) == (303, "/")


async def test_the_language_is_kept(site: Site, service: Service) -> None:
    client = await site.client()
    response = await client.get("/language/ru", params={"to": "/?a=1"}, allow_redirects=False)
    assert response.headers["Location"] == "/?a=1"
    assert '<html lang="ru"' in await page(client, "/")
    assert (await client.get("/language/xx")).status == 404


async def test_the_page_is_light(site: Site, service: Service) -> None:
    """Less than 100 kB as it is sent: HTML, styles, script, icons."""
    client = await site.client()
    text = await page(client, f"/book/{service.slug}/any")
    assets = set(found(r'(?:href|src)="(/static/[^"#]+)', text))
    assert any(one.endswith(".css") for one in assets)
    assert any(one.endswith(".js") for one in assets)
    total = len(gzip.compress(text.encode()))
    for asset in assets:
        response = await client.get(asset)
        assert response.status == 200, asset
        total += len(gzip.compress(await response.read()))
    assert total < 100_000, total


@pytest.mark.parametrize("path", ["/privacy", "/terms"])
async def test_the_linked_notices_exist(site: Site, path: str) -> None:
    assert "<h1>" in await page(await site.client(), path)
