"""Several hubs and relays: in one process on a Board, and over Redis. The same tests on both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from media.api import RelayError, RoomClosed, TransportChanged
from signaling.directory import Board, Directory, LocalDirectory
from signaling.hub import Hub, HubLimits
from signaling.post import Post
from signaling.redis_directory import RedisDirectory, connect
from signaling.relay_commands import Publish
from signaling.remote_relay import RelayServer, RemotePool
from signaling.room import JoinRefused
from signaling.turn import ice_servers
from tests.integration.hub_pages import ORIGIN, House, Page, eventually, house
from tests.unit.signaling.fakes import FakeAdmission, FakeRecord, FakeRelay, grant


class Media:
    """One media process."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.relay = FakeRelay()
        self.server = RelayServer(directory, self.relay)

    async def die(self) -> None:
        """As if killed or stopped: no word, no answers."""
        await self.directory.stop(goodbye=False)
        await self.server.stop()


class City:
    """Hubs with one admission and one record, and media processes."""

    def __init__(self, redis_url: str | None) -> None:
        self._url = redis_url
        self._board = Board()
        self._stack = AsyncExitStack()
        self.admission, self.record = FakeAdmission(), FakeRecord()
        self.directories: dict[str, Directory] = {}

    async def _directory(self, node: str, instance: str, kind: Any) -> Directory:
        directory: Directory
        if self._url is None:
            directory = LocalDirectory(node, instance, kind, board=self._board)
        else:
            client = connect(self._url)
            self._stack.push_async_callback(client.aclose)
            directory = RedisDirectory(client, node, instance, kind)
        self.directories[node] = directory
        return directory

    async def hub(self, node: str, instance: str = "1") -> House:
        directory = await self._directory(node, f"{node}-{instance}", "web")
        post = Post(directory)
        pool = RemotePool(directory, post)
        hub = Hub(
            directory=directory,
            pool=pool,
            post=post,
            admission=self.admission,
            record=self.record,
            ice_servers=ice_servers([], None),
            public_url=ORIGIN,
            limits=HubLimits(opens_at_once=1_000),
        )
        await directory.start()
        self._stack.push_async_callback(directory.stop)
        self._stack.push_async_callback(pool.stop)
        return await self._stack.enter_async_context(house(hub, self.admission, self.record))

    async def media(self, node: str, instance: str = "1") -> Media:
        directory = await self._directory(node, f"{node}-{instance}", "media")
        media = Media(directory)
        await directory.start()
        self._stack.push_async_callback(directory.stop)
        self._stack.push_async_callback(media.server.stop)
        return media

    async def flush(self) -> None:
        if self._url is None:
            self._board.flush()
        else:
            async with Redis.from_url(self._url) as client:
                await client.flushall()

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture(params=["local", "redis"])
async def city(request: pytest.FixtureRequest) -> AsyncIterator[City]:
    url = request.getfixturevalue("redis_server_url") if request.param == "redis" else None
    city = City(url)
    await city.flush()
    yield city
    await city.close()


async def consultation(first: House, second: House) -> tuple[Page, Page]:
    """The specialist at one hub, who owns the room from then on; an admitted client at the other."""
    doctor = await first.join("doctor", "specialist")
    client = await second.join("client")
    assert client.welcome["you"]["presence"] == "waiting"
    await doctor.presence("client", "waiting")
    assert (await doctor.request("admit", participant="client"))["type"] == "done"
    await client.until("admitted")
    await client.until("started")
    return doctor, client


async def test_a_call_spans_two_hubs_and_a_relay_in_a_third_process(city: City) -> None:
    media = await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    assert a.hub.snapshot().rooms == 1
    assert b.hub.snapshot().rooms == 0
    assert (await client.request("send_chat", id="l1", text="hello"))["type"] == "done"
    assert (await doctor.until("chat"))["line"]["text"] == "hello"
    answer = await client.request("publish", offer="v=0 client", sources={"0": "microphone"})
    assert answer["answer"] == "answer to v=0 client"
    await client.send("subscribe", request=99)
    offer = await client.until("offer")
    assert (await client.request("answer", revision=offer["revision"], answer="v=0"))["type"] == "done"
    media.relay.fail = RelayError("bad_sdp", "no fingerprint")
    error = await client.request("publish", offer="v=0", sources={})
    assert (error["code"], error["message"]) == ("bad_sdp", "no fingerprint")
    await client.socket.send_str("{")
    assert (await client.until("error"))["code"] == "malformed"
    await client.send("leave")
    assert (await client.until("ended"))["reason"] == "left"
    assert await client.closed() == 1000
    assert (await doctor.until("participant_left"))["participant"] == "client"
    await eventually(lambda: ("leave", "c1", "client") in media.relay.calls)


async def test_who_waits_is_known_everywhere(city: City) -> None:
    await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    await a.join("client")
    await b.join("other", consultation="c2")
    for place in (a, b):
        waiting = await place.hub.waiting(["c1", "c2", "c3"])
        assert {room: [who for who, _, _ in list_] for room, list_ in waiting.items()} == {
            "c1": ["client"],
            "c2": ["other"],
        }
    client = await b.join("third")
    await b.hub.remove("c1", "third", "removed")
    assert (await client.until("ended"))["reason"] == "removed"
    other = await b.join("fourth")
    await b.hub.end("c1", "cancelled")
    assert (await other.until("ended"))["reason"] == "cancelled"


async def test_a_page_resumes_through_another_node(city: City) -> None:
    await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    await client.socket.close()
    await doctor.presence("client", "reconnecting")
    again = await a.resume(client)
    assert again.welcome["resumed"] is True
    await doctor.presence("client", "joined")
    third = await b.resume(again)
    assert third.welcome["resumed"] is True
    assert await again.closed() == 1000


async def test_an_edge_that_dies_leaves_its_people_reconnecting(city: City) -> None:
    await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    await city.directories["b"].stop(goodbye=False)
    await doctor.presence("client", "reconnecting")
    again = await a.resume(client)
    assert again.welcome["resumed"] is True


async def test_the_room_of_a_dead_hub_is_rebuilt_around_the_running_media(city: City) -> None:
    media = await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    session = doctor.welcome["media_session"]
    await client.request("send_chat", id="l1", text="before")
    await client.request("publish", offer="v=0", sources={})
    before = list(media.relay.calls)
    await city.directories["a"].stop(goodbye=False)
    assert await client.closed() == 1012
    resumed = await b.resume(client)
    assert resumed.welcome["code"] == "bad_resume"
    again = await b.join("client", admitted=True)
    assert again.welcome["you"]["admitted"] is True
    assert again.welcome["media_session"] == session
    assert [line["text"] for line in again.welcome["chat"]] == ["before"]
    assert media.relay.calls == before, "the dead hub's media was left alone"
    await asyncio.sleep(0.2)  # the relay learns of the new owner without being asked for anything
    media.relay.emit(
        TransportChanged(room="c1", participant="client", direction="publish", state="connected", route="udp")
    )
    await eventually(lambda: ("c1", "client", "route", "udp") in city.record.events)
    assert (await again.request("publish", offer="v=0 again", sources={}))["type"] == "published"


async def test_a_hub_that_stops_hands_its_rooms_over(city: City) -> None:
    await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    await a.hub.stop()
    for page in (doctor, client):
        assert (await page.until("ended"))["reason"] == "server"
        assert await page.closed() == 1012
    again = await b.join("doctor", "specialist")
    assert again.welcome["media_session"] == doctor.welcome["media_session"]


@pytest.mark.parametrize("how", ["dies", "restarts", "drains"])
async def test_a_relay_that_goes_is_replaced_and_everybody_told(city: City, how: str) -> None:
    first = await city.media("m1")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    assert (await doctor.request("publish", offer="v=0 first", sources={}))["type"] == "published"
    if how == "restarts":
        await first.die()
        second = await city.media("m1", "2")
    else:
        second = await city.media("m2")
        await asyncio.sleep(0.6)  # its first beat
        if how == "dies":
            await first.die()
        else:
            first.server.drain()
    reset = await doctor.until("media_reset")
    assert await client.until("media_reset") == reset
    assert reset["media_session"] != doctor.welcome["media_session"]
    assert (await client.request("publish", offer="v=0 second", sources={}))["type"] == "published"
    assert ("publish", "c1", "client", "v=0 second") in second.relay.calls
    await eventually(lambda: "media_restarted" in city.record.kinds())
    if how == "drains":
        await eventually(lambda: first.server.rooms == 0)
        assert ("close_room", "c1") in first.relay.calls


async def test_without_a_relay_people_meet_and_media_follows(city: City) -> None:
    a = await city.hub("a")
    doctor = await a.join("doctor", "specialist")
    assert doctor.welcome["media_session"] == ""
    assert (await doctor.request("publish", offer="v=0", sources={}))["code"] == "media_unavailable"
    await city.media("m")
    assert (await doctor.until("media_reset"))["media_session"]
    assert (await doctor.request("publish", offer="v=0", sources={}))["type"] == "published"


async def test_rooms_are_spread_by_load(city: City) -> None:
    for node in ("m1", "m2", "m3"):
        await city.media(node)
    a = await city.hub("a")
    await eventually(lambda: len(city.directories["a"].members("media")) == 3)
    for number in range(6):
        doctor = await a.join("doctor", "specialist", consultation=f"c{number}")
        assert (await doctor.request("publish", offer="v=0", sources={}))["type"] == "published"
    await eventually(
        lambda: sorted(member.load for member in city.directories["a"].members("media")) == [2.0, 2.0, 2.0]
    )


async def test_forgetting_everything_ends_no_call(city: City) -> None:
    media = await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    await city.flush()
    assert (await client.request("send_chat", id="l1", text="still here"))["type"] == "done"
    assert (await client.request("publish", offer="v=0", sources={}))["type"] == "published"
    await asyncio.sleep(1.5)  # the owner has registered again
    third = await b.join("third", "participant")
    assert [who["id"] for who in third.welcome["participants"]] == ["doctor", "client"]
    assert not any(message["type"] in ("ended", "media_reset") for message in [*doctor.seen, *client.seen])
    assert not any(call[0] == "close_room" for call in media.relay.calls)


async def test_a_relay_taken_for_dead_is_cleaned_up_when_it_comes_back(city: City) -> None:
    first = await city.media("m1")
    a = await city.hub("a")
    doctor = await a.join("doctor", "specialist")
    await doctor.request("publish", offer="v=0", sources={})
    second = await city.media("m2")
    await asyncio.sleep(0.6)
    await first.directory.stop(goodbye=False)
    await doctor.until("media_reset")
    assert (await doctor.request("publish", offer="v=0", sources={}))["type"] == "published"
    await first.directory.start()  # the process goes on, with the same instance
    first.relay.emit(TransportChanged(room="c1", participant="doctor", direction="publish", state="disconnected"))
    await eventually(lambda: ("close_room", "c1") in first.relay.calls)
    first.relay.emit(RoomClosed(room="c1"))
    await doctor.send("ping", n=1)
    await doctor.until("pong")
    assert [message["type"] for message in doctor.seen].count("media_reset") == 1
    assert ("close_room", "c1") not in second.relay.calls


async def test_a_device_joins_through_any_node(city: City) -> None:
    media = await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    viewer = await a.join("viewer", "viewer", encryption="transport")
    device = grant("camera", "participant", live=True, encryption="transport")
    await b.hub.attach(device)
    await viewer.presence("camera", "joined")
    command = Publish(room="c1", participant="camera", offer="v=0 device", sources={})
    assert await b.hub.perform(command) == "answer to v=0 device"
    media.relay.fail = RelayError("bad_sdp", "no")
    with pytest.raises(RelayError, match="bad_sdp"):
        await b.hub.perform(command)
    media.relay.fail = None
    await b.hub.detach("c1", "camera")
    assert (await viewer.until("participant_left"))["participant"] == "camera"
    for number in range(7):
        await b.hub.attach(grant(f"camera{number}", "participant", live=True))
    with pytest.raises(JoinRefused) as refused:
        await b.hub.attach(device)
    assert refused.value.code == "too_many"


async def test_logs_name_nobody(city: City, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    doctor, client = await consultation(a, b)
    await client.request("send_chat", id="l1", text="Canary text")
    await client.socket.close()
    await doctor.presence("client", "reconnecting")
    await a.hub.stop()
    written = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("signaling"))
    secrets = [page.welcome["resume_token"] for page in (doctor, client)]
    assert not any(text in written for text in ["Canary", "Doctor", "Client", "ticket-for", *secrets])


async def test_racing_joins_meet_in_one_room(city: City) -> None:
    await city.media("m")
    places = [await city.hub("a"), await city.hub("b"), await city.hub("c")]
    pages = await asyncio.gather(*(places[number % 3].join(f"p{number}", "participant") for number in range(8)))
    assert sum(place.hub.snapshot().rooms for place in places) == 1
    assert len({page.welcome["media_session"] for page in pages}) == 1
    late = max(pages, key=lambda page: len(page.welcome["participants"]))
    assert len(late.welcome["participants"]) == 7


async def test_a_room_moves_on_when_everybody_has_left(city: City) -> None:
    await city.media("m")
    a, b = await city.hub("a"), await city.hub("b")
    for number in range(6):
        place = (a, b)[number % 2]
        page = await place.join("p", "participant")
        other = await (a, b)[(number + 1) % 2].join("q", "participant")
        for each in (page, other):
            await each.send("leave")
            await each.until("ended")
    await eventually(lambda: a.hub.snapshot().rooms + b.hub.snapshot().rooms == 0)
    assert city.record.kinds().count("left") == 12
