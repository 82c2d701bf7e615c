"""Who lives where, in one process and over Redis: the same tests on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest
from redis.asyncio import Redis

from signaling.directory import Board, Directory, DirectoryUnavailable, Lease, LocalDirectory, Place
from signaling.node_messages import Cut, EndRoom
from signaling.post import NotAnswered, Post
from signaling.redis_directory import RedisDirectory, connect
from signaling.roster import Member
from tests import servers

PATIENCE_S = 20


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Town:
    """Makes directories that see each other."""

    def __init__(self, redis_url: str | None) -> None:
        self._board = Board()
        self._url = redis_url
        self._clients: list[Redis] = []
        self._directories: list[Directory] = []

    async def settle(self, node: str, instance: str | None = None, kind: Literal["web", "media"] = "web") -> Any:
        directory: Directory
        if self._url is None:
            directory = LocalDirectory(node, instance or f"{node}-1", kind, board=self._board)
        else:
            client = connect(self._url)
            self._clients.append(client)
            directory = RedisDirectory(client, node, instance, kind)
        await directory.start()
        self._directories.append(directory)
        return directory

    async def flush(self) -> None:
        if self._url is None:
            self._board.flush()
        else:
            await self._clients[0].flushall()

    async def close(self) -> None:
        for directory in self._directories:
            await directory.stop()
        for client in self._clients:
            await client.aclose()


@pytest.fixture(params=["local", "redis"])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    url = request.getfixturevalue("redis_server_url") if request.param == "redis" else None
    if url is not None:
        async with Redis.from_url(url) as client:
            await client.flushall()
    town = Town(url)
    yield town
    await town.close()


async def test_a_room_has_one_owner_whom_everybody_finds(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    lease = await a.claim("r1")
    assert (lease.node, lease.instance) == ("a", a.own.instance)
    assert await b.claim("r1") == lease == await a.claim("r1")
    assert await b.owners(["r1", "r2"]) == {"r1": lease}
    await a.release(lease)
    assert await b.owners(["r1"]) == {}
    again = await b.claim("r1")
    assert again.node == "b"
    assert again.fence > lease.fence


async def test_one_of_many_racing_claims_wins(town: Town) -> None:
    directories = [await town.settle(f"n{number}") for number in range(5)]
    leases = await asyncio.gather(*(directory.claim("r1") for directory in directories))
    assert len(set(map(str, leases))) == 1


async def test_mail_arrives_in_order(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    arrived: list[bytes] = []
    b.on_mail(arrived.append)
    for number in range(50):
        assert await a.post("b", str(number).encode())
    await eventually(lambda: len(arrived) == 50)
    assert arrived == [str(number).encode() for number in range(50)]
    assert not await a.post("nobody", b"")


async def test_the_room_of_a_dead_process_is_taken_over(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    gone: list[Member] = []
    b.on_gone(gone.append)
    lease = await a.claim("r1")
    await eventually(lambda: [member.node for member in b.members("web")] == ["a"])
    await a.stop(goodbye=False)
    await eventually(lambda: [member.node for member in gone] == ["a"])
    async with asyncio.timeout(PATIENCE_S):
        while (taken := await b.claim("r1")).node != "b":
            await asyncio.sleep(0.05)
    assert taken.fence > lease.fence


async def test_a_restarted_process_owns_nothing_of_its_former_self_and_others_hear_of_it(town: Town) -> None:
    a, b = await town.settle("a", "first"), await town.settle("b")
    gone: list[Member] = []
    b.on_gone(gone.append)
    lease = await a.claim("r1")
    await eventually(lambda: [member.instance for member in b.members("web")] == ["first"])
    await a.stop(goodbye=False)
    await town.settle("a", "second")
    await eventually(lambda: [member.instance for member in gone] == ["first"])
    taken = await b.claim("r1")
    assert taken.node == "b"
    assert taken.fence > lease.fence


async def test_a_goodbye_gives_the_rooms_back_at_once(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    gone: list[Member] = []
    b.on_gone(gone.append)
    await a.claim("r1")
    await eventually(lambda: bool(b.members("web")))
    await a.stop()
    assert (await b.claim("r1")).node == "b"
    await eventually(lambda: [member.node for member in gone] == ["a"])


async def test_an_owner_who_does_not_answer_can_be_overruled_and_learns_of_it(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    lost: list[Lease] = []
    a.on_lease_lost(lost.append)
    lease = await a.claim("r1")
    taken = await b.claim("r1", over=lease)
    assert taken.node == "b"
    await eventually(lambda: lost == [lease])
    stale = Place(node="m", instance="m1", session="stale")
    assert not await a.set_place(lease, stale)
    # overruling the same lease once more changes nothing: it is not the room's any more
    assert await a.claim("r1", over=lease) == taken


async def test_places_are_fenced(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    lease = await a.claim("r1")
    assert await b.place_of("r1") is None
    place = Place(node="m", instance="m1", session="s1")
    assert await a.set_place(lease, place)
    assert await b.place_of("r1") == place


async def test_owners_and_places_come_back_after_everything_is_forgotten(town: Town) -> None:
    a, b = await town.settle("a"), await town.settle("b")
    lost: list[Lease] = []
    a.on_lease_lost(lost.append)
    lease = await a.claim("r1")
    place = Place(node="m", instance="m1", session="s1")
    await a.set_place(lease, place)
    await town.flush()
    async with asyncio.timeout(PATIENCE_S):
        while await b.owners(["r1"]) != {"r1": lease} or await b.place_of("r1") != place:
            await asyncio.sleep(0.05)
    assert lost == []
    after = await b.claim("r2")
    assert after.fence > lease.fence, "the fence goes on growing"


async def test_load_is_told_with_the_beats(town: Town) -> None:
    web, media = await town.settle("w"), await town.settle("m", kind="media")
    media.describe(load=3.0, draining=True)
    await eventually(lambda: [(each.load, each.draining) for each in web.members("media")] == [(3.0, True)])
    assert web.members("web") == []


async def test_questions_are_answered_or_fail_quickly(town: Town) -> None:
    a, b = Post(await town.settle("a")), Post(await town.settle("b"))

    async def end(node: str, question: EndRoom) -> str:
        if question.consultation == "closed":
            raise NotAnswered("not_owner")
        return f"{question.consultation} for {node}"

    b.answer(EndRoom, end)
    assert await a.ask("b", EndRoom(consultation="c1", reason="cancelled"), 10) == "c1 for a"
    with pytest.raises(NotAnswered, match="not_owner"):
        await a.ask("b", EndRoom(consultation="closed", reason="cancelled"), 10)
    with pytest.raises(NotAnswered, match="unreachable"):
        await a.ask("nobody", EndRoom(consultation="c1", reason="cancelled"), 600)
    failed: list[str] = []
    a.on_undelivered(lambda node, mail: failed.append(node))
    a.send("nobody", Cut(link="l", code=1000))
    await eventually(lambda: failed == ["nobody"])
    await a.stop()
    await b.stop()


async def test_a_redis_that_restarts_kills_nobody_and_finds_its_owners_again() -> None:
    """The outage lasts longer than any of the deadlines."""
    gone: list[Member] = []
    gaps: list[str] = []
    lost: list[Lease] = []
    with servers.redis_server() as url:
        clients = [connect(url), connect(url)]
        a, b = RedisDirectory(clients[0], "a"), RedisDirectory(clients[1], "b")
        await a.start()
        await b.start()
        b.on_gone(gone.append)
        b.on_gap(lambda: gaps.append("b"))
        a.on_lease_lost(lost.append)
        lease = await a.claim("r1")
        await eventually(lambda: bool(b.members("web")))
    with pytest.raises(DirectoryUnavailable):
        await b.claim("r2")
    with pytest.raises(DirectoryUnavailable):
        await b.owners(["r1"])
    assert not await b.post("a", b"lost")
    await asyncio.sleep(3)
    assert [member.node for member in b.members("web")] == ["a"]
    with servers.redis_server(port=int(url.rsplit(":", 1)[1].split("/")[0])):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if await b.owners(["r1"]) == {"r1": lease}:
                        break
                except DirectoryUnavailable:
                    pass
                await asyncio.sleep(0.05)
        await eventually(lambda: gaps == ["b"])
        assert await b.post("a", b"arrives")
        assert gone == lost == []
        await a.stop()
        await b.stop()
    for client in clients:
        await client.aclose()


async def test_no_redis_is_an_error_at_start() -> None:
    client = connect(f"redis://127.0.0.1:{servers.free_port()}")
    directory = RedisDirectory(client, "a")
    with pytest.raises(DirectoryUnavailable):
        await directory.start()
    await client.aclose()
