"""What staff do on their pages, from the form to the database and back."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientWebSocketResponse
from sqlalchemy import update

from consult.booking import availability, bookings, links, services
from consult.booking.models import Service
from consult.notify import reminders
from tests.site import Client, Site, csrf_token, open_site, path_of
from web.keys import SETTINGS


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path) as site:
        yield site


async def form_of(client: Client, **fields: str) -> dict[str, str]:
    return {"csrf_token": await csrf_token(client, "/account/password"), **fields}


async def book(site: Site, hours_ahead: int = 24) -> bookings.Booked:
    """By a client who lives in another zone than the practice."""
    return await site.book(hours_ahead, zone="America/New_York")


async def test_weekly_hours_are_saved_and_mistakes_named(site: Site) -> None:
    client = await site.signed_in("boris")
    token = await csrf_token(client, "/desk/availability")
    fields = [("csrf_token", token), ("zone", "Asia/Kolkata")]
    # without JavaScript every day has one empty row more
    for day in range(7):
        rows = [("09:00", "12:00"), ("13:00", "00:00")] if day == 0 else []
        for start, end in [*rows, ("", "")]:
            fields += [(f"start-{day}", start), (f"end-{day}", end)]
    saved = await client.post("/desk/availability", data=fields, allow_redirects=False)
    assert saved.status == 303, await saved.text()
    async with site.database.read() as session:
        hours = await availability.hours(session, site.practice_id, site.people["boris"].id, site.now.date())
    assert hours.zone == "Asia/Kolkata"
    assert hours.weekly[0] == ((540, 720), (780, 1440))
    assert hours.weekly[1:] == ((),) * 6
    wrong = [*fields[:2], ("start-2", "15:00"), ("end-2", "11:00"), ("start-3", "09:00"), ("end-3", "")]
    again = await client.post("/desk/availability", data=wrong)
    assert again.status == 422
    page = await again.text()
    assert 'href="#day-3"' in page
    assert 'value="15:00"' in page  # what was typed is kept


async def test_another_day_is_added_and_removed(site: Site) -> None:
    client = await site.signed_in("boris")
    day = (site.now + timedelta(days=5)).date()
    closed = await client.post(
        "/desk/availability/exceptions",
        data=await form_of(client, day=day.isoformat(), kind="closed", start="", end=""),
        allow_redirects=False,
    )
    assert closed.status == 303
    async with site.database.read() as session:
        hours = await availability.hours(session, site.practice_id, site.people["boris"].id, site.now.date())
    assert hours.exceptions == {day: ()}
    past = await form_of(client, day="2020-01-01", kind="closed")
    assert (await client.post("/desk/availability/exceptions", data=past)).status == 422
    nothing = await form_of(client, day=day.isoformat(), kind="open")
    again = await client.post("/desk/availability/exceptions", data=nothing)
    assert again.status == 422
    assert f'value="{day}"' in await again.text()  # what was typed is kept
    removed = await form_of(client, day=day.isoformat())
    assert (await client.post("/desk/availability/exceptions/remove", data=removed)).status == 200
    async with site.database.read() as session:
        hours = await availability.hours(session, site.practice_id, site.people["boris"].id, site.now.date())
    assert hours.exceptions == {}


async def test_a_service_is_made_and_edited(site: Site) -> None:
    client = await site.signed_in("boris")
    numbers = {
        "duration_minutes": "40",
        "step_minutes": "20",
        "buffer_before_minutes": "0",
        "buffer_after_minutes": "10",
        "minimum_notice_minutes": "60",
        "horizon_days": "30",
        "change_deadline_minutes": "120",
    }
    bad = await client.post(
        "/desk/services/new", data=await form_of(client, name="Check-up", **numbers | {"horizon_days": "many"})
    )
    assert bad.status == 422
    page = await bad.text()
    assert 'id="horizon_days-error"' in page
    assert 'value="Check-up"' in page
    made = await client.post("/desk/services/new", data=await form_of(client, name="Check-up", active="1", **numbers))
    listed = await made.text()
    address = re.search(r'href="(/desk/services/[0-9a-f]{32})"', listed)
    assert address is not None
    wrong = await client.post(
        address[1], data=await form_of(client, name="Wrong", **numbers | {"duration_minutes": "3"})
    )
    assert wrong.status == 422
    page = await wrong.text()
    assert 'id="duration_minutes-error"' in page
    assert 'value="Wrong"' in page
    edited = await client.post(address[1], data=await form_of(client, name="Long check-up", **numbers))
    assert "Long check-up" in await edited.text()
    async with site.database.read() as session:
        (offer,) = await services.list_services(session, site.practice_id, only_active=False)
    assert offer.service.name == "Long check-up"
    assert not offer.service.active
    assert offer.service.buffer_after_minutes == 10


async def test_cancelling_at_the_desk_frees_the_time_and_plans_the_mail(site: Site) -> None:
    booked = await book(site)
    client = await site.signed_in("boris")
    address = f"/desk/consultations/{booked.consultation_id}"
    page = await (await client.get(address)).text()
    assert "my knee" in page
    assert "America/New York" in page  # the client's own time, too
    cancelled = await client.post(f"{address}/cancel", data=await form_of(client), allow_redirects=False)
    assert cancelled.status == 303
    assert "Cancelled" in await (await client.get(address)).text()
    assert (await client.post(f"{address}/cancel", data=await form_of(client))).status == 409
    admin = await site.signed_in("anna")
    assert "Cancellation" in await (await admin.get(f"/admin/deliveries?booking={booked.id}")).text()


async def test_how_it_went_can_be_said_once_it_began(site: Site) -> None:
    booked = await book(site, hours_ahead=2)
    client = await site.signed_in("boris")
    address = f"/desk/consultations/{booked.consultation_id}/outcome"
    assert (await client.post(address, data=await form_of(client, outcome="no_show"))).status == 409
    site.now += timedelta(hours=3)
    client = await site.signed_in("boris")
    assert (await client.post(address, data=await form_of(client, outcome="no_show"))).status == 200
    assert (await client.post(address, data=await form_of(client, outcome="party"))).status == 400


async def test_waiting_is_told_as_json_and_html(site: Site) -> None:
    client = await site.signed_in("boris")
    answer = await (await client.get("/desk/waiting")).json()
    assert answer["waiting"] == []
    assert "Nobody is waiting" in answer["html"]


async def test_an_invited_specialist_can_sign_in(site: Site) -> None:
    admin = await site.signed_in("anna")
    fields = {"name": "Dora Doctor", "email": "dora@staff.example", "role": "specialist", "zone": "Europe/Paris"}
    made = await admin.post("/admin/users", data=await form_of(admin, language="en", title="Surgeon", **fields))
    link = re.search(r'value="(http://[^"]+/account/welcome/[^"]+)"', await made.text())
    assert link is not None
    assert link[1].split("#")[1] not in await (await admin.get("/admin/users")).text()
    again = await admin.post("/admin/users", data=await form_of(admin, language="en", title="", **fields))
    assert again.status == 409
    assert 'value="Dora Doctor"' in await again.text()
    path, _, secret = link[1].partition("#")
    guest = await site.client()
    chosen = await guest.post(
        path[path.index("/account") :],
        data={"invitation": secret, "password": "copper-window-morning-9"},
        allow_redirects=False,
    )
    assert path_of(chosen) == "/account/enrol"
    assert (await guest.get("/account/enrol")).status == 200


async def test_the_last_administrator_stays(site: Site) -> None:
    admin = await site.signed_in("anna")
    answer = await admin.post(f"/admin/users/{site.people['anna'].id}/disable", data=await form_of(admin))
    assert answer.status == 409
    assert (await admin.get("/admin/users")).status == 200


async def test_reminder_rules_are_edited(site: Site) -> None:
    booked = await book(site, hours_ahead=72)
    admin = await site.signed_in("anna")
    token = await csrf_token(admin, "/admin/reminders")
    rows = [("csrf_token", token), ("amount", "2"), ("unit", "days"), ("amount", "30"), ("unit", "minutes")]
    rows += [("amount", ""), ("unit", "hours")]
    assert (await admin.post("/admin/reminders", data=rows, allow_redirects=False)).status == 303
    async with site.database.read() as session:
        enabled = [rule.minutes_before for rule in await reminders.rules(session, site.practice_id) if rule.enabled]
    assert enabled == [2880, 30]
    planned = await (await admin.get(f"/admin/deliveries?booking={booked.id}&status=planned")).text()
    assert "2 days before" in planned
    assert "1 day before" not in planned
    wrong = [("csrf_token", token), ("amount", "90"), ("unit", "days")]
    assert (await admin.post("/admin/reminders", data=wrong)).status == 422


async def test_session_filters_csv_and_bad_cursors(site: Site) -> None:
    booked = await book(site)
    admin = await site.signed_in("anna")
    boris = site.people["boris"]
    address = f"/admin/sessions?status=upcoming&specialist={boris.id}&since=2026-03-01"
    page = await (await admin.get(address)).text()
    assert f"/admin/sessions/{booked.consultation_id}" in page
    assert page.count('class="chip selected"') == 3
    assert "Clear all" in page
    narrowed = await (await admin.get(f"{address}&until=2026-03-02")).text()
    assert f"/admin/sessions/{booked.consultation_id}" not in narrowed
    odd = await admin.get("/admin/sessions?status=<script>&since=yesterday&quality=x&after=zz", allow_redirects=False)
    assert odd.status in (200, 303)
    answer = await admin.get("/admin/sessions.csv?status=upcoming")
    rows = list(csv.DictReader(io.StringIO((await answer.text()).removeprefix("\ufeff"))))
    assert [(row["id"], row["service"], row["specialist"]) for row in rows] == [
        (booked.consultation_id, "Visit", boris.name)
    ]
    assert "Carla" not in await answer.text()


async def test_the_account_language_comes_before_the_browsers(site: Site) -> None:
    client = await site.signed_in("boris")
    page = await (await client.get("/desk", headers={"Accept-Language": "ru"})).text()
    assert '<html lang="en"' in page
    await client.get("/language/ru?to=/desk")
    assert '<html lang="ru"' in await (await client.get("/desk")).text()


async def test_every_page_that_shows_times_names_their_zone(site: Site) -> None:
    booked = await book(site)
    await site.api_token()
    pages = {
        "anna": ("sessions?status=upcoming", f"sessions/{booked.consultation_id}", "users", "deliveries", "tokens"),
        "boris": ("", "calendar", f"consultations/{booked.consultation_id}"),
    }
    for who, paths in pages.items():
        client = await site.signed_in(who)
        for path in paths:
            text = await (await client.get(f"/{'admin' if who == 'anna' else 'desk'}/{path}".rstrip("/"))).text()
            main = text.split("<main", 1)[1]
            assert re.search(r"\d\d:\d\d", main), f"the premise: {path} shows a time"
            assert "Europe/Berlin (UTC+1)" in main, path


async def test_metrics_count_messages_and_requests_without_names(site: Site) -> None:
    await book(site)
    client = await site.client()
    await client.get("/manage/" + "a" * 32)
    text = await (await client.get("/metrics")).text()
    assert 'consult_outbox_messages{state="due"} 2.0' in text
    assert 'route="/manage/{' in text
    assert "a" * 32 not in text
    assert "consult_hub_rooms 0.0" in text
    assert "consult_relay_packets_received" in text


@asynccontextmanager
async def in_the_waiting_room(site: Site, booked: bookings.Booked) -> AsyncIterator[ClientWebSocketResponse]:
    """The client's open socket, five minutes before the appointment."""
    site.now = booked.start - timedelta(minutes=5)
    guest = await site.client()
    token = links.join_token(site.vault, booked.client_participant_id)
    answer = await guest.post(f"/join/{booked.consultation_id}/ticket", json={"token": token})
    assert answer.status == 200, await answer.text()
    ticket = (await answer.json())["ticket"]
    origin = site.app[SETTINGS].public_url
    async with guest.ws_connect("/ws", origin=origin) as socket:
        await socket.send_json({"type": "join", "ticket": ticket})
        welcome = await socket.receive_json(timeout=10)
        assert (welcome["type"], welcome["you"]["presence"]) == ("welcome", "waiting")
        yield socket


async def sent_out(socket: ClientWebSocketResponse) -> str:
    """The reason of the message that ends the client's stay."""
    async with asyncio.timeout(10):
        while True:
            message = await socket.receive_json()
            if message["type"] == "ended":
                return str(message["reason"])


async def test_a_cancellation_at_the_desk_sends_the_waiting_client_home(site: Site) -> None:
    booked = await book(site, hours_ahead=2)
    boris = await site.signed_in("boris")
    async with in_the_waiting_room(site, booked) as socket:
        address = f"/desk/consultations/{booked.consultation_id}/cancel"
        assert (await boris.post(address, data=await form_of(boris), allow_redirects=False)).status == 303
        assert await sent_out(socket) == "cancelled"


async def test_a_client_who_cancels_in_another_window_leaves_the_waiting_room(site: Site) -> None:
    booked = await book(site, hours_ahead=2)
    async with site.database.write() as session:
        await session.execute(update(Service).values(change_deadline_minutes=0))
    browser = await site.client()
    base = f"/manage/{booked.id}"
    token = links.manage_url("", site.vault, booked.id).partition("#")[2]
    assert (await browser.post(f"{base}/open", json={"token": token})).status == 204
    async with in_the_waiting_room(site, booked) as socket:
        assert (await browser.post(f"{base}/cancel", data={}, allow_redirects=False)).status == 303
        assert await sent_out(socket) == "cancelled"


async def test_a_waiting_client_shows_at_the_desk(site: Site) -> None:
    booked = await book(site, hours_ahead=2)
    async with in_the_waiting_room(site, booked):
        boris = await site.signed_in("boris")
        told = await (await boris.get("/desk/waiting")).json()
        assert told["waiting"] == [booked.client_participant_id]
        assert "Carla Client" in told["html"]
        assert f"/join/{booked.consultation_id}" in told["html"]
        other = await site.signed_in("clara")
        assert (await (await other.get("/desk/waiting")).json())["waiting"] == []
