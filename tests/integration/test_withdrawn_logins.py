"""A login that ends takes its open sockets with it: nobody sits on in a call that they may not enter any more."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse

from consult.booking import bookings
from consult.people import invitations
from tests.site import PASSWORD, Client, Site, csrf_token, open_site

NEW_PASSWORD = "morning-window-copper-9"


@pytest.fixture
async def site(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Site]:
    database = tmp_path / "consult.sqlite3"
    database.write_bytes(sqlite_template.read_bytes())
    async with open_site(f"sqlite+aiosqlite:///{database}", tmp_path) as site:
        yield site


@pytest.fixture
async def visit(site: Site) -> bookings.Booked:
    """Boris's, starting in a few minutes: his room is open."""
    booked = await site.book(hours_ahead=2)
    site.now = booked.start - timedelta(minutes=8)
    return booked


async def enter(client: Client, consultation_id: str) -> ClientWebSocketResponse:
    ticket = (await (await client.post(f"/join/{consultation_id}/ticket", json={})).json())["ticket"]
    socket = await client.ws_connect("/ws", headers={"Origin": "http://localhost:8080"})
    await socket.send_json({"type": "join", "ticket": ticket})
    welcome = await socket.receive_json(timeout=30)
    assert (welcome["type"], welcome["you"]["role"]) == ("welcome", "specialist")
    return socket


async def ended(socket: ClientWebSocketResponse) -> str:
    """Why the socket was ended; it closes after that."""
    while True:
        message: dict[str, Any] = await socket.receive_json(timeout=30)
        if message["type"] == "ended":
            await socket.receive(timeout=30)
            assert socket.closed
            return str(message["reason"])


async def disabled(site: Site, _own: Client) -> None:
    anna = await site.signed_in("anna")
    form = {"csrf_token": await csrf_token(anna, "/account/password")}
    assert (await anna.post(f"/admin/users/{site.people['boris'].id}/disable", data=form)).status == 200


async def factor_reset(site: Site, _own: Client) -> None:
    anna = await site.signed_in("anna")
    form = {"csrf_token": await csrf_token(anna, "/account/password")}
    assert (await anna.post(f"/admin/users/{site.people['boris'].id}/reset-totp", data=form)).status == 200


async def signed_out(_site: Site, own: Client) -> None:
    form = {"csrf_token": await csrf_token(own, "/account/password")}
    assert (await own.post("/account/sign-out", data=form)).status == 200


async def signed_out_elsewhere(site: Site, _own: Client) -> None:
    other = await site.signed_in("boris")
    form = {"csrf_token": await csrf_token(other, "/account/password")}
    assert (await other.post("/account/sign-out-elsewhere", data=form)).status == 200


async def password_changed(site: Site, _own: Client) -> None:
    other = await site.signed_in("boris")
    form = {"csrf_token": await csrf_token(other, "/account/password"), "current": PASSWORD, "password": NEW_PASSWORD}
    assert (await other.post("/account/password", data=form)).status == 200


async def password_chosen_by_invitation(site: Site, _own: Client) -> None:
    person = site.people["boris"].id
    async with site.database.read() as session:
        token = await invitations.invite(session, site.vault, site.practice_id, person, site.now)
    form = {"invitation": token, "password": NEW_PASSWORD}
    anybody = await site.client()
    assert (await anybody.post(f"/account/welcome/{person}", data=form, allow_redirects=False)).status == 303


@pytest.mark.parametrize(
    "withdraw",
    [disabled, factor_reset, signed_out, signed_out_elsewhere, password_changed, password_chosen_by_invitation],
    ids=lambda step: step.__name__,
)
async def test_the_socket_ends_with_the_login(
    site: Site, visit: bookings.Booked, withdraw: Callable[[Site, Client], Awaitable[None]]
) -> None:
    own = await site.signed_in("boris")
    socket = await enter(own, visit.consultation_id)
    unused = (await (await own.post(f"/join/{visit.consultation_id}/ticket", json={})).json())["ticket"]
    await withdraw(site, own)
    began = time.monotonic()
    assert await ended(socket) == "signed_out"
    assert time.monotonic() - began < 10
    # neither the session nor a ticket from before leads back
    assert (await own.post(f"/join/{visit.consultation_id}/ticket", json={})).status == 404
    late = await own.ws_connect("/ws", headers={"Origin": "http://localhost:8080"})
    await late.send_json({"type": "join", "ticket": unused})
    assert (await late.receive_json(timeout=30))["code"] == "bad_ticket"
