"""The journal: everything is kept, in order, also by a record that is away for a while; the room never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from signaling.effects import KeepChat, KeepSample, LogEvent, NoteAdmission, NoteFinished
from signaling.journal import MAX_WAITING_SAMPLES, Journal
from signaling.messages import ChatLine, StatsSample
from tests.unit.signaling.fakes import START, FakeAdmission, FakeRecord

SAMPLE = StatsSample(direction="publish", kind="audio", source="microphone", bitrate_bps=1)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.01)


def line(identifier: str) -> KeepChat:
    return KeepChat(ChatLine(id=identifier, participant="p", name="P", text="hello", at=""), START)


class Desk:
    def __init__(self) -> None:
        self.record, self.admission = FakeRecord(), FakeAdmission()
        self.chat: list[tuple[str, bool]] = []
        self.journal = Journal(
            "c1", self.record, self.admission, lambda identifier, kept: self.chat.append((identifier, kept))
        )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    desk.record.broken = False
    await desk.journal.close(10)


async def test_entries_are_kept_in_order(desk: Desk) -> None:
    for number in range(20):
        desk.journal.put(LogEvent("p", f"kind{number}", START))
    desk.journal.put(NoteAdmission("p", True, START))
    desk.journal.put(NoteAdmission("p", False, START))
    desk.journal.put(NoteFinished(START))
    desk.journal.put(line("l1"))
    assert await desk.journal.close(40)
    assert desk.record.kinds() == [f"kind{number}" for number in range(20)]
    assert [note[0] for note in desk.admission.notes] == ["admitted", "refused", "finished"]
    assert desk.chat == [("l1", True)]


async def test_events_wait_for_a_record_that_is_away_and_chat_is_refused_at_once(desk: Desk) -> None:
    desk.record.broken = True
    desk.journal.put(LogEvent("p", "joined", START))
    desk.journal.put(line("l1"))
    desk.journal.put(KeepSample("p", "relay", SAMPLE, START))
    desk.journal.put(LogEvent("p", "left", START))
    await eventually(lambda: desk.chat == [("l1", False)])
    assert desk.record.events == []
    desk.record.broken = False
    await eventually(lambda: desk.record.kinds() == ["joined", "left"])
    desk.journal.put(line("l1"))
    await eventually(lambda: desk.chat == [("l1", False), ("l1", True)])


async def test_samples_do_not_pile_up(desk: Desk) -> None:
    desk.record.broken = True
    desk.journal.put(LogEvent("p", "joined", START))
    for _ in range(3 * MAX_WAITING_SAMPLES):
        desk.journal.put(KeepSample("p", "relay", SAMPLE, START))
    desk.journal.put(LogEvent("p", "left", START))
    desk.record.broken = False
    await eventually(lambda: desk.record.kinds() == ["joined", "left"])
    assert 0 < len(desk.record.samples) <= MAX_WAITING_SAMPLES + 1


async def test_closing_tells_whether_everything_was_kept() -> None:
    desk = Desk()
    desk.record.broken = True
    desk.journal.put(LogEvent("p", "joined", START))
    assert not await desk.journal.close(0.3)
