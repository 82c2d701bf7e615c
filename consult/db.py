"""Engine, sessions, and column types. One `Database` per process.

`Database.write()` is a transaction that may change things: on SQLite it begins IMMEDIATE, so the writers queue and a
re-check inside it is final; on PostgreSQL it is READ COMMITTED and constraints decide. `Database.read()` never commits.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, MetaData, String, event
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

ID_LENGTH = 32
_HEX = frozenset("0123456789abcdef")


def new_id() -> str:
    """128 random bits as 32 hex digits: not guessable, not countable."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether this can be an id at all: what comes from a URL is asked first, as PostgreSQL refuses some text."""
    return len(text) == ID_LENGTH and set(text) <= _HEX


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC both ways. PostgreSQL keeps timestamptz; SQLite keeps naive UTC text. Naive values are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), str: String()}


class Database:
    """Owns the engine. `url` is a SQLAlchemy async URL (sqlite+aiosqlite:// or postgresql+asyncpg://)."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite lets waiting writers poll, and an unlucky one polls until it gives up: here they queue
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if self.is_sqlite else nullcontext()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction: commits at the end of the block, rolls back on any exception. Never one inside another."""
        async with self._turn, AsyncSession(self.engine, expire_on_commit=False) as session:
            if self.is_sqlite:
                await session.connection(execution_options={"sqlite_begin": "IMMEDIATE"})
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            try:
                yield session
            finally:
                # a rollback expires every row in the session: let go of them first, so that callers may keep them
                session.expunge_all()
                await session.rollback()

    async def close(self) -> None:
        await self.engine.dispose()


def create_engine(url: str) -> AsyncEngine:
    """An engine with the settings each database needs (SQLite: WAL, foreign keys, own BEGIN, 10 s busy wait)."""
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_size=10, max_overflow=10, pool_pre_ping=True)
    engine = create_async_engine(url, connect_args={"timeout": 10})

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(dbapi_connection: Any, _record: Any) -> None:
        # The driver must not begin by itself: BEGIN IMMEDIATE is ours to send (SQLAlchemy docs, pysqlite).
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        # synchronous=FULL: a confirmed booking also survives a power cut, before its mail leaves
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine
