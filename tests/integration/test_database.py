"""Transactions: writers take turns, a failed one leaves nothing, times are aware."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import StatementError

from consult.db import Database, new_id
from consult.people.models import Practice

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


def practice(slug: str, created_at: datetime = NOW) -> Practice:
    return Practice(id=new_id(), slug=slug, name="A", zone="UTC", language="en", created_at=created_at)


async def test_many_writers_all_get_their_turn(database: Database) -> None:
    """Each reads what the ones before wrote: on SQLite a read inside the transaction is final."""
    async with database.write() as session:
        session.add(practice("counter"))

    async def add_one() -> None:
        async with database.write() as session:
            row = (await session.execute(select(Practice).with_for_update())).scalar_one()
            await asyncio.sleep(0)
            row.name = "A" * (len(row.name) + 1)

    await asyncio.gather(*(add_one() for _ in range(150)))
    async with database.read() as session:
        assert len((await session.execute(select(Practice.name))).scalar_one()) == 151


async def test_two_processes_share_a_database(database: Database, database_url: str) -> None:
    """Another process is another `Database`: its writers wait too."""
    other = Database(database_url)

    async def add(where: Database, number: int) -> None:
        async with where.write() as session:
            session.add(practice(f"p{number}"))

    await asyncio.gather(*(add(database if number % 2 else other, number) for number in range(60)))
    await other.close()
    async with database.read() as session:
        assert (await session.execute(select(func.count()).select_from(Practice))).scalar_one() == 60


async def test_a_failed_block_leaves_nothing_and_lets_the_next_one_in(database: Database) -> None:
    async def fail_with(error: type[BaseException]) -> None:
        async with database.write() as session:
            session.add(practice("gone"))
            await session.flush()
            raise error

    for error in (ValueError, asyncio.CancelledError):
        with pytest.raises(error):
            await fail_with(error)
    async with asyncio.timeout(10), database.write() as session:
        session.add(practice("kept"))
    async with database.read() as session:
        assert (await session.execute(select(Practice.slug))).scalars().all() == ["kept"]


async def test_times_come_back_aware_and_equal(database: Database) -> None:
    moment = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    async with database.write() as session:
        session.add(practice("zoned", moment))
    async with database.read() as session:
        found = (await session.execute(select(Practice.created_at))).scalar_one()
        assert found == moment
        assert found.tzinfo is UTC
        assert (await session.execute(select(Practice.slug).where(Practice.created_at == moment))).scalars().all()
    with pytest.raises(StatementError, match="without a zone"):
        async with database.write() as session:
            session.add(practice("naive", moment.replace(tzinfo=None)))


async def test_rows_outlive_their_session(database: Database) -> None:
    async with database.write() as session:
        session.add(practice("kept"))
    async with database.read() as session:
        row = (await session.execute(select(Practice))).scalar_one()
    assert row.slug == "kept"
