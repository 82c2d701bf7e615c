"""The call page's two requests: what the holder of a link learns, and the ticket of one WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from consult.booking import bookings, links
from consult.booking.models import JoinTicket, Participant
from tests.site import Client, Site, open_site

NAME = "Carla Client"


@pytest.fixture
async def site(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Site]:
    database = tmp_path / "consult.sqlite3"
    database.write_bytes(sqlite_template.read_bytes())
    async with open_site(f"sqlite+aiosqlite:///{database}", tmp_path) as site:
        yield site


@pytest.fixture
async def visit(site: Site) -> bookings.Booked:
    """Boris's, by a client, in an hour or two."""
    return await site.book(hours_ahead=2)


async def token_of(site: Site, consultation_id: str, role: str) -> str:
    async with site.database.read() as session:
        seat = await session.scalar(
            select(Participant.id).where(Participant.consultation_id == consultation_id, Participant.role == role)
        )
    assert seat is not None
    return links.join_token(site.vault, seat)


async def ask(client: Client, consultation_id: str, what: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    response = await client.post(f"/join/{consultation_id}/{what}", json=body)
    assert response.headers["Cache-Control"] == "no-store"
    return response.status, await response.json()


async def open_the_room(site: Site, visit: bookings.Booked) -> None:
    async with site.database.read() as session:
        seat = await session.scalar(select(func.count()).select_from(Participant))
        assert seat, "the premise: the booking has seats"
    site.now = visit.start - timedelta(minutes=5)


async def test_the_page_itself_tells_nothing(site: Site, visit: bookings.Booked) -> None:
    client = await site.client()
    there = await client.get(f"/join/{visit.consultation_id}")
    nowhere = await client.get("/join/0000000000000000")
    assert there.status == nowhere.status == 200
    text = (await there.text()).replace(visit.consultation_id, "ID")
    assert NAME not in text
    assert text == (await nowhere.text()).replace("0000000000000000", "ID"), "existence would be told"
    assert 'data-call-state="prejoin"' in text


async def test_the_holder_of_the_link_learns_about_the_visit(site: Site, visit: bookings.Booked) -> None:
    client = await site.client()
    token = await token_of(site, visit.consultation_id, "client")
    status, preview = await ask(client, visit.consultation_id, "preview", {"token": token})
    assert (status, preview["status"]) == (200, "early")
    assert preview["participant"]["name"] == NAME
    assert preview["participant"]["role"] == "client"
    assert preview["specialist"] == "Boris Example"
    assert preview["service"] == "Visit"
    assert preview["starts_at"] == "2026-03-04T14:00:00Z"
    assert preview["opens_at"] == "2026-03-04T13:50:00Z"

    await open_the_room(site, visit)
    status, preview = await ask(client, visit.consultation_id, "preview", {"token": token})
    assert (status, preview["status"]) == (200, "open")


async def test_no_ticket_before_the_room_opens(site: Site, visit: bookings.Booked) -> None:
    client = await site.client()
    token = await token_of(site, visit.consultation_id, "client")
    status, problem = await ask(client, visit.consultation_id, "ticket", {"token": token})
    assert (status, problem["code"]) == (409, "too_early")

    await open_the_room(site, visit)
    status, ticket = await ask(client, visit.consultation_id, "ticket", {"token": token})
    assert status == 200
    assert ticket["participant"]["name"] == NAME
    async with site.database.read() as session:
        kept = (await session.execute(select(JoinTicket.token_hash))).scalars().all()
    assert len(kept) == 1
    assert ticket["ticket"].encode() not in kept[0], "only its hash is kept"


async def test_a_cancelled_visit_says_so(site: Site, visit: bookings.Booked) -> None:
    client = await site.client()
    token = await token_of(site, visit.consultation_id, "client")
    async with site.database.write() as session:
        await bookings.cancel(session, site.practice_id, visit.id, bookings.Actor("admin"), site.now)
    status, preview = await ask(client, visit.consultation_id, "preview", {"token": token})
    assert (status, preview["status"]) == (200, "cancelled")
    status, problem = await ask(client, visit.consultation_id, "ticket", {"token": token})
    assert (status, problem["code"]) == (409, "cancelled")


async def test_a_signed_in_specialist_needs_no_link_to_the_own_visit(site: Site, visit: bookings.Booked) -> None:
    await open_the_room(site, visit)
    boris = await site.signed_in("boris")
    status, preview = await ask(boris, visit.consultation_id, "preview", {})
    assert (status, preview["participant"]["role"]) == (200, "specialist")
    status, _ = await ask(boris, visit.consultation_id, "ticket", {})
    assert status == 200
    for other in ("clara", "anna"):
        stranger = await site.signed_in(other)
        status, problem = await ask(stranger, visit.consultation_id, "preview", {})
        assert (status, problem["code"]) == (404, "not_found"), other


@pytest.mark.parametrize("what", ["preview", "ticket"])
async def test_without_the_secret_there_is_nothing(site: Site, visit: bookings.Booked, what: str) -> None:
    await open_the_room(site, visit)
    client = await site.client()
    token = await token_of(site, visit.consultation_id, "client")
    other = "A" if token[-1] != "A" else "B"
    for body in ({}, {"token": token[:-1] + other}, {"token": "x"}, {"token": "\u0000"}):
        status, problem = await ask(client, visit.consultation_id, what, body)
        assert (status, problem["code"]) == (404, "not_found"), body
    status, _ = await ask(client, visit.consultation_id, what, {"token": token})
    assert status == 200, "the premise: the right secret opens it"


async def test_bad_requests_are_told_what_is_wrong(site: Site, visit: bookings.Booked) -> None:
    client = await site.client()
    path = f"/join/{visit.consultation_id}/ticket"
    status, problem = await ask(client, visit.consultation_id, "ticket", {"token": 5})
    assert (status, problem["code"]) == (422, "invalid")
    status, problem = await ask(client, visit.consultation_id, "ticket", {"token": "x", "role": "admin"})
    assert (status, problem["code"]) == (422, "invalid"), "unknown fields are refused"
    long = await client.post(path, json={"token": "x" * 5000})
    assert long.status == 413
    form = await client.post(path, data={"token": "x"})
    assert form.status == 415
    elsewhere = await client.post(path, json={}, headers={"Origin": "https://evil.example"})
    assert elsewhere.status == 403
