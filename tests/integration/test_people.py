"""Accounts, second factor, sessions and tokens on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select, text

from consult.db import Database, new_id
from consult.errors import Conflict, Invalid, NotFound
from consult.people import accounts, api_tokens, login_sessions, specialists, totp
from consult.people.accounts import NewAccount
from consult.people.models import Account, ApiToken, LoginSession, Person, Practice
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault

NOW = datetime(2026, 3, 1, 9, 0, 10, tzinfo=UTC)
PASSWORD = "vier Worte im Regen"
# as cheap as argon2 gets: these tests are not about hashing
CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture
def vault() -> Vault:
    return Vault(Keys.generate())


@pytest.fixture
async def practice_id(database: Database) -> str:
    async with database.write() as session:
        return (await accounts.ensure_practice(session, NOW)).id


def new(role: accounts.AccountRole = "admin", name: str = "anna") -> NewAccount:
    return NewAccount(role, name.title(), f"{name}@example.org", CHEAP_HASH, "Europe/Berlin", "en")


async def add(database: Database, vault: Vault, practice_id: str, wanted: NewAccount) -> str:
    async with database.write() as session:
        account = await accounts.create_account(session, vault, practice_id=practice_id, new=wanted, now=NOW)
        return account.person_id


async def test_one_practice_from_many_first_starts(database: Database) -> None:
    async def start() -> str:
        async with database.write() as session:
            return (await accounts.ensure_practice(session, NOW)).id

    ids = await asyncio.gather(*(start() for _ in range(8)))
    assert len(set(ids)) == 1
    async with database.read() as session:
        assert (await session.execute(select(func.count()).select_from(Practice))).scalar_one() == 1


async def test_an_account_opens_with_its_password_only(database: Database, vault: Vault, practice_id: str) -> None:
    person_id = await add(database, vault, practice_id, new())
    async with database.read() as session:
        check = await accounts.check_password(session, vault, " Anna@Example.org", PASSWORD)
        assert check is not None
        assert (check.person_id, check.totp_enrolled) == (person_id, False)
        assert await accounts.check_password(session, vault, "anna@example.org", "wrong") is None
        assert await accounts.check_password(session, vault, "nobody@example.org", PASSWORD) is None
        view = await accounts.get_account(session, vault, practice_id, person_id)
        assert (view.name, view.email, view.zone) == ("Anna", "anna@example.org", "Europe/Berlin")


async def test_outdated_hashes_are_replaced(database: Database, vault: Vault, practice_id: str) -> None:
    person_id = await add(database, vault, practice_id, new())
    async with database.read() as session:
        check = await accounts.check_password(session, vault, "anna@example.org", PASSWORD)
    assert check is not None
    assert check.new_hash is not None
    async with database.write() as session:
        await accounts.store_password_hash(session, person_id, check.new_hash)
    async with database.read() as session:
        again = await accounts.check_password(session, vault, "anna@example.org", PASSWORD)
    assert again is not None
    assert again.new_hash is None


async def test_prepare_names_every_wrong_field() -> None:
    with pytest.raises(Invalid) as refused:
        await accounts.prepare(role="admin", name="", email="anna", password="short", zone="Mars", language="xx")
    assert {problem.pointer for problem in refused.value.problems} == {
        "/name",
        "/email",
        "/password",
        "/zone",
        "/language",
    }


async def test_racing_accounts_with_one_address(database: Database, vault: Vault, practice_id: str) -> None:
    async def create() -> str:
        try:
            return await add(database, vault, practice_id, new())
        except Conflict as conflict:
            return conflict.code

    results = await asyncio.gather(*(create() for _ in range(10)))
    assert results.count("email_taken") == 9
    async with database.read() as session:
        # a loser leaves nothing behind, not even the person
        assert (await session.execute(select(func.count()).select_from(Person))).scalar_one() == 1


async def test_disabling_ends_sessions_at_once(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    boris = await add(database, vault, practice_id, new("specialist", "boris"))
    async with database.write() as session:
        theirs = await login_sessions.start(session, boris, "full", NOW)
        mine = await login_sessions.start(session, anna, "full", NOW)
    async with database.write() as session:
        await accounts.disable_account(session, practice_id, boris, NOW)
    async with database.read() as session:
        assert await login_sessions.find(session, theirs.token, NOW) is None
        assert await login_sessions.find(session, mine.token, NOW) is not None
        assert await accounts.check_password(session, vault, "boris@example.org", PASSWORD) is None
        views = await accounts.list_accounts(session, vault, practice_id)
    assert [view.name for view in views] == ["Anna", "Boris"]
    assert views[1].disabled_at == NOW
    async with database.write() as session:
        await accounts.enable_account(session, practice_id, boris)
    async with database.read() as session:
        assert await accounts.check_password(session, vault, "boris@example.org", PASSWORD) is not None
        # the old session does not come back to life
        assert await login_sessions.find(session, theirs.token, NOW) is None


async def test_one_admin_always_stays(database: Database, vault: Vault, practice_id: str) -> None:
    ids = [await add(database, vault, practice_id, new(name=name)) for name in ("anna", "berta", "carl")]

    async def disable(person_id: str) -> str:
        try:
            async with database.write() as session:
                await accounts.disable_account(session, practice_id, person_id, NOW)
        except Conflict as conflict:
            return conflict.code
        return "disabled"

    results = await asyncio.gather(*(disable(person_id) for person_id in ids))
    assert sorted(results) == ["disabled", "disabled", "last_admin"]


async def test_another_practices_people_are_not_found(database: Database, vault: Vault, practice_id: str) -> None:
    person_id = await add(database, vault, practice_id, new())
    async with database.write() as session:
        other = Practice(id=new_id(), slug="other", name="Other", zone="UTC", created_at=NOW)
        session.add(other)
        await session.flush()
        for call in (
            accounts.get_account(session, vault, other.id, person_id),
            accounts.disable_account(session, other.id, person_id, NOW),
            accounts.enable_account(session, other.id, person_id),
            accounts.rename_person(session, vault, other.id, person_id, "Eve"),
            specialists.update_specialist(session, other.id, person_id, title="Eve"),
        ):
            with pytest.raises(NotFound):
                await call
        assert await accounts.list_accounts(session, vault, other.id) == []


@pytest.mark.parametrize("id", ["", "nobody", "\x00" * 32, "\ud800", "g" * 32, "a" * 33])
async def test_what_cannot_be_an_id_is_not_found(database: Database, vault: Vault, practice_id: str, id: str) -> None:
    async with database.write() as session:
        for call in (
            accounts.get_account(session, vault, practice_id, id),
            accounts.disable_account(session, practice_id, id, NOW),
            accounts.rename_person(session, vault, practice_id, id, "Eve"),
            specialists.update_specialist(session, practice_id, id, title="Eve"),
            api_tokens.revoke(session, practice_id, id, NOW),
            totp.reset(session, id),
        ):
            with pytest.raises(NotFound):
                await call


async def test_names_are_changed_and_found_in_bulk(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    boris = await add(database, vault, practice_id, new(name="boris"))
    async with database.write() as session:
        await accounts.rename_person(session, vault, practice_id, anna, "  Anna  Berg ")
        with pytest.raises(Invalid):
            await accounts.rename_person(session, vault, practice_id, anna, "")
    async with database.read() as session:
        assert await accounts.person_names(session, vault, [anna, boris, "nobody"]) == {
            anna: "Anna Berg",
            boris: "Boris",
        }


async def test_specialists_get_an_address_from_their_title(database: Database, vault: Vault, practice_id: str) -> None:
    slugs = []
    for number, (title, slug) in enumerate(
        (("Psychologist", None), ("Psychologist", None), ("Психолог", None), ("", "dr-who"))
    ):
        async with database.write() as session:
            specialist = await specialists.create_specialist(
                session,
                vault,
                practice_id=practice_id,
                new=new("specialist", f"person{number}"),
                title=title,
                slug=slug,
                now=NOW,
            )
            slugs.append(specialist.slug)
    assert slugs == ["psychologist", "psychologist-2", "specialist", "dr-who"]
    async with database.write() as session:
        with pytest.raises(Conflict, match="page address"):
            await specialists.create_specialist(
                session, vault, practice_id=practice_id, new=new("specialist", "late"), slug="dr-who", now=NOW
            )
    async with database.write() as session:
        changed = await specialists.update_specialist(
            session,
            practice_id,
            specialist.id,
            title="Doctor",
            about="Line\r\nline",
            zone="Europe/Riga",
            bookable=False,
        )
        assert (changed.slug, changed.about, changed.zone) == ("dr-who", "Line\nline", "Europe/Riga")
        with pytest.raises(Invalid) as refused:
            await specialists.update_specialist(
                session, practice_id, specialist.id, title="x" * 121, zone="Mars", slug="A B"
            )
        assert {problem.pointer for problem in refused.value.problems} == {"/title", "/zone", "/slug"}
    async with database.read() as session:
        assert len(await specialists.list_specialists(session, vault, practice_id)) == 4
        assert len(await specialists.list_specialists(session, vault, practice_id, bookable_only=True)) == 3


async def enrol(database: Database, vault: Vault, person_id: str, now: datetime = NOW) -> pyotp.TOTP:
    async with database.write() as session:
        enrolment = await totp.begin_enrolment(session, vault, person_id, label="anna@example.org", issuer="Linden: A")
    generator = pyotp.TOTP(enrolment.secret)
    async with database.write() as session:
        assert await totp.confirm_enrolment(session, vault, person_id, generator.at(now), now)
    return generator


async def test_enrolment(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    async with database.write() as session:
        first = await totp.begin_enrolment(session, vault, anna, label="anna@example.org", issuer="Linden")
    async with database.write() as session:
        # a reload of the page does not break the code that was scanned
        again = await totp.begin_enrolment(session, vault, anna, label="anna@example.org", issuer="Linden")
        assert again == first
        assert first.uri.startswith("otpauth://totp/Linden:anna%40example.org?secret=")
        assert len(first.secret) == 32
        code = pyotp.TOTP(first.secret).at(NOW)
        assert not await totp.verify(session, vault, anna, code, NOW)  # not confirmed yet
        assert not await totp.confirm_enrolment(session, vault, anna, "000000" if code != "000000" else "1", NOW)
        assert await totp.confirm_enrolment(session, vault, anna, f" {code[:3]} {code[3:]}", NOW)
    async with database.write() as session:
        with pytest.raises(Conflict):
            await totp.begin_enrolment(session, vault, anna, label="a", issuer="b")
        assert not await totp.verify(session, vault, anna, code, NOW)  # the enrolling code is used up
    async with database.read() as session:
        sealed = (await session.execute(select(Account.totp_secret_sealed))).scalar_one()
        assert first.secret.encode() not in (sealed or b"")
        assert (await accounts.get_account(session, vault, practice_id, anna)).totp_enrolled


async def test_drift_of_one_step_and_no_more(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    generator = await enrol(database, vault, anna, NOW - timedelta(days=1))
    for offset, good in ((-61, False), (-30, True), (0, True), (30, True), (61, False)):
        async with database.write() as session:
            code = generator.at(NOW + timedelta(seconds=offset))
            assert await totp.verify(session, vault, anna, code, NOW) == good, offset


async def test_a_code_is_good_once_in_a_race(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    generator = await enrol(database, vault, anna, NOW - timedelta(days=1))
    code = generator.at(NOW)

    async def attempt() -> bool:
        async with database.write() as session:
            return await totp.verify(session, vault, anna, code, NOW)

    results = await asyncio.gather(*(attempt() for _ in range(12)))
    assert results.count(True) == 1
    async with database.write() as session:
        # nor an older one after a newer one
        assert not await totp.verify(session, vault, anna, generator.at(NOW - timedelta(seconds=30)), NOW)


async def test_a_reset_asks_for_a_new_enrolment(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    old = await enrol(database, vault, anna)
    async with database.write() as session:
        await totp.reset(session, anna)
    async with database.write() as session:
        later = NOW + timedelta(minutes=5)
        assert not await totp.verify(session, vault, anna, old.at(later), later)
        enrolment = await totp.begin_enrolment(session, vault, anna, label="a", issuer="b")
        assert enrolment.secret != old.secret


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "12 34 5", "-"])
def test_what_is_no_code(code: str) -> None:
    assert totp.matching_step("JBSWY3DPEHPK3PXP", code, NOW) is None


async def test_sessions_rotate_with_each_step(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new("specialist"))
    async with database.write() as session:
        first = await login_sessions.start(session, anna, "password_ok", NOW)
    async with database.read() as session:
        current = await login_sessions.find(session, first.token, NOW)
        assert current is not None
        assert (current.stage, current.role, current.practice_id) == ("password_ok", "specialist", practice_id)
        ids = (await session.execute(select(LoginSession.id))).scalars().all()
        assert all(first.token.encode() not in found for found in ids)

    async def promote() -> login_sessions.Started | None:
        async with database.write() as session:
            return await login_sessions.promote(session, first.token, NOW)

    started = [result for result in await asyncio.gather(*(promote() for _ in range(4))) if result is not None]
    assert len(started) == 1
    (second,) = started
    assert second.token != first.token
    assert second.csrf_token != first.csrf_token
    async with database.read() as session:
        assert await login_sessions.find(session, first.token, NOW) is None
        full = await login_sessions.find(session, second.token, NOW)
        assert full is not None
        assert full.stage == "full"
        assert (await accounts.get_account(session, vault, practice_id, anna)).last_login_at == NOW


async def test_sessions_run_out(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    async with database.write() as session:
        half = await login_sessions.start(session, anna, "password_ok", NOW)
        full = await login_sessions.start(session, anna, "full", NOW)
    hour = timedelta(hours=1)
    async with database.write() as session:
        assert await login_sessions.find(session, half.token, NOW + timedelta(minutes=14)) is not None
        assert await login_sessions.find(session, half.token, NOW + timedelta(minutes=15)) is None
        assert await login_sessions.find(session, full.token, NOW + 12 * hour) is None  # idle
    # in use every few hours it lives a week and no longer
    moment = NOW
    while moment < NOW + timedelta(days=7) - 8 * hour:
        moment += 8 * hour
        async with database.write() as session:
            current = await login_sessions.find(session, full.token, moment)
            assert current is not None
            assert current.needs_touch(moment)
            await login_sessions.touch(session, full.token, moment)
    async with database.write() as session:
        assert await login_sessions.find(session, full.token, NOW + timedelta(days=7)) is None
        assert await login_sessions.sweep(session, NOW + timedelta(days=7)) == 2


async def test_a_new_password_ends_the_other_sessions(database: Database, vault: Vault, practice_id: str) -> None:
    anna = await add(database, vault, practice_id, new())
    async with database.write() as session:
        tokens = [(await login_sessions.start(session, anna, "full", NOW)).token for _ in range(3)]
    async with database.write() as session:
        await accounts.change_password(session, anna, CHEAP_HASH, keep_token=tokens[0])
    async with database.write() as session:
        alive = [await login_sessions.find(session, token, NOW) is not None for token in tokens]
        assert alive == [True, False, False]
        await login_sessions.end(session, tokens[0])
        await login_sessions.end(session, "unknown")
        assert await login_sessions.find(session, tokens[0], NOW) is None


async def test_api_tokens(database: Database, practice_id: str) -> None:
    async with database.write() as session:
        token, plaintext = await api_tokens.create(session, practice_id, "  Website ", NOW)
        assert token.label == "Website"
        with pytest.raises(Invalid):
            await api_tokens.create(session, practice_id, " ", NOW)
    assert plaintext.startswith("consult_")
    async with database.write() as session:
        found = await api_tokens.verify(session, plaintext, NOW)
        assert found is not None
        assert found.practice_id == practice_id
        assert api_tokens.needs_touch(found, NOW)
        await api_tokens.touch(session, found.id, NOW)
        for wrong in ("", "consult_", plaintext[:-1], plaintext.removeprefix("consult_"), "consult_\udc80"):
            assert await api_tokens.verify(session, wrong, NOW) is None
        with pytest.raises(NotFound):
            await api_tokens.revoke(session, "another", token.id, NOW)
    async with database.write() as session:
        row = await session.get_one(ApiToken, token.id)
        assert not api_tokens.needs_touch(row, NOW + timedelta(seconds=59))
        await api_tokens.revoke(session, practice_id, token.id, NOW)
    async with database.read() as session:
        assert await api_tokens.verify(session, plaintext, NOW) is None
        assert [entry.revoked_at for entry in await api_tokens.list_tokens(session, practice_id)] == [NOW]
        stored = (await session.execute(text("SELECT * FROM api_token"))).mappings().one()
        assert plaintext not in str(dict(stored))


def test_repr_of_people_shows_nothing_personal() -> None:
    wanted = dataclasses.replace(new(), name="Secret Name", email="secret@example.org")
    assert "ecret" not in repr(wanted)
    assert "argon2" not in repr(wanted)
