"""Personal data is nowhere in the clear: not in the database's files, not in its write-ahead log, not in our logs."""

from __future__ import annotations

import base64
import logging
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from consult.db import Database
from consult.record import notes
from consult.record.log import KeptLine, SessionLog
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


def test_the_search_finds_every_form() -> None:
    canary = "name0123456789abcdef01234567"
    for form in forms_of(canary):
        assert found(canary, b"\x00page" + form + b"more")
    assert found(canary, base64.b64encode(b"some text " + canary.encode() + b" and more"))
    assert found(canary, canary.upper().encode())
    assert not found(canary, b"name0123456789abcdef0123456X")
