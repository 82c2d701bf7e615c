"""A small practice for tests: one specialist with hours around the clock, one service, and bookings on demand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import availability, bookings, services
from consult.booking.bookings import Booked
from consult.booking.models import Participant
from consult.booking.requests import BookingRequest
from consult.booking.services import ServiceForm
from consult.db import Database
from consult.people import accounts, specialists
from consult.people.accounts import NewAccount
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault
from consult.record.queries import Scope

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
# as cheap as argon2 gets: these tests are not about hashing
CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("vier Worte im Regen")


@dataclass(frozen=True)
class SmallPractice:
    database: Database
    vault: Vault
    id: str
    specialist_id: str
    service_id: str

    @property
    def scope(self) -> Scope:
        return Scope(self.id)

    async def add_specialist(self, name: str) -> str:
        """Another specialist of the practice, without hours."""
        async with self.database.write() as session:
            return await _specialist(session, self.vault, self.id, name)

    async def book(
        self,
        start: datetime,
        *,
        name: str = "Clara Jensen",
        email: str = "clara@example.net",
        reason: str = "A question",
        now: datetime = NOW,
    ) -> Booked:
        """Book the 30 minutes at `start` (a full half hour after now)."""
        request = BookingRequest(
            practice_id=self.id,
            service=self.service_id,
            specialist=self.specialist_id,
            start=start,
            zone="Europe/Riga",
            name=name,
            email=email,
            answers={"reason": reason},
            consent=True,
        )
        async with self.database.write() as session:
            return await bookings.book(session, self.vault, request, now)

    async def seats(self, consultation_id: str) -> dict[str, str]:
        """Participant id by role."""
        async with self.database.read() as session:
            statement = select(Participant.role, Participant.id).where(Participant.consultation_id == consultation_id)
            return {role: seat for role, seat in (await session.execute(statement)).all()}


async def open_practice(database: Database, *, service: str = "Consultation") -> SmallPractice:
    vault = Vault(Keys.generate())
    async with database.write() as session:
        practice = await accounts.ensure_practice(session, NOW)
        specialist_id = await _specialist(session, vault, practice.id, "Hanna Lindqvist")
        await availability.set_weekly_hours(session, practice.id, specialist_id, [[(0, 1440)]] * 7)
        form = ServiceForm(name=service, duration_minutes=30, minimum_notice_minutes=0, specialist_ids=[specialist_id])
        made = await services.create_service(session, practice.id, form, NOW - timedelta(days=1))
    return SmallPractice(database, vault, practice.id, specialist_id, made.id)


async def _specialist(session: AsyncSession, vault: Vault, practice_id: str, name: str) -> str:
    email = f"{name.replace(' ', '.').lower()}@staff.example"
    new = NewAccount("specialist", name, email, CHEAP_HASH, "UTC", "en")
    made = await specialists.create_specialist(
        session, vault, practice_id=practice_id, new=new, title="Doctor", now=NOW
    )
    return made.id
