"""Taking somebody out of the rooms they sit in."""

from __future__ import annotations

from aiohttp import web

from consult.booking.withdrawal import withdraw
from web.keys import CLOCK, DATABASE, HUB


async def close_places(request: web.Request, person_id: str) -> None:
    """The person signed out, was disabled, or a factor changed: their sockets end now, their tickets open nothing.
    Whoever is still signed in elsewhere comes back with a new ticket."""
    app = request.app
    async with app[DATABASE].write() as session:
        places = await withdraw(session, person_id, app[CLOCK]())
    for consultation_id, participant_id in places:
        await app[HUB].remove(consultation_id, participant_id, "signed_out")
