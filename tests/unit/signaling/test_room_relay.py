"""A room's way to its relay: order, placing it anew, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from media.api import RelayError
from signaling.directory import Lease
from signaling.effects import CallRelay
from signaling.relay_commands import CloseRoom, Leave, Publish, RelayCommand
from signaling.relay_pool import LocalPool, Placement
from signaling.room_relay import RoomRelay
from tests.unit.signaling.fakes import FakeRelay

LEASE = Lease(room="c1", node="w", instance="w1", fence=1)


def offer(participant: str, text: str) -> CallRelay:
    command: RelayCommand = Publish(room="c1", participant=participant, offer=text, sources={})
    return CallRelay(participant, 1, 1, command)


class ShakyPool(LocalPool):
    """Has no relay for a while."""

    def __init__(self, relay: FakeRelay) -> None:
        super().__init__(relay)
        self.empty = True

    async def place(self, lease: Lease, *, renew: bool = False) -> Placement:
        if self.empty:
            raise RelayError("unavailable", "no media process")
        return await super().place(lease, renew=renew)


class Desk:
    def __init__(self, pool: LocalPool) -> None:
        self.placed: list[str] = []
        self.finished: list[tuple[str, str]] = []
        self.relay = RoomRelay(LEASE, pool, self.placed.append, self._finished)

    def _finished(self, call: CallRelay, result: str | RelayError) -> None:
        self.finished.append((call.participant or "", result if isinstance(result, str) else result.code))


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.01)


async def test_commands_of_one_participant_keep_their_order_and_wait_for_nobody_else() -> None:
    relay = FakeRelay()
    desk = Desk(LocalPool(relay))
    await desk.relay.open()
    relay.delay_s = 3600
    desk.relay.submit(offer("slow", "first"))
    await eventually(lambda: len(relay.calls) == 1)
    relay.delay_s = 0.01
    desk.relay.submit(offer("slow", "second"))
    for number in range(5):
        desk.relay.submit(offer("quick", str(number)))
    await eventually(lambda: len(desk.finished) == 5)
    assert [call[3] for call in relay.calls] == ["first", "0", "1", "2", "3", "4"]
    await desk.relay.close(0.1)


async def test_who_returns_while_the_room_is_being_closed_is_not_closed_with_it() -> None:
    relay = FakeRelay()
    desk = Desk(LocalPool(relay))
    await desk.relay.open()
    relay.delay_s = 0.1
    desk.relay.submit(CallRelay("p", 1, None, Leave(room="c1", participant="p")))
    desk.relay.submit(CallRelay(None, 0, None, CloseRoom(room="c1")))
    desk.relay.submit(offer("q", "again"))
    await eventually(lambda: len(desk.finished) == 2)
    assert [call[0] for call in relay.calls].index("close_room") < [call[0] for call in relay.calls].index("publish")
    await desk.relay.close(5)


async def test_a_room_without_a_relay_gets_one_as_soon_as_there_is_one() -> None:
    pool = ShakyPool(FakeRelay())
    desk = Desk(pool)
    await desk.relay.open()
    assert desk.relay.session == ""
    desk.relay.submit(offer("p", "early"))
    pool.empty = False
    await eventually(lambda: desk.placed == [desk.relay.session])
    await eventually(lambda: bool(desk.finished))
    await desk.relay.close(1)


async def test_what_was_asked_of_the_lost_relay_is_not_asked_of_the_next() -> None:
    relay = FakeRelay()
    desk = Desk(LocalPool(relay))
    await desk.relay.open()
    before = desk.relay.session
    desk.relay.replace()
    desk.relay.submit(CallRelay("p", 1, 1, Publish(room="c1", participant="p", offer="new", sources={})))
    await eventually(lambda: desk.placed == [desk.relay.session])
    assert desk.relay.session != before
    result = await asyncio.gather(
        desk.relay.perform(Publish(room="c1", participant="p", offer="old", sources={}), before),
        return_exceptions=True,
    )
    assert isinstance(result[0], RelayError)
    assert result[0].code == "unavailable"
    assert not any("old" in call for call in relay.calls)
    await desk.relay.close(1)


async def test_a_relay_that_fails_unexpectedly_is_reported_as_unavailable() -> None:
    class Broken(FakeRelay):
        async def leave(self, room: str, participant: str) -> None:
            raise ZeroDivisionError

    desk = Desk(LocalPool(Broken()))
    await desk.relay.open()
    desk.relay.submit(CallRelay("p", 1, 1, Leave(room="c1", participant="p")))
    await eventually(lambda: desk.finished == [("p", "unavailable")])
    await desk.relay.close(1)
