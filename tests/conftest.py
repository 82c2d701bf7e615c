"""Shared fixtures: real databases, real Redis, a real SMTP sink. A missing server is an error, never a skip."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from consult.db import Database, new_id
from migrations import upgrade
from tests import servers

TEMPLATE_DATABASE = "consult_template"
Result = TypeVar("Result")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """postgresql://postgres@127.0.0.1:PORT of a cluster that lives for the whole run."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    with servers.redis_server() as url:
        yield url


@pytest.fixture
async def redis_url(redis_server_url: str) -> str:
    """An empty Redis."""
    from redis.asyncio import Redis

    async with Redis.from_url(redis_server_url) as client:
        await client.flushall()
    return redis_server_url


def _apart(work: Callable[[], Result]) -> Result:
    """Run blocking set-up in a thread of its own: fixtures may be asked for while an event loop runs."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()


def _execute(server: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(f"{server}/postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    _apart(lambda: asyncio.run(run()))


@contextmanager
def _postgres_database(server: str, template: str) -> Iterator[str]:
    name = f"t{new_id()}"
    _execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield f"{server}/{name}".replace("postgresql://", "postgresql+asyncpg://")
    _execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """postgresql+asyncpg:// URL of an empty database of its own (no tables)."""
    with _postgres_database(postgres_server, "template0") as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    _apart(lambda: upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a migrated PostgreSQL database to copy."""
    _execute(postgres_server, f'CREATE DATABASE "{TEMPLATE_DATABASE}" TEMPLATE "template0"')
    url = f"{postgres_server}/{TEMPLATE_DATABASE}".replace("postgresql://", "postgresql+asyncpg://")
    _apart(lambda: upgrade(url))
    return TEMPLATE_DATABASE


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of its own, once on SQLite and once on PostgreSQL."""
    if database_kind == "sqlite":
        path = tmp_path / "consult.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    template: str = request.getfixturevalue("postgres_template")
    server: str = request.getfixturevalue("postgres_server")
    with _postgres_database(server, template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


class SmtpSink:
    """Accepts every mail. `messages` in order of arrival; `port` to send to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[Message] = []
        self.recipients: list[list[str]] = []

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self.messages.append(message_from_bytes(content))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 kept"


@pytest.fixture
def smtp_sink() -> Iterator[SmtpSink]:
    sink = SmtpSink(servers.free_port())
    controller = Controller(sink, hostname="127.0.0.1", port=sink.port)
    controller.start()
    yield sink
    controller.stop()
