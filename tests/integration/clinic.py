"""A small practice for booking tests: Berlin, two specialists open on weekdays 09:00 to 17:00, one service."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from consult.booking import availability, services
from consult.booking.requests import BookingRequest
from consult.db import Database
from consult.people import accounts, specialists
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault

# a Monday, 08:00 in Berlin; two weeks before the clocks change
NOW = datetime(2026, 3, 16, 7, tzinfo=UTC)
# the Tuesday after, 09:00 in Berlin
TUESDAY_9 = datetime(2026, 3, 17, 8, tzinfo=UTC)
OFFICE = ((9 * 60, 17 * 60),)


@dataclass(frozen=True)
class Clinic:
    database: Database
    vault: Vault
    practice_id: str
    service_id: str
    specialist_ids: tuple[str, ...]

    def wish(self, start: datetime = TUESDAY_9, number: int = 0, **changes: object) -> BookingRequest:
        """A good request of client `number` with the first specialist."""
        request = BookingRequest(
            practice_id=self.practice_id,
            service=self.service_id,
            specialist=self.specialist_ids[0],
            start=start,
            zone="America/New_York",
            name=f"Client {number}",
            email=f"client{number}@example.org",
            answers={"reason": "Canary reason"},
            consent=True,
        )
        return replace(request, **changes)  # type: ignore[arg-type]


async def open_clinic(database: Database, vault: Vault | None = None, *, people: int = 2, **rules: int) -> Clinic:
    vault = vault or Vault(Keys.generate())
    async with database.write() as session:
        practice = await accounts.ensure_practice(session, NOW, name="Linden Practice", zone="Europe/Berlin")
        ids = []
        for number in range(people):
            specialist = await specialists.create_specialist(
                session,
                vault,
                practice_id=practice.id,
                new=accounts.NewAccount(
                    role="specialist",
                    name=f"Dr. Ada Stone {number}",
                    email=f"ada{number}@linden.example",
                    password_hash="not used here",
                    zone="Europe/Berlin",
                    language="en",
                ),
                title=f"Physician {number}",
                now=NOW,
            )
            ids.append(specialist.id)
            await availability.set_weekly_hours(session, practice.id, specialist.id, [OFFICE] * 5 + [(), ()])
        settings: dict[str, int] = {
            "duration_minutes": 30,
            "buffer_before_minutes": 0,
            "buffer_after_minutes": 10,
            "minimum_notice_minutes": 60,
            "change_deadline_minutes": 120,
        } | rules
        service = await services.create_service(
            session, practice.id, services.ServiceForm(name="First visit", specialist_ids=ids, **settings), NOW
        )
    return Clinic(database, vault, practice.id, service.id, tuple(ids))


def hours(count: float) -> timedelta:
    return timedelta(hours=count)
