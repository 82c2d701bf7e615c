"""Fakes with the real interfaces: Admission and Record in memory, a Relay that remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from media.api import Direction, RelayError, RelayEvent, Source, SubscribeOffer
from signaling.admission import Grant, Refusal
from signaling.effects import Now
from signaling.messages import ChatLine, Role, StatsSample

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


def at(seconds: float) -> Now:
    """The moment so many seconds after the start, on both clocks."""
    return Now(START + timedelta(seconds=seconds), 1_000 + seconds)


def grant(participant: str, role: Role = "client", *, consultation: str = "c1", **more: object) -> Grant:
    fields: dict[str, object] = {
        "consultation": consultation,
        "participant": participant,
        "role": role,
        "name": participant.title(),
        "admitted": False,
        "encryption": "end_to_end",
        "opens_at": datetime.now(UTC) - timedelta(hours=1) if "live" in more else START,
        "closes_at": datetime.now(UTC) + timedelta(hours=1) if "live" in more else START + timedelta(hours=1),
    }
    more.pop("live", None)
    fields.update(more)
    return Grant(**fields)  # type: ignore[arg-type]


class FakeAdmission:
    """Tickets are "ticket-for-NAME-N"; each works once."""

    def __init__(self) -> None:
        self.tickets: dict[str, Grant] = {}
        self.notes: list[tuple[str, str, str]] = []
        self._count = 0

    def ticket(self, person: Grant) -> str:
        self._count += 1
        ticket = f"ticket-for-{person.participant}-{self._count:04}"
        self.tickets[ticket] = person
        return ticket

    async def redeem(self, ticket: str, now: datetime) -> Grant:
        if any(note[0] == "finished" for note in self.notes):
            raise Refusal("closed")
        if ticket not in self.tickets:
            raise Refusal("bad_ticket")
        return self.tickets.pop(ticket)

    async def admitted(self, consultation: str, participant: str, now: datetime) -> None:
        self.notes.append(("admitted", consultation, participant))

    async def refused(self, consultation: str, participant: str, now: datetime) -> None:
        self.notes.append(("refused", consultation, participant))

    async def finished(self, consultation: str, now: datetime) -> None:
        self.notes.append(("finished", consultation, ""))


class FakeRecord:
    def __init__(self) -> None:
        self.events: list[tuple[str, str | None, str, str]] = []
        self.samples: list[tuple[str, str, StatsSample]] = []
        self.lines: dict[tuple[str, str], ChatLine] = {}
        self.broken = False

    def kinds(self, participant: str | None = None) -> list[str]:
        return [event[2] for event in self.events if participant is None or event[1] == participant]

    def _check(self) -> None:
        if self.broken:
            raise ConnectionError("the database is away")

    async def event(
        self, consultation: str, participant: str | None, at: datetime, kind: str, detail: str = ""
    ) -> None:
        self._check()
        self.events.append((consultation, participant, kind, detail))

    async def sample(
        self,
        consultation: str,
        participant: str,
        at: datetime,
        measured_by: Literal["relay", "browser"],
        sample: StatsSample,
    ) -> None:
        self._check()
        self.samples.append((participant, measured_by, sample))

    async def chat(self, consultation: str, line: ChatLine, at: datetime) -> bool:
        self._check()
        if (consultation, line.id) in self.lines:
            return False
        self.lines[(consultation, line.id)] = line
        return True

    async def chat_history(self, consultation: str) -> list[ChatLine]:
        self._check()
        return [line for (room, _), line in self.lines.items() if room == consultation]


class FakeRelay:
    """A relay without media: answers SDP with SDP, and sends an offer when one is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.delay_s = 0.0
        self.fail: RelayError | None = None
        self.revision = 0
        self._listener: Callable[[RelayEvent], None] = lambda event: None

    def emit(self, event: RelayEvent) -> None:
        self._listener(event)

    async def _note(self, *call: str) -> None:
        self.calls.append(call)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.fail is not None:
            raise self.fail

    async def publish(self, room: str, participant: str, offer: str, sources: Mapping[str, Source]) -> str:
        await self._note("publish", room, participant, offer)
        return f"answer to {offer}"

    async def subscribe(self, room: str, participant: str, *, fresh: bool = False) -> None:
        await self._note("subscribe", room, participant, "fresh" if fresh else "")
        self.revision += 1
        self.emit(
            SubscribeOffer(room=room, participant=participant, revision=self.revision, offer="v=0 subscribe", tracks={})
        )

    async def answer(self, room: str, participant: str, revision: int, answer: str) -> None:
        await self._note("answer", room, participant, str(revision))

    async def restart_subscribe(self, room: str, participant: str) -> None:
        await self._note("restart_subscribe", room, participant)

    async def set_paused(self, room: str, participant: str, track_id: str, paused: bool) -> None:
        await self._note("set_paused", room, participant, track_id, str(paused))

    async def watch(self, room: str, viewer: str, publisher: str, offer: str) -> str:
        await self._note("watch", room, viewer, publisher, offer)
        return f"answer to {offer}"

    async def add_candidates(self, room: str, participant: str, direction: Direction, fragment: str) -> str:
        await self._note("add_candidates", room, participant, direction, fragment)
        return ""

    async def leave(self, room: str, participant: str) -> None:
        await self._note("leave", room, participant)

    async def close_room(self, room: str) -> None:
        await self._note("close_room", room)

    def on_event(self, listener: Callable[[RelayEvent], None]) -> None:
        self._listener = listener
