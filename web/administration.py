"""What the command line does to the database."""

from __future__ import annotations

from consult.people import accounts
from consult.settings import Settings
from web.app import utc_now
from web.serving import ground


async def create_admin(settings: Settings, *, email: str, name: str, password: str) -> None:
    """An administrator of the default practice; migrates an embedded database first. Raises Invalid, Conflict."""
    embedded = settings.database_url.startswith("sqlite")
    async with ground(settings, migrate=embedded) as base:
        new = await accounts.prepare(
            role="admin",
            name=name,
            email=email,
            password=password,
            zone=base.practice.zone,
            language=base.practice.language,
        )
        async with base.database.write() as session:
            await accounts.create_account(session, base.vault, practice_id=base.practice.id, new=new, now=utc_now())
