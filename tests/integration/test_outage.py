"""A database that goes away: 503 with Retry-After, and by itself back."""

from __future__ import annotations

from pathlib import Path

from migrations import upgrade_async
from tests import servers
from tests.site import open_site


async def test_without_its_database_the_site_says_so(tmp_path: Path) -> None:
    with servers.postgres() as url:
        database_url = f"{url}/postgres".replace("postgresql://", "postgresql+asyncpg://")
        await upgrade_async(database_url)
        context = open_site(database_url, tmp_path)
        site = await context.__aenter__()
        client = await site.client()
        assert (await client.get("/readyz")).status == 200
        assert (await client.get("/api/v1/services")).status == 200
    try:
        for path in ("/", "/api/v1/services"):
            answer = await client.get(path)
            assert answer.status == 503, path
            assert int(answer.headers["Retry-After"]) > 0
        assert (await client.get("/api/v1/services")).content_type == "application/problem+json"
        ready = await client.get("/readyz")
        assert (ready.status, (await ready.json())["checks"]["database"]) == (503, False)
        # media does not need the database
        assert (await client.get("/healthz")).status == 200
    finally:
        await context.__aexit__(None, None, None)
