"""The relay over real sockets, with aiortc's own peer connections and with hostile ones as clients."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamTrack

from media import stun
from media.api import (
    RelayError,
    RelayEvent,
    RelayStopping,
    RoomClosed,
    SubscribeOffer,
    TrackAdded,
    TrackRemoved,
    TransportChanged,
)
from media.probe import PROBE_TRANSPORT
from media.relay import LocalRelay, start
from media.settings import RelaySettings
from media.udp import machine_addresses
from tests.integration.relay_lab import ROOM, LossyProxy, eventually, keep
from tests.unit.media.mutations import mutated


class Events:
    """All events of a relay in order."""

    def __init__(self, relay: LocalRelay) -> None:
        self.all: list[RelayEvent] = []
        self.offers: dict[str, Viewer] = {}
        self._relay = relay
        relay.on_event(self._take)

    def _take(self, event: RelayEvent) -> None:
        self.all.append(event)
        if isinstance(event, SubscribeOffer) and event.participant in self.offers:
            keep(self.offers[event.participant].offered(event))

    def of(self, event_type: type[Any], /, **fields: Any) -> list[Any]:
        return [
            event
            for event in self.all
            if isinstance(event, event_type) and all(getattr(event, k) == v for k, v in fields.items())
        ]

    def states(self, participant: str, direction: str) -> list[str]:
        return [e.state for e in self.of(TransportChanged, participant=participant, direction=direction)]


class Publisher:
    """Sends a silent microphone and a green camera."""

    def __init__(self, relay: LocalRelay, name: str) -> None:
        self.relay = relay
        self.name = name
        self.pc = RTCPeerConnection()

    async def publish(self, *, change_offer: Any = None) -> str:
        self.pc.addTrack(AudioStreamTrack())
        self.pc.addTrack(VideoStreamTrack())
        await self.pc.setLocalDescription(await self.pc.createOffer())
        offer = self.pc.localDescription.sdp
        if change_offer is not None:
            offer = change_offer(offer)
        answer = await self.relay.publish(ROOM, self.name, offer, {})
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return answer


class Viewer:
    """Answers the relay's offers and decodes what comes."""

    def __init__(self, relay: LocalRelay, name: str) -> None:
        self.relay = relay
        self.name = name
        self.pc = RTCPeerConnection()
        self.frames = {"audio": 0, "video": 0}
        self.answered = 0
        self.pc.on("track", self._on_track)

    async def offered(self, event: SubscribeOffer) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(event.offer, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        await self.relay.answer(ROOM, self.name, event.revision, self.pc.localDescription.sdp)
        self.answered += 1

    async def watch(self, publisher: str) -> str:
        self.pc.addTransceiver("audio", direction="recvonly")
        self.pc.addTransceiver("video", direction="recvonly")
        await self.pc.setLocalDescription(await self.pc.createOffer())
        answer = await self.relay.watch(ROOM, self.name, publisher, self.pc.localDescription.sdp)
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return answer

    def _on_track(self, track: MediaStreamTrack) -> None:
        keep(self._consume(track))

    async def _consume(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                await track.recv()
            except Exception:
                return
            self.frames[track.kind] += 1

    def sees(self, more: int = 5) -> Any:
        """A condition: that many more frames of both kinds than now."""
        before = dict(self.frames)
        return lambda: all(self.frames[kind] >= before[kind] + more for kind in before)


class Lab:
    def __init__(self, relay: LocalRelay) -> None:
        self.relay = relay
        self.events = Events(relay)
        self._closing: list[RTCPeerConnection] = []

    async def publisher(self, name: str, **options: Any) -> Publisher:
        made = Publisher(self.relay, name)
        self._closing.append(made.pc)
        await made.publish(**options)
        return made

    async def viewer(self, name: str) -> Viewer:
        made = Viewer(self.relay, name)
        self._closing.append(made.pc)
        self.events.offers[name] = made
        await self.relay.subscribe(ROOM, name)
        return made

    async def watcher(self, name: str, publisher: str) -> Viewer:
        made = Viewer(self.relay, name)
        self._closing.append(made.pc)
        await made.watch(publisher)
        return made

    async def close(self) -> None:
        await asyncio.gather(*(pc.close() for pc in self._closing), return_exceptions=True)


@asynccontextmanager
async def lab(**settings: Any) -> AsyncIterator[Lab]:
    relay = await start(RelaySettings(**{"port": 0, "announced_ips": ("127.0.0.1",), **settings}))
    made = Lab(relay)
    try:
        yield made
    finally:
        await made.close()
        await relay.stop()


def stranger() -> socket.socket:
    """A socket that nobody knows."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made


# ---- calls ----


async def test_one_publishes_and_another_decodes() -> None:
    async with lab() as it:
        viewer = await it.viewer("ben")
        assert it.events.of(SubscribeOffer) == []  # there is no track yet
        await it.publisher("anna")
        await eventually(viewer.sees())
        assert {e.track.source for e in it.events.of(TrackAdded)} == {"microphone", "camera"}
        assert it.events.states("anna", "publish") == ["connecting", "connected"]
        assert it.events.states("ben", "subscribe") == ["connecting", "connected"]
        offered = it.events.of(SubscribeOffer)[-1]
        assert {track.source for track in offered.tracks.values()} == {"microphone", "camera"}
        assert all(re.search(f"a=msid:anna {t.id}", offered.offer) for t in offered.tracks.values())
        snapshot = it.relay.snapshot()
        assert snapshot["transports"] == {"connecting": 0, "connected": 2, "disconnected": 0}
        assert snapshot["handshakes"] == {"started": 2, "succeeded": 2}
        assert snapshot["packets_forwarded"] > 0


async def test_tracks_of_a_leaver_are_taken_away_and_the_section_is_used_for_the_next() -> None:
    async with lab() as it:
        viewer = await it.viewer("ben")
        await it.publisher("anna")
        await eventually(viewer.sees())
        await it.relay.leave(ROOM, "anna")
        assert len(it.events.of(TrackRemoved, participant="anna")) == 2
        await eventually(lambda: it.events.of(SubscribeOffer)[-1].tracks == {})
        await it.publisher("clara")
        await eventually(viewer.sees())
        last = it.events.of(SubscribeOffer)[-1]
        assert last.offer.count("m=") == 2
        assert {track.participant for track in last.tracks.values()} == {"clara"}


async def test_a_goodbye_of_the_browser_lets_the_tracks_linger_then_go() -> None:
    async with lab(linger_s=0.5) as it:
        anna = await it.publisher("anna")
        await eventually(lambda: len(it.events.of(TrackAdded)) == 2)
        await anna.pc.close()
        await eventually(lambda: it.events.states("anna", "publish")[-1] == "closed")
        await eventually(lambda: len(it.events.of(TrackRemoved, participant="anna")) == 2)
        await eventually(lambda: it.relay.snapshot()["participants"] == 0)


async def test_a_publisher_who_comes_back_keeps_its_tracks_and_the_viewer_its_sections() -> None:
    async with lab() as it:
        viewer = await it.viewer("ben")
        old = await it.publisher("anna")
        await eventually(viewer.sees())
        offers = len(it.events.of(SubscribeOffer))
        await it.publisher("anna")  # the old connection still lives: a second tab, or a reload without a goodbye
        await eventually(lambda: old.pc.connectionState == "closed")
        await eventually(viewer.sees(10))
        assert len(it.events.of(TrackAdded)) == 2
        assert it.events.of(TrackRemoved) == []
        assert len(it.events.of(SubscribeOffer)) == offers
        assert it.events.states("anna", "publish") == ["connecting", "connected", "connected"] or (
            it.events.states("anna", "publish") == ["connecting", "connected"]
        )


async def test_a_viewer_who_connects_while_the_publisher_is_away_sees_it_when_it_is_back() -> None:
    """Its tracks linger without a feed: a connection that becomes ready then waits, and is not given up."""
    async with lab(linger_s=60) as it:
        anna = await it.publisher("anna")
        await eventually(lambda: len(it.events.of(TrackAdded)) == 2)
        await anna.pc.close()
        await eventually(lambda: it.events.states("anna", "publish")[-1] == "closed")
        viewer = await it.viewer("ben")
        await eventually(lambda: it.events.states("ben", "subscribe")[-1] == "connected")
        # A renegotiation meanwhile finds the same.
        await it.relay.subscribe(ROOM, "ben")
        await eventually(lambda: viewer.answered == 2)
        camera = next(e.track for e in it.events.of(TrackAdded) if e.track.kind == "video")
        await it.relay.set_paused(ROOM, "ben", camera.id, True)
        await it.relay.set_paused(ROOM, "ben", camera.id, False)
        await it.publisher("anna")
        await eventually(viewer.sees())
        assert it.events.states("ben", "subscribe") == ["connecting", "connected"]
        assert it.relay.snapshot()["dropped"].get("install_error", 0) == 0
        assert it.relay.snapshot()["dropped"].get("control_error", 0) == 0


async def test_a_track_that_came_back_without_media_goes_when_the_offer_drops_it() -> None:
    async with lab() as it:
        old = await it.publisher("anna")
        await eventually(lambda: len(it.events.of(TrackAdded)) == 2)
        again = Publisher(it.relay, "anna")
        again.pc.addTrack(AudioStreamTrack())
        camera = again.pc.addTransceiver("video", direction="sendonly")  # negotiated, but no camera behind it
        for direction in ("sendonly", "inactive"):
            camera.direction = direction
            await again.pc.setLocalDescription(await again.pc.createOffer())
            answer = await it.relay.publish(ROOM, "anna", again.pc.localDescription.sdp, {})
            await again.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await eventually(lambda: again.pc.connectionState == "connected")
            if direction == "sendonly":
                await eventually(lambda: old.pc.connectionState == "closed")
                assert it.events.of(TrackRemoved) == []
        removed = it.events.of(TrackRemoved)
        kinds = {e.track.id: e.track.kind for e in it.events.of(TrackAdded)}
        assert [kinds[one.track_id] for one in removed] == ["video"]
        await again.pc.close()


async def test_a_whep_viewer_waits_for_its_publisher_and_survives_its_return() -> None:
    async with lab() as it:
        watcher = await it.watcher("screen", "anna")
        await eventually(lambda: it.events.states("screen", "subscribe")[-1] == "connected")
        await it.publisher("clara")  # another one is not what it watches
        await eventually(lambda: len(it.events.of(TrackAdded)) == 2)
        await it.publisher("anna")
        await eventually(watcher.sees())
        await it.relay.leave(ROOM, "anna")
        await it.publisher("anna")
        await eventually(watcher.sees())
        assert it.events.of(SubscribeOffer) == []


async def test_a_new_subscribe_connection_on_request() -> None:
    async with lab() as it:
        await it.publisher("anna")
        first = await it.viewer("ben")
        await eventually(first.sees())
        second = Viewer(it.relay, "ben")
        it.events.offers["ben"] = second
        await it.relay.subscribe(ROOM, "ben", fresh=True)
        await eventually(second.sees())
        await eventually(lambda: first.pc.connectionState == "closed")
        await second.pc.close()


# ---- connectivity ----


async def test_silence_disconnects_and_a_check_brings_it_back_then_it_is_closed() -> None:
    proxy = LossyProxy(("127.0.0.1", 0))
    await proxy.open()
    try:
        async with lab(announced_port=proxy.port, disconnected_after_s=1.0, closed_after_s=12.0, linger_s=0.2) as it:
            proxy.upstream = it.relay.bound[0]
            await it.publisher("anna")
            await eventually(lambda: len(it.events.of(TrackAdded)) == 2)
            proxy.blocked = True
            await eventually(lambda: it.events.states("anna", "publish")[-1] == "disconnected")
            proxy.blocked = False
            await eventually(lambda: it.events.states("anna", "publish")[-1] == "connected")
            proxy.blocked = True
            await eventually(lambda: it.events.states("anna", "publish")[-1] == "closed", within_s=60)
            await eventually(lambda: len(it.events.of(TrackRemoved)) == 2)
            assert it.relay.snapshot()["transports"]["connected"] == 0
    finally:
        proxy.close()


async def test_a_route_through_a_turn_server_is_named() -> None:
    async with lab(turn_hosts=("localhost", *machine_addresses(), "no-such-host.invalid")) as it:
        await it.publisher("anna")
        await eventually(lambda: it.events.of(TransportChanged, state="connected", route="relayed"))


async def test_whip_restart_by_patch() -> None:
    async with lab() as it:
        anna = await it.publisher("anna")
        await eventually(lambda: it.events.states("anna", "publish")[-1] == "connected")
        own = re.search(r"a=ice-ufrag:(\S+)", anna.pc.localDescription.sdp)
        assert own is not None
        trickled = f"a=ice-ufrag:{own[1]}\r\na=ice-pwd:{'p' * 24}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        assert await it.relay.add_candidates(ROOM, "anna", "publish", trickled) == ""
        restart = trickled.replace(own[1], "fresh123")
        fragment = await it.relay.add_candidates(ROOM, "anna", "publish", restart)
        ufrag = re.search(r"a=ice-ufrag:(\S+)", fragment)
        password = re.search(r"a=ice-pwd:(\S+)", fragment)
        assert ufrag is not None
        assert password is not None
        assert "a=candidate:" in fragment
        with stranger() as client:  # the same peer on another network, with the new credentials
            check = stun.binding_request(
                os.urandom(12), f"{ufrag[1]}:fresh123", password[1].encode(), use_candidate=True
            )
            client.sendto(check, it.relay.bound[0])
            loop = asyncio.get_running_loop()
            reply = stun.parse(await asyncio.wait_for(loop.sock_recv(client, 2048), 10))
            assert reply.mapped_address() == client.getsockname()
        with pytest.raises(RelayError, match="no_participant"):
            await it.relay.add_candidates(ROOM, "anna", "subscribe", restart)


# ---- what must not get through ----


async def test_another_certificate_than_the_sdp_names_is_refused() -> None:
    def other(offer: str) -> str:
        return (
            re.sub(r"(a=fingerprint:sha-256 )\S+", r"\g<1>" + ":".join(["AB"] * 32), offer)
            .replace("a=fingerprint:sha-384", "a=x-one:")
            .replace("a=fingerprint:sha-512", "a=x-two:")
        )

    async with lab() as it:
        await it.publisher("anna", change_offer=other)
        await eventually(lambda: it.events.states("anna", "publish")[-1] == "closed")
        snapshot = it.relay.snapshot()
        assert snapshot["handshakes"] == {"started": 1, "failed": 1}
        assert it.events.of(TrackAdded) == []


async def test_sprayed_strangers_change_nothing_for_handshakes_and_calls() -> None:
    """The four defects of reference: an empty datagram, foreign alerts and hellos during the handshake, a
    flood before the connection, and reflection."""
    async with lab() as it:
        viewer = await it.viewer("ben")
        target = it.relay.bound[0]
        noise = [stranger() for _ in range(4)]
        alert = bytes.fromhex("15fefd0000000000000000000202") + b"\x28"
        hello = bytes.fromhex("16fefd0000000000000000") + (80).to_bytes(2, "big") + b"\x01" + os.urandom(79)
        plain_check = bytes.fromhex("000100002112a442") + os.urandom(12)
        media = b"\x80\x60" + os.urandom(60)
        spraying = True

        async def spray() -> int:
            sent = 0
            while spraying:
                for one in noise:
                    for datagram in (b"", alert, hello, plain_check, media, os.urandom(40)):
                        try:
                            one.sendto(datagram, target)
                            sent += 1
                        except BlockingIOError:
                            pass
                await asyncio.sleep(0.002)
            return sent

        task = asyncio.create_task(spray())
        for name in ("a", "b", "c", "d", "e"):
            await it.publisher(name)
        await eventually(lambda: all(it.events.states(name, "publish")[-1] == "connected" for name in "abcde"), 60)
        await eventually(viewer.sees(20), 60)
        spraying = False
        assert await task > 500  # the premise
        dropped = it.relay.snapshot()["dropped"]
        assert dropped["empty"] > 50
        assert dropped["dtls_unknown_source"] > 50
        for one in noise:
            with pytest.raises(BlockingIOError):
                one.recv(2048)  # nobody was answered anything
            one.close()
        assert "upkeep_error" not in dropped
        assert "control_error" not in dropped


async def test_a_stranger_with_the_user_name_but_not_the_password_moves_nothing() -> None:
    async with lab() as it:
        viewer = await it.viewer("ben")
        anna = await it.publisher("anna")
        await eventually(viewer.sees())
        ufrag = re.search(r"a=ice-ufrag:(\S+)", anna.pc.remoteDescription.sdp)
        assert ufrag is not None
        with stranger() as thief:
            for _ in range(50):
                check = stun.binding_request(os.urandom(12), f"{ufrag[1]}:x", b"guess" * 5, use_candidate=True)
                thief.sendto(check, it.relay.bound[0])
            await eventually(viewer.sees(10))
            with pytest.raises(BlockingIOError):
                thief.recv(2048)
        assert it.relay.snapshot()["dropped"]["bad_integrity"] == 50


async def test_handshakes_are_capped_and_time_out() -> None:
    async with lab(handshakes_max=1, handshake_timeout_s=0.5) as it:
        pc = RTCPeerConnection()
        pc.addTrack(AudioStreamTrack())
        await pc.setLocalDescription(await pc.createOffer())
        answer = await it.relay.publish(ROOM, "slow", pc.localDescription.sdp, {})
        await pc.close()
        ufrag, password = (
            found[1]
            for found in (re.search(rf"a=ice-{name}:(\S+)", answer) for name in ("ufrag", "pwd"))
            if found is not None
        )
        with stranger() as client:  # it proves its address, says half a hello and no more
            check = stun.binding_request(os.urandom(12), f"{ufrag}:x", password.encode(), use_candidate=True)
            client.sendto(check, it.relay.bound[0])
            client.sendto(bytes.fromhex("16fefd0000000000000000") + b"\x00\x04\x01\x00\x00\x00", it.relay.bound[0])
            await eventually(lambda: it.relay.snapshot()["handshakes"].get("started") == 1)
            await it.publisher("anna")  # waits for its turn: the first one holds the only place
            await eventually(lambda: it.events.states("anna", "publish")[-1] == "connected", 60)
        assert it.events.states("slow", "publish")[-1] == "closed"
        handshakes = it.relay.snapshot()["handshakes"]
        assert handshakes["succeeded"] == 1
        assert handshakes.get("timeout", 0) + handshakes.get("failed", 0) == 1


async def test_damaged_descriptions_end_in_an_answer_or_in_a_relay_error_and_leave_nothing() -> None:
    folder = Path(__file__).parents[1] / "unit" / "media" / "sdp"
    offers = [path.read_text() for path in sorted(folder.glob("*.sdp"))]
    assert len(offers) >= 3
    async with lab(room_idle_s=0.1) as it:
        relay = it.relay
        await it.publisher("real")
        await eventually(lambda: len(it.events.of(TrackAdded)) == 2)
        outcomes: Counter[str] = Counter()

        async def attempt(command: Awaitable[Any]) -> None:
            try:
                await command
                outcomes["taken"] += 1
            except RelayError as error:
                outcomes[error.code] += 1

        for seed in range(150):
            text = mutated(offers[seed % len(offers)], seed, 1 + seed % 7)
            await attempt(relay.publish(ROOM, "hostile", text, {"0": "camera", "9": "screen"}))
            await attempt(relay.watch(ROOM, "hostile", "real", text))
            await relay.subscribe(ROOM, "hostile", fresh=True)
            latest = it.events.of(SubscribeOffer, participant="hostile")[-1]
            answer = mutated(latest.offer.replace("setup:actpass", "setup:active"), seed, seed % 5)
            await attempt(relay.answer(ROOM, "hostile", latest.revision, answer))
            await attempt(relay.add_candidates(ROOM, "hostile", "publish", text))
        assert set(outcomes) <= {"taken", "bad_sdp", "no_participant", "too_many"}
        assert outcomes["taken"] > 50  # the premise: the damage is not all fatal
        assert outcomes["bad_sdp"] > 50
        await relay.leave(ROOM, "hostile")
        await asyncio.sleep(0.2)
        assert relay.snapshot()["transports"] == {"connecting": 0, "connected": 1, "disconnected": 0}
        assert len(relay._core.ice._by_ufrag) == 2  # the real publisher's and the self-probe's


# ---- commands ----


async def test_errors_have_their_codes() -> None:
    async with lab(participants_per_room_max=2, rooms_max=1, tracks_per_participant_max=2) as it:
        relay = it.relay
        candidates = "a=ice-ufrag:abcd\na=ice-pwd:" + "p" * 24

        async def code_of(command: Awaitable[Any]) -> str:
            with pytest.raises(RelayError) as caught:
                await command
            return caught.value.code

        assert await code_of(relay.publish(ROOM, "x", "v=0", {})) == "bad_sdp"
        assert await code_of(relay.answer("nowhere", "x", 1, "v=0")) == "no_room"
        assert await code_of(relay.subscribe("a room", "x")) == "no_room"
        assert await code_of(relay.subscribe(ROOM, "x y")) == "no_participant"
        await relay.subscribe(ROOM, "one")
        await relay.subscribe(ROOM, "two")
        assert await code_of(relay.subscribe(ROOM, "three")) == "too_many"
        assert await code_of(relay.subscribe("another", "one")) == "too_many"
        assert await code_of(relay.answer(ROOM, "one", 7, "v=0")) == "stale_revision"
        assert await code_of(relay.set_paused(ROOM, "one", "none", True)) == "no_track"
        assert await code_of(relay.restart_subscribe(ROOM, "nobody")) == "no_participant"
        assert await code_of(relay.add_candidates(ROOM, "one", "publish", candidates)) == "no_participant"
        await relay.leave(ROOM, "nobody")
        await relay.leave("nowhere", "nobody")
        await relay.close_room("nowhere")
        await relay.close_room(ROOM)
        assert it.events.of(RoomClosed, room=ROOM)
        assert relay.snapshot()["rooms"] == 0


async def test_an_empty_room_is_dropped_after_a_while() -> None:
    async with lab(room_idle_s=0.1) as it:
        await it.relay.subscribe(ROOM, "anna")
        await it.relay.leave(ROOM, "anna")
        await eventually(lambda: it.events.of(RoomClosed, room=ROOM))


async def test_a_waiting_viewer_is_not_dropped_for_having_no_connection() -> None:
    async with lab(room_idle_s=0.1, connect_timeout_s=0.5) as it:
        viewer = await it.viewer("ben")
        await asyncio.sleep(2.5)
        assert it.relay.snapshot()["participants"] == 1
        await it.publisher("anna")
        await eventually(viewer.sees())


async def test_stop_tells_the_hub_first_and_says_goodbye_to_the_browsers() -> None:
    async with lab() as it:
        anna = await it.publisher("anna")
        await eventually(lambda: it.events.states("anna", "publish")[-1] == "connected")
        stopping = asyncio.create_task(it.relay.stop(grace_s=0.3))
        await eventually(lambda: it.events.of(RelayStopping))
        with pytest.raises(RelayError, match="draining"):
            await it.relay.subscribe(ROOM, "ben")
        await stopping
        await eventually(lambda: anna.pc.connectionState == "closed")
        with stranger() as again:  # the port is free again
            again.close()
        rebound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rebound.bind(it.relay.bound[0])
        rebound.close()


async def test_health_is_lost_when_the_port_does_not_answer() -> None:
    async with lab(probe_interval_s=0.2) as it:
        assert it.relay.healthy()
        loop = asyncio.get_running_loop()
        for one in it.relay._port.sockets:
            loop.remove_reader(one.fileno())
        await eventually(lambda: not it.relay.healthy())
        await eventually(lambda: it.relay.snapshot()["probe_failures"] > 0)


async def test_the_default_addresses_are_loopback_and_the_machines_own() -> None:
    relay = await start(RelaySettings(port=0))
    try:
        ports = {port for _, port in relay.addresses}
        assert ("127.0.0.1", ports.pop()) in relay.addresses
        assert not ports  # one port on all of them
    finally:
        await relay.stop()


async def test_a_taken_port_is_an_error_at_start() -> None:
    async with lab() as it:
        with pytest.raises(OSError, match="in use"):
            await start(RelaySettings(port=it.relay.bound[0][1], announced_ips=("127.0.0.1",)))
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        await start(RelaySettings(port=0, announced_ips=("example.org",)))


async def test_nothing_is_left_of_those_who_left() -> None:
    async with lab(room_idle_s=0.2) as it:
        for round_number in range(3):
            publisher = await it.publisher(f"anna{round_number}")
            viewer = await it.viewer(f"ben{round_number}")
            watcher = await it.watcher(f"whep{round_number}", f"anna{round_number}")
            await eventually(viewer.sees())
            await eventually(watcher.sees())
            for name in ("ben", "whep", "anna"):
                await it.relay.leave(ROOM, f"{name}{round_number}")
            for one in (publisher, viewer, watcher):
                await one.pc.close()
        await eventually(lambda: it.events.of(RoomClosed, room=ROOM))
        relay = it.relay
        assert relay._rooms.owners == {}
        assert relay._rooms.track_owners == {}
        assert relay._rooms._due == {}
        # only the self-probe's own
        assert {agent.transport for agent in relay._core.ice._by_path.values()} <= {PROBE_TRANSPORT}
        assert len(relay._core.ice._by_ufrag) == 1
        assert relay._core.handshakes_running == 0
        assert relay._plane._transports == {}
        assert relay._plane._tracks == {}
        assert relay._plane._subscriptions == {}


async def test_offers_wait_for_the_answer_and_then_tell_everything() -> None:
    async with lab() as it:
        await it.relay.subscribe(ROOM, "ben")  # nobody answers its offers yet
        await it.publisher("anna")
        await eventually(lambda: it.events.of(SubscribeOffer))
        await it.publisher("clara")
        await eventually(lambda: len(it.events.of(TrackAdded)) == 4)
        await asyncio.sleep(0.3)
        first = it.events.of(SubscribeOffer)
        assert len(first) == 1
        viewer = Viewer(it.relay, "ben")
        it.events.offers["ben"] = viewer
        # The page came back: the offer is made anew, with all there is now; the old one is stale.
        await it.relay.subscribe(ROOM, "ben")
        # aiortc itself mixes up several tracks of a kind that flow already when it connects.
        await eventually(lambda: sum(viewer.frames.values()) > 20)
        latest = it.events.of(SubscribeOffer)[-1]
        assert latest.revision == 2
        assert len(latest.tracks) == 4
        with pytest.raises(RelayError, match="stale_revision"):
            await it.relay.answer(ROOM, "ben", 1, viewer.pc.localDescription.sdp)
        await viewer.pc.close()


async def test_a_camera_that_pauses_at_the_viewer_costs_nothing_and_comes_back() -> None:
    async with lab() as it:
        viewer = await it.viewer("ben")
        await it.publisher("anna")
        await eventually(viewer.sees())
        camera = next(e.track for e in it.events.of(TrackAdded) if e.track.kind == "video")
        await it.relay.set_paused(ROOM, "ben", camera.id, True)
        await asyncio.sleep(0.5)
        before = viewer.frames["video"]
        sound = viewer.frames["audio"]
        await eventually(lambda: viewer.frames["audio"] > sound + 25)
        assert viewer.frames["video"] <= before + 1
        await it.relay.set_paused(ROOM, "ben", camera.id, False)
        await eventually(viewer.sees())
