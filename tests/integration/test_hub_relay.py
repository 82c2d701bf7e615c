"""The hub with the real relay: media from one WebRTC peer to another, and media processes that are killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack

from media.relay import start
from media.settings import RelaySettings
from signaling.directory import LocalDirectory
from signaling.hub import Hub
from signaling.post import Post
from signaling.redis_directory import RedisDirectory, connect
from signaling.relay_pool import LocalPool
from signaling.remote_relay import RemotePool
from signaling.turn import ice_servers
from tests.integration.hub_pages import ORIGIN, House, Page, call, eventually, house
from tests.unit.signaling.fakes import FakeAdmission, FakeRecord

PATIENCE_S = 40


class Media:
    """A page's two peer connections."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frames = 0
        self._publisher = RTCPeerConnection()
        self._subscriber = RTCPeerConnection()
        self._readers: list[asyncio.Task[None]] = []
        self._subscriber.on("track", self._read)

    def _read(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            while True:
                try:
                    await track.recv()
                except MediaStreamError:
                    return
                self.frames += 1

        self._readers.append(asyncio.create_task(read()))

    async def publish(self) -> None:
        self._publisher.addTrack(AudioStreamTrack())
        await self._publisher.setLocalDescription(await self._publisher.createOffer())
        answer = await self.page.request(
            "publish", offer=self._publisher.localDescription.sdp, sources={"0": "microphone"}
        )
        assert answer["type"] == "published", answer
        await self._publisher.setRemoteDescription(RTCSessionDescription(sdp=answer["answer"], type="answer"))

    async def subscribe(self) -> None:
        await self.page.send("subscribe", request=500, fresh=True)
        offer = await self.page.until("offer")
        await self._subscriber.setRemoteDescription(RTCSessionDescription(sdp=offer["offer"], type="offer"))
        await self._subscriber.setLocalDescription(await self._subscriber.createAnswer())
        done = await self.page.request(
            "answer", revision=offer["revision"], answer=self._subscriber.localDescription.sdp
        )
        assert done["type"] == "done", done

    async def close(self) -> None:
        await self._publisher.close()
        await self._subscriber.close()
        for reader in self._readers:
            reader.cancel()


@asynccontextmanager
async def media_of(page: Page) -> AsyncIterator[Media]:
    media = Media(page)
    try:
        yield media
    finally:
        await media.close()


async def talk(speaker: Page, listener: Page) -> None:
    """Audio goes from one to the other."""
    async with media_of(speaker) as sending, media_of(listener) as receiving:
        await sending.publish()
        await receiving.subscribe()
        await eventually(lambda: receiving.frames > 10)


@pytest.fixture
async def place() -> AsyncIterator[House]:
    """The embedded form with the real relay."""
    relay = await start(RelaySettings(port=0, announced_ips=("127.0.0.1",)))
    admission, record = FakeAdmission(), FakeRecord()
    directory = LocalDirectory("local", "i1")
    await directory.start()
    hub = Hub(
        directory=directory,
        pool=LocalPool(relay),
        admission=admission,
        record=record,
        ice_servers=ice_servers([], None),
        public_url=ORIGIN,
    )
    async with house(hub, admission, record) as built:
        yield built
    await directory.stop()
    await relay.stop()


async def test_media_flows_from_one_to_the_other_and_the_log_says_how(place: House) -> None:
    doctor, client = await call(place)
    async with media_of(doctor) as sending, media_of(client) as receiving:
        await sending.publish()
        await receiving.subscribe()
        await eventually(lambda: receiving.frames > 25)
        await eventually(lambda: "codec" in place.record.kinds("doctor"))
        routes = {event[1] for event in place.record.events if event[2:] == ("route", "udp")}
        assert routes == {"doctor", "client"}
        assert ("c1", "doctor", "codec", "opus") in place.record.events
        await eventually(lambda: any(sample[:2] == ("doctor", "relay") for sample in place.record.samples))
        await doctor.send("leave")
        await client.until("participant_left")
        await asyncio.sleep(0.5)
        frames = receiving.frames
        await asyncio.sleep(0.5)
        assert receiving.frames <= frames + 5, "who has left is not heard any more"


async def test_unusable_sdp_is_the_pages_fault(place: House) -> None:
    doctor, _client = await call(place)
    assert (await doctor.request("publish", offer="not sdp", sources={}))["code"] == "bad_sdp"


@contextmanager
def media_process(redis_url: str, node: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.media_process", redis_url, node]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
async def test_a_call_moves_away_from_a_media_process_that_dies(redis_url: str, fault: signal.Signals) -> None:
    redis = connect(redis_url)
    directory = RedisDirectory(redis, "w")
    post = Post(directory)
    pool = RemotePool(directory, post)
    admission, record = FakeAdmission(), FakeRecord()
    hub = Hub(
        directory=directory,
        pool=pool,
        post=post,
        admission=admission,
        record=record,
        ice_servers=ice_servers([], None),
        public_url=ORIGIN,
    )
    await directory.start()
    with media_process(redis_url, "m1") as first:
        await eventually(lambda: bool(directory.members("media")))
        async with house(hub, admission, record) as place:
            doctor, client = await call(place)
            await talk(doctor, client)
            with media_process(redis_url, "m2"):
                await eventually(lambda: len(directory.members("media")) == 2)
                first.send_signal(fault)
                struck = time.monotonic()
                reset = await doctor.until("media_reset")
                noticed_s = time.monotonic() - struck
                await client.until("media_reset")
                assert reset["media_session"] != doctor.welcome["media_session"]
                # The target is 2 s; the rest is for a machine that is busy with other tests.
                assert noticed_s < 10
                await talk(doctor, client)
                print(f"{fault.name} was noticed after {noticed_s:.2f} s")
    await pool.stop()
    await directory.stop()
    await redis.aclose()
