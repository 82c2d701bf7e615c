"""How fast one specialist's month of slots is worked out: a Berlin month with a change of the clocks and busy times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import process_time
from typing import TypedDict

from consult.booking.slots import Availability, Interval, ServiceRules, free_slots

SECONDS = 2.0


class Figure(TypedDict):
    name: str
    value: float
    unit: str


def run() -> list[Figure]:
    """One figure: specialist-months of free slots per second of one core (its own time, so neighbours do not count)."""
    now = datetime(2026, 3, 10, tzinfo=UTC)
    until = now + timedelta(days=31)
    office = ((9 * 60, 12 * 60), (13 * 60, 17 * 60))
    availability = Availability("Europe/Berlin", (office,) * 5 + ((), ()))
    rules = ServiceRules(30, 30, buffer_before_minutes=5, buffer_after_minutes=10, minimum_notice_minutes=60)
    busy = [Interval(now + timedelta(hours=7 * n), now + timedelta(hours=7 * n + 1)) for n in range(100)]
    months = 0
    begin = process_time()
    while process_time() - begin < SECONDS:
        found = free_slots(availability, rules, busy, now, until, now)
        months += 1
    assert len(found) > 200, "the month must have slots to find"
    return [
        {
            "name": "slots_of_one_specialist_month",
            "value": round(months / (process_time() - begin), 1),
            "unit": "months/s",
        }
    ]
