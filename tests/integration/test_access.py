"""Role × route: every route of the app is asked by everybody, and nobody gets more than the route's rule gives.

The table is generated from the router, so a new route is in it at once; one without a rule stops the app (and this
file). What a route shows of somebody else's things is in the tests below the matrix.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientResponse, web
from sqlalchemy import select

from consult.booking import admission
from consult.people.api_tokens import PREFIX
from consult.people.models import Practice
from tests.site import Client, Site, csrf_token, open_site, path_of
from web.access import Access, rule_of

ROLES = ("anonymous", "admin", "specialist", "api_token", "other_practice_admin", "half_signed_in")
# which roles get through which rule; PUBLIC and CAPABILITY routes are open to all and decide by the object
ALLOWED: dict[Access, frozenset[str]] = {
    Access.PUBLIC: frozenset(ROLES),
    Access.CAPABILITY: frozenset(ROLES),
    Access.API_TOKEN: frozenset({"api_token"}),
    Access.SPECIALIST: frozenset({"specialist"}),
    Access.ADMIN: frozenset({"admin", "other_practice_admin"}),
    Access.STAFF: frozenset({"specialist", "admin", "other_practice_admin"}),
    Access.SIGNING_IN: frozenset({"specialist", "admin", "other_practice_admin", "half_signed_in"}),
    Access.OPERATOR: frozenset(),  # by address, see test_middleware
}
# PUBLIC is said on purpose; a new public route must be added here by hand
PUBLIC_ROUTES = re.compile(
    r"/$|/book/|/privacy$|/terms$|/language/|/zone$|/static/|/ws$|/healthz$|/readyz$|/account/sign-in$|/favicon|/robots"
    r"|/api/v1/(services|specialists|slots|bookings|openapi\.json)$|/join/|/devices$"
)


@pytest.fixture
async def site(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Site]:
    database = tmp_path / "consult.sqlite3"
    database.write_bytes(sqlite_template.read_bytes())
    async with open_site(f"sqlite+aiosqlite:///{database}", tmp_path) as site:
        yield site


def routes_of(app: web.Application) -> list[tuple[str, str, Access | None]]:
    found = []
    for route in app.router.routes():
        assert route.resource is not None
        if route.method != "HEAD":
            found.append((route.method, route.resource.canonical, rule_of(route.handler)))
    return found


def address_of(template: str) -> str:
    """A path of the route with ids that exist nowhere."""
    return re.sub(r"\{[^}]+\}", "f" * 32, template)


async def is_denied(response: ClientResponse) -> bool:
    """401, 403, or sent to sign in."""
    if response.status in (401, 403):
        return True
    return response.status == 303 and path_of(response) == "/account/sign-in"


async def callers(site: Site) -> dict[str, tuple[Client, dict[str, str]]]:
    await site.add("oskar", "admin", practice_id=await site.other_practice())
    half = await site.client()
    await half.post("/account/sign-in", data={"email": "clara@staff.example", "password": "quiet-harbour-lantern-42"})
    found: dict[str, tuple[Client, dict[str, str]]] = {
        "anonymous": (await site.client(), {}),
        "api_token": (await site.client(), {"Authorization": f"Bearer {await site.api_token()}"}),
        "half_signed_in": (half, {"X-CSRF-Token": await csrf_token(half, "/account/code")}),
    }
    for role, who in (("admin", "anna"), ("specialist", "boris"), ("other_practice_admin", "oskar")):
        client = await site.signed_in(who)
        found[role] = (client, {"X-CSRF-Token": await csrf_token(client, "/account/password")})
    return found


async def test_every_route_has_a_rule(site: Site) -> None:
    assert len(routes_of(site.app)) > 40
    assert [route for route in routes_of(site.app) if route[2] is None] == []


async def test_public_is_said_on_purpose(site: Site) -> None:
    public = {path for _, path, rule in routes_of(site.app) if rule is Access.PUBLIC}
    assert [path for path in sorted(public) if not PUBLIC_ROUTES.match(path)] == []


async def test_role_by_route(site: Site) -> None:
    everybody = await callers(site)
    wrong: list[str] = []
    # signing out ends the session that the rest of the table needs
    ends_session = {"/account/sign-out"}
    for method, template, rule in routes_of(site.app):
        if rule in (None, Access.OPERATOR, Access.PUBLIC, Access.CAPABILITY) or template in ends_session:
            continue
        for role, (client, headers) in everybody.items():
            response = await client.request(
                method, address_of(template), headers=headers | {"Accept": "text/html"}, allow_redirects=False
            )
            denied = await is_denied(response)
            if denied == (role in ALLOWED[rule]) or response.status >= 500:
                wrong.append(f"{role} {method} {template} ({rule.value}): {response.status}")
    assert wrong == []


async def test_staff_posts_need_the_sessions_token(site: Site) -> None:
    everybody = await callers(site)
    wrong = []
    for method, template, rule in routes_of(site.app):
        if method == "GET" or rule not in (Access.SPECIALIST, Access.ADMIN, Access.STAFF, Access.SIGNING_IN):
            continue
        for role in ALLOWED[rule]:
            response = await everybody[role][0].request(method, address_of(template), allow_redirects=False)
            if response.status != 403:
                wrong.append(f"{role} {method} {template}: {response.status}")
    assert wrong == []


async def test_a_capability_route_gives_nothing_without_the_capability(site: Site) -> None:
    everybody = await callers(site)
    booking = await site.book()
    wrong = []
    for method, template, rule in routes_of(site.app):
        if rule is not Access.CAPABILITY:
            continue
        # ids that exist, so that only the missing secret can be the reason
        address = re.sub(r"\{(booking|id|booking_id)\}", booking.id, template)
        address = re.sub(r"\{(consultation|room)\}", booking.consultation_id, address)
        address = re.sub(r"\{person\}", site.people["boris"].id, address)
        for role in ("anonymous", "other_practice_admin", "api_token"):
            client, headers = everybody[role]
            response = await client.request(
                method, address_of(address), headers=headers | {"Accept": "text/html"}, allow_redirects=False
            )
            text = await response.text()
            if response.status >= 500 or "Carla Client" in text or "carla@client.example" in text or "my knee" in text:
                wrong.append(f"{role} {method} {template}: {response.status}")
    assert wrong == []


async def test_a_specialist_sees_only_own_appointments(site: Site) -> None:
    booking = await site.book()
    address = f"/desk/consultations/{booking.consultation_id}"
    own = await site.signed_in("boris")
    page = await own.get(address)
    assert page.status == 200
    assert "Carla Client" in await page.text()
    assert "Carla Client" in await (await own.get("/desk")).text()
    calendar = await own.get(f"/desk/calendar?day={booking.start.date()}")
    assert "Carla Client" in await calendar.text()
    other = await site.signed_in("clara")
    token = {"csrf_token": await csrf_token(other, "/account/password")}
    assert (await other.get(address)).status == 404
    for action in ("cancel", "outcome", "notes"):
        data = token | {"outcome": "no_show", "text": "not mine"}
        assert (await other.post(f"{address}/{action}", data=data)).status == 404
    for path in ("/desk", f"/desk/calendar?day={booking.start.date()}"):
        assert "Carla Client" not in await (await other.get(path)).text()


async def test_a_specialist_edits_only_own_services(site: Site) -> None:
    booking = await site.book()
    other = await site.signed_in("clara")
    address = f"/desk/services/{booking.service_id}"
    assert (await other.get(address)).status == 404
    data = {"csrf_token": await csrf_token(other, "/account/password"), "name": "Taken over"}
    assert (await other.post(address, data=data)).status == 404
    own = await site.signed_in("boris")
    assert "Visit" in await (await own.get(address)).text()


async def test_nothing_crosses_practices(site: Site) -> None:
    booking = await site.book()
    await site.add("oskar", "admin", practice_id=await site.other_practice())
    anna, oskar = await site.signed_in("anna"), await site.signed_in("oskar")
    session_page = f"/admin/sessions/{booking.consultation_id}"
    assert (await anna.get(session_page)).status == 200
    assert (await oskar.get(session_page)).status == 404
    listed = "/admin/sessions?status=upcoming"
    assert "Visit" in await (await anna.get(listed)).text()
    assert "Visit" not in await (await oskar.get(listed)).text()
    assert "Visit" not in await (await oskar.get("/admin/sessions.csv?status=upcoming")).text()
    # the page lets a long address break before its @
    assert "boris<wbr>@staff.example" in await (await anna.get("/admin/users")).text()
    assert "boris" not in await (await oskar.get("/admin/users")).text()
    assert booking.id not in await (await oskar.get("/admin/deliveries")).text()
    token = {"csrf_token": await csrf_token(oskar, "/account/password")}
    boris = site.people["boris"].id
    for action in ("invite", "disable", "enable", "reset-totp"):
        assert (await oskar.post(f"/admin/users/{boris}/{action}", data=token)).status == 404
    async with site.database.write() as session:
        room = await admission.create_consultation(session, site.practice_id, "transport", site.now)
    foreign = {"Authorization": f"Bearer {await site.api_token(await other_practice_id(site))}"}
    own = {"Authorization": f"Bearer {await site.api_token()}"}
    anybody = await site.client()
    assert (await anybody.get(f"/api/v1/consultations/{room.id}", headers=own)).status == 200
    assert (await anybody.get(f"/api/v1/consultations/{room.id}", headers=foreign)).status == 404


async def other_practice_id(site: Site) -> str:
    async with site.database.read() as session:
        found = await session.scalar(select(Practice.id).where(Practice.slug == "other"))
    assert found is not None
    return found


async def test_notes_are_their_authors_alone(site: Site) -> None:
    booking = await site.book()
    own = await site.signed_in("boris")
    address = f"/desk/consultations/{booking.consultation_id}"
    data = {"csrf_token": await csrf_token(own, address), "text": "only mine to read"}
    assert (await own.post(f"{address}/notes", data=data)).status == 200
    assert "only mine to read" in await (await own.get(address)).text()
    admin = await site.signed_in("anna")
    assert "only mine to read" not in await (await admin.get(f"/admin/sessions/{booking.consultation_id}")).text()
    assert (await admin.get(address)).status == 403


async def test_a_disabled_account_is_out_at_once(site: Site) -> None:
    boris, anna = await site.signed_in("boris"), await site.signed_in("anna")
    assert (await boris.get("/desk")).status == 200
    data = {"csrf_token": await csrf_token(anna, "/account/password")}
    await anna.post(f"/admin/users/{site.people['boris'].id}/disable", data=data)
    assert path_of(await boris.get("/desk", allow_redirects=False)) == "/account/sign-in"


async def test_a_revoked_token_opens_nothing(site: Site) -> None:
    anna = await site.signed_in("anna")
    data = {"csrf_token": await csrf_token(anna, "/admin/tokens")}
    page = await (await anna.post("/admin/tokens", data=data | {"label": "for the test"})).text()
    plaintext = re.search(rf'value="({PREFIX}[^"]+)"', page)
    assert plaintext is not None
    headers = {"Authorization": f"Bearer {plaintext[1]}"}
    anybody = await site.client()
    body = {"encryption": "transport"}
    assert (await anybody.post("/api/v1/consultations", headers=headers, json=body)).status == 201
    listed = await (await anna.get("/admin/tokens")).text()
    assert plaintext[1] not in listed
    revoke = re.search(r'action="(/admin/tokens/[^"]+/revoke)"', listed)
    assert revoke is not None
    await anna.post(revoke[1], data=data)
    assert (await anybody.post("/api/v1/consultations", headers=headers, json=body)).status == 401
