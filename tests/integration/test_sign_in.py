"""Signing in as people do it: pages, forms, cookies."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from sqlalchemy import update

from consult.people import accounts, invitations, totp
from consult.people.models import Account
from tests.site import PASSWORD, Client, Site, cookie_of, csrf_token, open_site, path_of


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path) as site:
        yield site


async def test_two_steps_open_the_desk_and_each_gives_a_new_session(site: Site) -> None:
    client = await site.client()
    first = await client.post(
        "/account/sign-in", data={"email": "Boris@staff.example ", "password": PASSWORD}, allow_redirects=False
    )
    assert (first.status, path_of(first)) == (303, "/account/code")
    cookie = cookie_of(first)["consult_session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/"
    before = cookie.value
    # half a sign-in opens nothing
    assert path_of(await client.get("/account/password", allow_redirects=False)) == "/account/sign-in"
    token = await csrf_token(client, "/account/code")
    second = await client.post(
        "/account/code", data={"code": site.code("boris"), "csrf_token": token}, allow_redirects=False
    )
    assert (second.status, path_of(second)) == (303, "/desk")
    assert cookie_of(second)["consult_session"].value != before
    assert (await client.get("/account/password")).status == 200
    # the token of the first step is gone
    old = await site.client()
    old.session.cookie_jar.update_cookies({"consult_session": before}, client.make_url("/"))
    assert path_of(await old.get("/account/code", allow_redirects=False)) == "/account/sign-in"


async def test_a_code_works_once(site: Site) -> None:
    await site.signed_in("boris")
    client = await site.client()
    await client.post("/account/sign-in", data={"email": "boris@staff.example", "password": PASSWORD})
    token = await csrf_token(client, "/account/code")
    again = await client.post("/account/code", data={"code": site.code("boris"), "csrf_token": token})
    assert again.status == 422
    assert "already used" in await again.text()
    site.now += timedelta(seconds=30)
    fresh = await client.post(
        "/account/code", data={"code": site.code("boris"), "csrf_token": token}, allow_redirects=False
    )
    assert fresh.status == 303


async def test_wrong_unknown_and_disabled_get_the_same_answer(site: Site) -> None:
    async with site.database.write() as session:
        await accounts.disable_account(session, site.practice_id, site.people["clara"].id, site.now)
    pages = set()
    for email, password in (
        ("boris@staff.example", "not the password"),
        ("nobody@staff.example", PASSWORD),
        ("clara@staff.example", PASSWORD),
    ):
        client = await site.client()
        answer = await client.post("/account/sign-in", data={"email": email, "password": password})
        assert answer.status == 422
        assert "Set-Cookie" not in answer.headers
        pages.add((await answer.text()).replace(email, ""))
    assert len(pages) == 1


async def test_guessing_is_limited(site: Site) -> None:
    client = await site.client()
    statuses = [
        (await client.post("/account/sign-in", data={"email": "anna@staff.example", "password": f"guess {n}"})).status
        for n in range(7)
    ]
    assert statuses == [422] * 5 + [429] * 2
    # the right password from the same address waits too; another account does not
    right = await client.post("/account/sign-in", data={"email": "anna@staff.example", "password": PASSWORD})
    assert (right.status, int(right.headers["Retry-After"]) > 0) == (429, True)
    await site.signed_in("boris")


async def test_another_spelling_of_an_address_is_no_other_account(site: Site) -> None:
    client = await site.client()
    spellings = ("boris@staff.example", "BORIS@staff.example", "ｂoris@staff.example", "boris@ｓtaff.example")
    statuses = [
        (await client.post("/account/sign-in", data={"email": spelling, "password": "x"})).status
        for spelling in (*spellings, *spellings)
    ]
    assert statuses == [422] * 5 + [429] * 3


async def test_guessing_codes_is_limited(site: Site) -> None:
    client = await site.client()
    await client.post("/account/sign-in", data={"email": "anna@staff.example", "password": PASSWORD})
    token = await csrf_token(client, "/account/code")
    statuses = [
        (await client.post("/account/code", data={"code": f"{n:06d}", "csrf_token": token})).status for n in range(6)
    ]
    assert statuses == [422] * 5 + [429]


async def test_the_first_sign_in_enrols_an_authenticator(site: Site) -> None:
    async with site.database.write() as session:
        await session.execute(
            update(Account)
            .where(Account.person_id == site.people["boris"].id)
            .values(totp_confirmed_at=None, totp_secret_sealed=None)
        )
    client = await site.client()
    first = await client.post(
        "/account/sign-in", data={"email": "boris@staff.example", "password": PASSWORD}, allow_redirects=False
    )
    assert path_of(first) == "/account/enrol"
    page = await (await client.get("/account/enrol")).text()
    assert 'src="data:image/svg+xml' in page
    assert "style=" not in page
    secret = page.split('class="secret">', 1)[1].split("<", 1)[0].replace(" ", "")
    token = page.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]
    wrong = await client.post("/account/enrol", data={"code": "000000", "csrf_token": token})
    assert wrong.status == 422
    assert secret in (await wrong.text()).replace(" ", "")
    code = pyotp.TOTP(secret).at(site.now)
    done = await client.post("/account/enrol", data={"code": code, "csrf_token": token}, allow_redirects=False)
    assert (done.status, path_of(done)) == (303, "/desk")


async def test_a_form_without_the_sessions_token_changes_nothing(site: Site) -> None:
    client = await site.signed_in("boris")
    for data in ({}, {"csrf_token": "x" * 43}):
        assert (await client.post("/account/sign-out", data=data)).status == 403
    assert (await client.get("/account/password")).status == 200
    other = await site.signed_in("clara")
    foreign = await csrf_token(other, "/account/password")
    assert (await client.post("/account/sign-out", data={"csrf_token": foreign})).status == 403


async def test_signing_out_ends_the_session_on_the_server(site: Site) -> None:
    client = await site.signed_in("boris")
    kept = client.session.cookie_jar.filter_cookies(client.make_url("/"))["consult_session"].value
    token = await csrf_token(client, "/account/password")
    out = await client.post("/account/sign-out", data={"csrf_token": token}, allow_redirects=False)
    assert path_of(out) == "/account/sign-in"
    thief = await site.client()
    thief.session.cookie_jar.update_cookies({"consult_session": kept}, client.make_url("/"))
    assert path_of(await thief.get("/account/password", allow_redirects=False)) == "/account/sign-in"


async def test_a_changed_password_signs_other_devices_out(site: Site) -> None:
    here, elsewhere = await site.signed_in("boris"), await site.signed_in("boris")
    token = await csrf_token(here, "/account/password")
    form = {"csrf_token": token, "current": "wrong one here", "password": "another-calm-river-77"}
    refused = await here.post("/account/password", data=form)
    assert refused.status == 422
    assert "not your current password" in await refused.text()
    short = await here.post("/account/password", data=form | {"current": PASSWORD, "password": "short"})
    assert short.status == 422
    done = await here.post("/account/password", data=form | {"current": PASSWORD}, allow_redirects=False)
    assert done.status == 303
    assert (await here.get("/account/password")).status == 200
    assert path_of(await elsewhere.get("/account/password", allow_redirects=False)) == "/account/sign-in"


async def test_only_one_sign_in_sees_the_key_that_is_set_up(site: Site) -> None:
    """Somebody else who knows the password looked at the key first: it must not become the owner's."""
    async with site.database.write() as session:
        await totp.reset(session, site.people["boris"].id)

    async def key_shown(client: Client) -> str:
        text = await (await client.get("/account/enrol")).text()
        found = re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", text)
        assert found is not None, text
        return found[0].replace(" ", "")

    form = {"email": "boris@staff.example", "password": PASSWORD}
    thief, owner = await site.client(), await site.client()
    await thief.post("/account/sign-in", data=form)
    stolen = await key_shown(thief)
    await owner.post("/account/sign-in", data=form)
    key = await key_shown(owner)
    assert key != stolen
    assert key == await key_shown(owner), "a reload keeps what was scanned"
    assert path_of(await thief.get("/account/enrol", allow_redirects=False)) == "/account/sign-in"
    token = await csrf_token(owner, "/account/enrol")
    for secret, status in ((stolen, 422), (key, 303)):
        code = pyotp.TOTP(secret).at(site.now)
        done = await owner.post("/account/enrol", data={"code": code, "csrf_token": token}, allow_redirects=False)
        assert done.status == status


async def test_an_invitation_works_once(site: Site) -> None:
    person = site.people["clara"].id
    async with site.database.read() as session:
        token = await invitations.invite(session, site.vault, site.practice_id, person, site.now)
    client = await site.client()
    assert (await client.get(f"/account/welcome/{person}")).status == 200
    form = {"invitation": token, "password": "short"}
    assert (await client.post(f"/account/welcome/{person}", data=form)).status == 422
    form["password"] = "morning-window-copper-9"
    for wrong in (token[:-1] + "?", token.replace(token.split(".")[0], "9999999999"), ""):
        assert (await client.post(f"/account/welcome/{person}", data=form | {"invitation": wrong})).status == 404
    used = await client.post(f"/account/welcome/{person}", data=form, allow_redirects=False)
    assert used.status == 303
    again = await site.client()
    assert (await again.post(f"/account/welcome/{person}", data=form)).status in (404, 429)


async def test_an_invitation_expires(site: Site) -> None:
    person = site.people["clara"].id
    async with site.database.read() as session:
        token = await invitations.invite(session, site.vault, site.practice_id, person, site.now)
        assert await invitations.check(session, site.vault, person, token, site.now)
        assert not await invitations.check(session, site.vault, person, token, site.now + timedelta(days=8))


async def test_next_leads_to_own_pages_only(site: Site) -> None:
    for target, expected in (
        ("/desk/calendar", "/desk/calendar"),
        ("//evil.example", "/desk"),
        ("https://e.x", "/desk"),
    ):
        site.now += timedelta(seconds=30)
        client = await site.client()
        first = await client.post(
            "/account/sign-in",
            data={"email": "boris@staff.example", "password": PASSWORD, "next": target},
            allow_redirects=False,
        )
        token = await csrf_token(client, str(first.headers["Location"]))
        done = await client.post(
            "/account/code",
            data={"code": site.code("boris"), "csrf_token": token, "next": target},
            allow_redirects=False,
        )
        assert done.headers["Location"] == expected


async def test_over_https_the_cookie_has_the_host_prefix(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path, CONSULT_PUBLIC_URL="https://consult.example") as site:
        client = await site.client()
        first = await client.post(
            "/account/sign-in", data={"email": "boris@staff.example", "password": PASSWORD}, allow_redirects=False
        )
        cookie = cookie_of(first, "__Host-consult_session")["__Host-consult_session"]
        assert cookie["secure"]
        assert cookie["path"] == "/"
        assert not cookie["domain"]
