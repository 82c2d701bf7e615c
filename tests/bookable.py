"""A site whose two specialists can be booked: Monday to Friday, 09:00 to 17:00 in Berlin."""

from __future__ import annotations

from consult.booking.availability import set_weekly_hours
from consult.booking.models import Service
from consult.booking.services import ServiceForm, create_service
from tests.site import Site

OFFICE_HOURS = [[(540, 1020)]] * 5 + [[], []]


async def open_calendar(
    site: Site, name: str = "First consultation", who: tuple[str, ...] = ("boris", "clara")
) -> Service:
    """A service of 30 minutes by these specialists."""
    ids = [site.people[one].id for one in who]
    async with site.database.write() as session:
        for one in ids:
            await set_weekly_hours(session, site.practice_id, one, OFFICE_HOURS)
        form = ServiceForm(name=name, description="We get to know each other.", specialist_ids=ids)
        return await create_service(session, site.practice_id, form, site.now)
