"""The schema's history. `upgrade(url)` brings a database to the newest revision; any number of processes may call it.

New revision: change the models, then `alembic -c migrations/alembic.ini revision --autogenerate -m "what changes"` with
CONSULT_DATABASE_URL set to a migrated PostgreSQL database, and read what it wrote.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from consult.db import create_engine

# any number that nothing else in the database uses
ADVISORY_LOCK = 7_236_481_905_512


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate and return when done. Blocks, and works whether or not the calling thread runs an event loop.

    Raises consult.errors.SettingsError when PostgreSQL lacks the btree_gist extension and may not create it, else
    what the driver raises.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="migrate") as executor:
        executor.submit(asyncio.run, upgrade_async(url, revision)).result()


async def upgrade_async(url: str, revision: str = "head") -> None:
    """As `upgrade`, for callers that can await."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            is_sqlite = engine.dialect.name == "sqlite"
            if is_sqlite:
                # a second starter waits here, then finds the work done
                connection = await connection.execution_options(sqlite_begin="IMMEDIATE")
            async with connection.begin():
                if not is_sqlite:
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
                await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


async def current_revision(url: str) -> tuple[str | None, str]:
    """(revision of the database or None, newest revision): equal when nothing is to be done."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    finally:
        await engine.dispose()
    newest = ScriptDirectory.from_config(config()).get_current_head()
    assert newest is not None, "there is at least one revision"
    return found, newest


def config() -> Config:
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    result.set_main_option("path_separator", "os")
    return result


def _engine(url: str) -> AsyncEngine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def on_connect(dbapi_connection: Any, _record: Any) -> None:
            # SQLite changes a table by copying it: with foreign keys on, dropping the old one would cascade
            cursor = dbapi_connection.cursor()
            cursor.execute("PRAGMA foreign_keys=OFF")
            cursor.close()

    return engine


def _upgrade(connection: Connection, revision: str) -> None:
    configuration = config()
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise RuntimeError(f"the migration leaves {len(broken)} rows without their parents; nothing was changed")
