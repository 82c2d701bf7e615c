"""The migrations make exactly the schema of the models, on both databases, from nothing, by any number of starters."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, String, inspect, text
from sqlalchemy.exc import IntegrityError

import migrations
from consult.db import Database, create_engine, new_id
from consult.errors import SettingsError
from consult.models import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite3'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def differences(connection: Connection, models: MetaData) -> list[Any]:
    options = {"compare_type": True, "compare_server_default": True}
    changes: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), models)
    return changes


async def test_models_and_schema_are_the_same(empty_url: str) -> None:
    await migrations.upgrade_async(empty_url)
    engine = create_engine(empty_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences, metadata) == []
        # the comparison sees what it should: a column that only the models have is reported
        altered = MetaData()
        for table in metadata.sorted_tables:
            table.to_metadata(altered)
        altered.tables["person"].append_column(Column("extra", String(4)))
        assert [change[0] for change in await connection.run_sync(differences, altered)] == ["add_column"]
    await engine.dispose()


async def test_check_constraints_are_there(empty_url: str) -> None:
    await migrations.upgrade_async(empty_url)
    engine = create_engine(empty_url)

    def checks(connection: Connection) -> set[str]:
        inspector = inspect(connection)
        return {str(check["name"]) for table in metadata.tables for check in inspector.get_check_constraints(table)}

    wanted = {
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if type(constraint).__name__ == "CheckConstraint"
    }
    async with engine.connect() as connection:
        found = await connection.run_sync(checks)
    await engine.dispose()
    assert wanted
    assert {str(name) for name in wanted} == found


async def test_upgrade_again_changes_nothing(empty_url: str) -> None:
    await migrations.upgrade_async(empty_url)
    database = Database(empty_url)
    practice = new_id()
    async with database.write() as session:
        await session.execute(
            text(
                "INSERT INTO practice (id, slug, name, zone, language, created_at) "
                "VALUES (:id, 'kept', 'Kept', 'UTC', 'en', '2026-01-01 00:00:00.000000')"
            ),
            {"id": practice},
        )
    migrations.upgrade(empty_url)  # also from inside a running loop
    async with database.read() as session:
        assert (await session.execute(text("SELECT id FROM practice"))).scalars().all() == [practice]
    await database.close()
    found, newest = await migrations.current_revision(empty_url)
    assert found == newest


async def test_down_to_nothing_and_up_again(empty_url: str) -> None:
    await migrations.upgrade_async(empty_url)
    engine = create_engine(empty_url)

    def downgrade(connection: Connection) -> set[str]:
        configuration = migrations.config()
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "base")
        return set(inspect(connection).get_table_names())

    async with engine.begin() as connection:
        assert await connection.run_sync(downgrade) == {"alembic_version"}
    await engine.dispose()
    await migrations.upgrade_async(empty_url)
    found, newest = await migrations.current_revision(empty_url)
    assert found == newest


async def test_four_starters_at_once(empty_url: str) -> None:
    await asyncio.gather(*(migrations.upgrade_async(empty_url) for _ in range(4)))
    found, newest = await migrations.current_revision(empty_url)
    assert found == newest


async def test_current_revision_of_an_empty_database(empty_url: str) -> None:
    found, newest = await migrations.current_revision(empty_url)
    assert found is None
    assert newest


async def test_postgresql_refuses_overlapping_bookings(postgres_url: str) -> None:
    await migrations.upgrade_async(postgres_url)
    database = Database(postgres_url)
    async with database.write() as session:
        await session.execute(text("SET session_replication_role = replica"))  # rows without their parents
        insert = text(
            "INSERT INTO booking (id, practice_id, service_id, specialist_id, status, starts_at, ends_at, blocks_from,"
            " blocks_until, zone, language, sequence, created_at, changed_at) VALUES (:id, 'p', 's', :who, :status,"
            " '2026-01-01 10:00+00', '2026-01-01 11:00+00', CAST(:begin AS timestamptz), CAST(:until AS timestamptz),"
            " 'UTC', 'en', 0, now(), now())"
        )

        def row(who: str, status: str, begin: str, until: str) -> dict[str, object]:
            day = "2026-01-01T{}+00:00"
            return {
                "id": new_id(),
                "who": who,
                "status": status,
                "begin": datetime.fromisoformat(day.format(begin)),
                "until": datetime.fromisoformat(day.format(until)),
            }

        await session.execute(insert, row("a", "confirmed", "10:00", "11:00"))
        await session.execute(insert, row("a", "confirmed", "11:00", "12:00"))  # touching is fine
        await session.execute(insert, row("b", "confirmed", "10:00", "11:00"))  # another specialist
        await session.execute(insert, row("a", "cancelled", "10:00", "11:00"))  # does not occupy the time
        for status in ("held", "pending", "confirmed"):
            with pytest.raises(IntegrityError, match="ex_booking_no_overlap"):
                async with session.begin_nested():
                    await session.execute(insert, row("a", status, "10:30", "10:45"))
    await database.close()


async def test_missing_right_to_create_the_extension_is_explained(postgres_url: str) -> None:
    address = postgres_url.replace("postgresql+asyncpg://", "postgresql://")
    role = f"r{new_id()}"
    connection = await asyncpg.connect(address)
    try:
        # may use the schema, but does not own the database and may not create extensions in it
        await connection.execute(f"CREATE ROLE {role} LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO {role}")
        limited = postgres_url.replace("postgres@", f"{role}@")
        assert limited != postgres_url
        with pytest.raises(SettingsError, match="btree_gist") as refused:
            await migrations.upgrade_async(limited)
        assert refused.value.variable == "CONSULT_DATABASE_URL"
        assert await migrations.current_revision(limited) == (None, "0001")
        await connection.execute("CREATE EXTENSION btree_gist")
        await migrations.upgrade_async(limited)
    finally:
        await connection.execute(f'REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE "{role}"')
        await connection.close()
