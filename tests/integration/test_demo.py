"""The demo: log-ins that work, a consultation that can be entered, a past worth looking at."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from sqlalchemy import func, select

from consult import demo
from consult.booking import admission
from consult.booking.models import Booking
from consult.db import Database
from consult.people import accounts, api_tokens, totp
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault
from consult.record import queries
from consult.record.queries import Scope, SessionFilter
from consult.settings import Settings

# a Saturday evening: no working hours anywhere near
NOW = datetime(2026, 3, 28, 21, 47, 31, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({}, data_dir=tmp_path / "data", port=8099)


@pytest.fixture
def vault() -> Vault:
    return Vault(Keys.generate())


async def test_everything_of_the_document_works(database: Database, vault: Vault, settings: Settings) -> None:
    document = await demo.fill(database, vault, settings, NOW)
    path = settings.data_dir / "demo.json"
    assert json.loads(path.read_text()) == document
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert document["base_url"] == "http://localhost:8099"
    assert set(document) == {"base_url", "admin", "specialists", "services", "consultation", "api_token"}
    people = [document["admin"], *document["specialists"]]
    assert len(people) == 3
    async with database.write() as session:
        for person in people:
            check = await accounts.check_password(session, vault, person["email"], person["password"])
            assert check is not None
            assert check.totp_enrolled
            code = pyotp.TOTP(person["totp_secret"]).at(NOW)
            assert await totp.verify(session, vault, check.person_id, code, NOW)
        assert await api_tokens.verify(session, document["api_token"], NOW) is not None
    ids = {specialist["id"] for specialist in document["specialists"]}
    assert document["services"]
    for service in document["services"]:
        assert service["duration_minutes"] > 0
        assert service["specialists"]
        assert set(service["specialists"]) <= ids


async def test_the_consultation_starts_now_and_both_links_open_it(
    database: Database, vault: Vault, settings: Settings
) -> None:
    document = await demo.fill(database, vault, settings, NOW)
    consultation = document["consultation"]
    async with database.write() as session:
        for role in ("specialist", "client"):
            url, _, token = consultation[f"{role}_join_url"].partition("#")
            assert url == f"http://localhost:8099/join/{consultation['id']}"
            ticket = await admission.issue_ticket(session, vault, consultation["id"], token, NOW)
            assert ticket.seat.role == role
        preview = await admission.join_preview(session, vault, consultation["id"], NOW)
        assert preview.phase == "open"
        assert preview.start is not None
        assert NOW - timedelta(minutes=1) < preview.start <= NOW


async def test_the_log_has_a_past_with_good_and_bad_sessions(
    database: Database, vault: Vault, settings: Settings
) -> None:
    await demo.fill(database, vault, settings, NOW)
    async with database.read() as session:
        practice = await accounts.find_practice(session, "default")
        assert practice is not None
        scope = Scope(practice.id)
        page = await queries.list_sessions(session, vault, scope, SessionFilter(), NOW)
        assert {row.verdict for row in page.rows if row.status == "ended"} == {"good", "non_optimal", "poor"}
        assert {row.status for row in page.rows} == {"open", "ended", "missed", "cancelled"}
        upcoming = await queries.list_sessions(session, vault, scope, SessionFilter(status="upcoming"), NOW)
        assert len(upcoming.rows) == 4
        ended = next(row for row in page.rows if row.status == "ended")
        detail = await queries.get_session(session, vault, scope, ended.id, NOW)
        assert {participant.role for participant in detail.participants} == {"specialist", "client"}
        assert all(participant.seconds > 600 and participant.streams for participant in detail.participants)


async def test_again_keeps_the_log_ins_and_renews_what_is_over(
    database: Database, vault: Vault, settings: Settings
) -> None:
    first = await demo.fill(database, vault, settings, NOW)
    soon = await demo.fill(database, vault, settings, NOW + timedelta(minutes=30))
    assert soon == first
    later = await demo.fill(database, vault, settings, NOW + timedelta(days=1))
    assert later["consultation"]["id"] != first["consultation"]["id"]
    assert {key: value for key, value in later.items() if key != "consultation"} == {
        key: value for key, value in first.items() if key != "consultation"
    }
    async with database.write() as session:
        await admission.finished(session, later["consultation"]["id"], NOW + timedelta(days=1, minutes=5))
    # at once: the old appointment's time is still taken on the calendar, the new one can be entered all the same
    again = await demo.fill(database, vault, settings, NOW + timedelta(days=1, minutes=6))
    assert again["consultation"]["id"] not in (first["consultation"]["id"], later["consultation"]["id"])
    async with database.read() as session:
        clients = (await session.execute(select(func.count(Booking.client_id.distinct())))).scalar_one()
    assert clients == 4


async def test_real_data_is_left_alone(database: Database, vault: Vault, settings: Settings) -> None:
    async with database.write() as session:
        practice = await accounts.ensure_practice(session, NOW)
        new = await accounts.prepare(
            role="admin",
            name="Real Person",
            email="real@example.org",
            password="a quiet afternoon by the lake",
            zone="UTC",
            language="en",
        )
        await accounts.create_account(session, vault, practice_id=practice.id, new=new, now=NOW)
    with pytest.raises(demo.NotEmpty):
        await demo.fill(database, vault, settings, NOW)
    # a demo.json of some other database does not change that
    settings.data_dir.mkdir()
    (settings.data_dir / "demo.json").write_text(
        json.dumps({"admin": {"email": "other@example.org"}, "consultation": {"id": "0" * 32}})
    )
    with pytest.raises(demo.NotEmpty):
        await demo.fill(database, vault, settings, NOW)
    async with database.read() as session:
        assert await accounts.count_accounts(session) == 1
