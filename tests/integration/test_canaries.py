"""Personal data is nowhere in the clear: not in the database's files, not in its write-ahead log, not in our logs."""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import text

from consult.db import Database
from consult.record import notes
from consult.record.log import KeptLine, SessionLog
from tests.consult_processes import serve_demo
from tests.integration.practice import NOW, open_practice

FIELDS = ("name", "email", "reason", "note", "chat")


@pytest.fixture
def canaries() -> dict[str, str]:
    return {field: f"{field}{secrets.token_hex(12)}" for field in FIELDS}


def forms_of(canary: str) -> Iterator[bytes]:
    """The value as it could lie around: as text, in UTF-16, in hex, in base64 at each of the three alignments."""
    plain = canary.encode()
    yield plain
    yield canary.encode("utf-16-le")
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for shift in range(3):
        # the first and last characters depend on the neighbours
        yield base64.b64encode(b"\0" * shift + plain)[4:-4]


def found(canary: str, content: bytes) -> bool:
    folded = content.lower()
    return any(form in content for form in forms_of(canary)) or canary.encode().lower() in folded


async def files_of(database: Database) -> list[Path]:
    """Every file the database keeps its data in, written out."""
    if database.is_sqlite:
        path = Path(database.engine.url.database or "")
        return [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("CHECKPOINT"))
        folder = Path((await connection.execute(text("SHOW data_directory"))).scalar_one())
        number = (
            await connection.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
        ).scalar_one()
    return [
        file for part in (folder / "base" / str(number), folder / "pg_wal") for file in part.iterdir() if file.is_file()
    ]


async def test_canaries(database: Database, canaries: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="sqlalchemy.engine")
    control = f"control{secrets.token_hex(12)}"
    practice = await open_practice(database, service=control)
    booked = await practice.book(
        NOW + timedelta(hours=1),
        name=canaries["name"],
        email=f"{canaries['email']}@example.net",
        reason=canaries["reason"],
    )
    seats = await practice.seats(booked.consultation_id)
    async with SessionLog(database, practice.vault) as log:
        await log.event(booked.consultation_id, seats["client"], NOW, "joined")
        line = KeptLine("line-1", seats["client"], canaries["name"], canaries["chat"], NOW)
        assert await log.chat(booked.consultation_id, line, NOW)
        kept = await log.chat_history(booked.consultation_id)
    async with database.write() as session:
        await notes.create_note(
            session,
            practice.vault,
            consultation_id=booked.consultation_id,
            specialist_id=practice.specialist_id,
            text=canaries["note"],
            now=NOW,
        )
    # it is all there for those who may read it
    assert (kept[0].name, kept[0].text) == (canaries["name"], canaries["chat"])

    files = await files_of(database)
    contents = {file.name: file.read_bytes() for file in files}
    if database.is_sqlite:
        assert any(name.endswith("-wal") and content for name, content in contents.items())
    else:
        assert any(len(content) >= 2**20 for content in contents.values())
    # the search sees what is in the clear, in tables and in the log of writes
    assert sum(found(control, content) for content in contents.values()) >= 1
    log_text = caplog.text.encode()
    assert b"INSERT INTO" in log_text, "the most talkative log was captured"

    everywhere = {**contents, "log": log_text}
    hits = [
        (field, name)
        for field, canary in canaries.items()
        for name, content in everywhere.items()
        if found(canary, content)
    ]
    assert hits == []


def ask(base_url: str, path: str, body: object = None, *, form: dict[str, str] | None = None) -> tuple[int, bytes]:
    """(status, body) of a GET, of a POST of JSON, or of a form of our own pages."""
    headers = {"Origin": base_url}
    data = None
    if form is not None:
        data = urlencode(form).encode()
    elif body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        with urlopen(Request(base_url + path, data=data, headers=headers), timeout=30) as response:
            return response.status, response.read()
    except HTTPError as error:
        return error.code, error.read()


def test_a_running_server_keeps_them_to_itself(tmp_path: Path, canaries: dict[str, str]) -> None:
    """What people type and send, also into the wrong place, reaches neither the log nor the files in the clear. (The
    mails of a server without SMTP are files, and are meant to be read.)"""
    email = f"{canaries['email']}@example.net"
    with serve_demo(tmp_path) as served:
        url = served.base_url
        service = served.demo["services"][0]
        day = datetime.now(UTC).date()
        query = {"service": service["id"], "from": str(day), "to": str(day + timedelta(days=20)), "zone": "UTC"}
        status, body = ask(url, f"/api/v1/slots?{urlencode(query)}")
        assert status == 200
        slot = json.loads(body)["slots"][-1]
        wish = {
            "service": service["id"],
            "specialist": slot["specialist"],
            "start": slot["start"],
            "zone": "UTC",
            "client": {"name": canaries["name"], "email": email},
            "answers": {"reason": canaries["reason"]},
            "consent": True,
        }
        assert ask(url, "/api/v1/bookings", wish)[0] == 201
        assert ask(url, "/api/v1/bookings", wish)[0] == 409
        assert ask(url, "/api/v1/bookings", {**wish, "zone": canaries["note"]})[0] == 422
        assert ask(url, "/api/v1/bookings", {**wish, canaries["chat"]: 1})[0] == 422
        assert ask(url, "/account/sign-in", form={"email": email, "password": canaries["note"]})[0] in (403, 422)
        assert ask(url, f"/{canaries['name']}?email={email}")[0] == 404
        assert ask(url, f"/book/{canaries['name']}/{canaries['chat']}?name={canaries['name']}")[0] == 404
        ticket = {"token": f"{canaries['note']}.{canaries['chat']}"}
        assert ask(url, f"/join/{served.demo['consultation']['id']}/ticket", ticket)[0] in (401, 403, 404)
    contents = {file.name: file.read_bytes() for file in served.data_dir.iterdir() if file.is_file()}
    log = served.log.read_bytes()
    assert found("First consultation", contents["consult.sqlite3"])
    assert log.count(b"/api/v1/bookings") >= 4, "requests are logged by route"
    hits = [
        (field, name)
        for field, canary in canaries.items()
        for name, content in {**contents, "log": log}.items()
        if found(canary, content)
    ]
    assert hits == []


def test_the_search_finds_every_form() -> None:
    canary = "name0123456789abcdef01234567"
    for form in forms_of(canary):
        assert found(canary, b"\x00page" + form + b"more")
    assert found(canary, base64.b64encode(b"some text " + canary.encode() + b" and more"))
    assert found(canary, canary.upper().encode())
    assert not found(canary, b"name0123456789abcdef0123456X")
