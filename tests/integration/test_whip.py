"""Devices over WHIP and WHEP against the running app, with aiortc as the device."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack, VideoStreamTrack

from tests.site import Client, Site, open_site
from web.keys import HUB

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
PATIENCE_S = 30
ORIGIN = "http://localhost:8080"  # the public URL of an unset environment


@pytest.fixture
async def site(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Site]:
    path = tmp_path / "consult.sqlite3"
    path.write_bytes(sqlite_template.read_bytes())
    async with open_site(f"sqlite+aiosqlite:///{path}", tmp_path) as site:
        site.real_time = True
        site.now = datetime.now(UTC)
        yield site


@dataclass
class Room:
    """An open consultation and the way to get seats in it."""

    client: Client
    id: str
    api: dict[str, str]

    async def seat(self, name: str, role: str = "participant") -> Seat:
        answer = await self.client.post(
            f"/api/v1/consultations/{self.id}/tokens", json={"role": role, "name": name}, headers=self.api
        )
        given = await answer.json()
        return Seat(given["participant"], {"Authorization": f"Bearer {given['token']}"})

    async def log(self) -> dict[str, Any]:
        answer = await self.client.get(f"/api/v1/consultations/{self.id}", headers=self.api)
        return dict(await answer.json())


@dataclass
class Seat:
    id: str
    headers: dict[str, str]


async def open_room(site: Site, encryption: str = "transport") -> Room:
    client = await site.client()
    api = {"Authorization": f"Bearer {await site.api_token()}"}
    opened = await client.post("/api/v1/consultations", json={"encryption": encryption}, headers=api)
    return Room(client, (await opened.json())["id"], api)


@asynccontextmanager
async def publishing() -> AsyncIterator[RTCPeerConnection]:
    """A device with a camera and a microphone, its offer set."""
    peer = RTCPeerConnection()
    peer.addTrack(AudioStreamTrack())
    peer.addTrack(VideoStreamTrack())
    for one in peer.getTransceivers():
        one.direction = "sendonly"
    await peer.setLocalDescription(await peer.createOffer())
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def watching() -> AsyncIterator[RTCPeerConnection]:
    peer = RTCPeerConnection()
    peer.addTransceiver("audio", direction="recvonly")
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    try:
        yield peer
    finally:
        await peer.close()


async def post(room: Room, path: str, seat: Seat, peer: RTCPeerConnection) -> ClientResponse:
    """Offer and, if it is taken, apply the answer."""
    response = await room.client.post(path, data=peer.localDescription.sdp, headers={**SDP, **seat.headers})
    if response.status == 201:
        await peer.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
    return response


async def frames(track: MediaStreamTrack, count: int) -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            try:
                found.append(await track.recv())
            except MediaStreamError:
                break
    return found


async def eventually(question: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await question():
            await asyncio.sleep(0.1)


async def test_a_viewer_sees_and_hears_what_a_device_publishes(site: Site) -> None:
    room = await open_room(site)
    camera, viewer = await room.seat("Camera 1"), await room.seat("Wall screen", "viewer")
    async with publishing() as source, watching() as screen:
        published = await post(room, f"/whip/{room.id}", camera, source)
        assert published.status == 201, await published.text()
        assert published.content_type == "application/sdp"
        assert published.headers["ETag"]
        assert published.headers["Location"].startswith(f"/whip/{room.id}/session/")
        watched = await post(room, f"/whep/{room.id}/{camera.id}", viewer, screen)
        assert watched.status == 201, await watched.text()
        tracks = {one.receiver.track.kind: one.receiver.track for one in screen.getTransceivers()}
        video, audio = await asyncio.gather(frames(tracks["video"], 10), frames(tracks["audio"], 20))
        assert len(video) == 10
        assert video[0].width == 640
        assert len(audio) == 20

        # both are participants of the session like everybody
        ended = await room.client.delete(watched.headers["Location"], headers=viewer.headers)
        assert ended.status == 200
        ended = await room.client.delete(published.headers["Location"], headers=camera.headers)
        assert ended.status == 200
        gone = await room.client.delete(published.headers["Location"], headers=camera.headers)
        assert gone.status == 404

    async def all_left() -> bool:
        people = (await room.log())["participants"]
        return all(one["joins"] and one["joins"][-1]["left_at"] for one in people)

    await eventually(all_left)
    log = await room.log()
    assert {one["name"]: one["route"] for one in log["participants"]} == {"Camera 1": "udp", "Wall screen": "udp"}


async def test_a_browser_in_the_room_is_told_of_a_device(site: Site) -> None:
    room = await open_room(site)
    camera, person = await room.seat("Camera 1"), await room.seat("Jordan")
    token = person.headers["Authorization"].removeprefix("Bearer ")
    ticket = await room.client.post(f"/join/{room.id}/ticket", json={"token": token})
    assert ticket.status == 200, await ticket.text()
    async with room.client.ws_connect("/ws", headers={"Origin": ORIGIN}) as socket:
        await socket.send_json({"type": "join", "ticket": (await ticket.json())["ticket"]})
        assert (await socket.receive_json(timeout=PATIENCE_S))["type"] == "welcome"
        await socket.send_json({"type": "subscribe", "request": 1})
        async with publishing() as source:
            assert (await post(room, f"/whip/{room.id}", camera, source)).status == 201
            told: dict[str, Any] = {}
            async with asyncio.timeout(PATIENCE_S):
                while not {"participant_changed", "offer"} <= set(told) or not told["offer"]["tracks"]:
                    message = await socket.receive_json()
                    if message["type"] == "ping":
                        continue
                    told[message["type"]] = message
                    await socket.send_json({"type": "ping", "n": 1})
        assert told["participant_changed"]["participant"]["name"] == "Camera 1"
        assert {one["participant"] for one in told["offer"]["tracks"].values()} == {camera.id}


async def test_candidates_and_restarts_are_patched(site: Site) -> None:
    room = await open_room(site)
    camera, stranger = await room.seat("Camera 1"), await room.seat("Camera 2")
    async with publishing() as source:
        answer = await post(room, f"/whip/{room.id}", camera, source)
        location, etag = answer.headers["Location"], answer.headers["ETag"]
        offer = source.localDescription.sdp
        ufrag = re.search(r"a=ice-ufrag:(\S+)", offer)
        password = re.search(r"a=ice-pwd:(\S+)", offer)
        assert ufrag is not None
        assert password is not None
        trickle = (
            f"a=ice-ufrag:{ufrag[1]}\r\na=ice-pwd:{password[1]}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
            "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host\r\na=end-of-candidates\r\n"
        )

        async def patch(fragment: str, **headers: str) -> ClientResponse:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await room.client.patch(location, data=fragment, headers={**FRAGMENT, **camera.headers, **named})

        assert (await patch(trickle)).status == 428
        assert (await patch(trickle, If_Match='"another"')).status == 412
        taken = await patch(trickle, If_Match=etag)
        assert (taken.status, taken.headers["ETag"]) == (204, etag)
        assert (await patch("nonsense", If_Match=etag)).status == 400
        assert (await patch(trickle, If_Match=etag, Content_Type="application/sdp")).status == 415
        assert (await patch(trickle, If_Match=etag, **stranger.headers)).status == 403

        restart = trickle.replace(ufrag[1], "freshfragment").replace(password[1], "p" * 24)
        restarted = await patch(restart, If_Match="*")
        assert restarted.status == 200, await restarted.text()
        assert restarted.content_type == "application/trickle-ice-sdpfrag"
        assert "a=ice-ufrag:" in await restarted.text()
        assert restarted.headers["ETag"] != etag
        assert (await patch(restart, If_Match=etag)).status == 412
        again = restart.replace("freshfragment", "fresherfragment")
        assert (await patch(again, If_Match='"*"')).status == 200, "as the RFC's example writes it"


async def test_who_may_not_connect_is_told_why(site: Site) -> None:
    room, other = await open_room(site), await open_room(site)
    private = await open_room(site, "end_to_end")
    camera, viewer = await room.seat("Camera"), await room.seat("Screen", "viewer")
    hidden = await private.seat("Camera")
    path = f"/whip/{room.id}"

    async def refused(path: str, headers: dict[str, str], body: str = "v=0\r\n") -> tuple[int, str]:
        response = await room.client.post(path, data=body, headers={**SDP, **headers})
        assert response.content_type == "application/problem+json"
        if response.status == 401:
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        return response.status, json.loads(await response.text())["code"]

    assert await refused(path, {}) == (401, "unauthorized")
    assert await refused(path, {"Authorization": "Bearer made.up"}) == (401, "unauthorized")
    assert await refused(f"/whip/{other.id}", camera.headers) == (403, "forbidden")
    assert await refused("/whip/nothing", camera.headers) == (404, "not_found")
    assert await refused(path, viewer.headers) == (403, "forbidden")
    assert await refused(f"/whip/{private.id}", hidden.headers) == (409, "end_to_end_only")
    assert await refused(f"/whep/{private.id}/{hidden.id}", hidden.headers) == (409, "end_to_end_only")
    assert await refused(f"/whep/{room.id}/nobody", viewer.headers) == (404, "not_found")
    assert await refused(f"/whep/{room.id}/{hidden.id}", viewer.headers) == (404, "not_found")
    assert await refused(path, camera.headers, "nonsense") == (400, "bad_sdp")
    assert await refused(path, camera.headers, "") == (400, "bad_sdp")
    assert await refused(path, camera.headers, "v=0\r\n" + "a" * 70_000) == (413, "too_large")
    assert await refused(path, {**camera.headers, "Content-Type": "text/plain"}) == (415, "unsupported_media_type")
    # a refused device holds no place in the room
    assert all(not one["joins"] or one["joins"][-1]["left_at"] for one in (await room.log())["participants"])
    site.real_time, site.now = False, datetime(2100, 1, 1, tzinfo=UTC)
    assert await refused(path, camera.headers) == (409, "over")


async def test_preflight_and_methods(site: Site) -> None:
    room = await open_room(site)
    for path, methods, accepts in (
        (f"/whip/{room.id}", "POST, OPTIONS", {"Accept-Post": "application/sdp"}),
        (f"/whep/{room.id}/someone", "POST, OPTIONS", {"Accept-Post": "application/sdp"}),
        (
            f"/whip/{room.id}/session/x",
            "PATCH, DELETE, OPTIONS",
            {"Accept-Patch": "application/trickle-ice-sdpfrag"},
        ),
    ):
        answer = await room.client.options(path, headers={"Origin": "https://player.example"})
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Allow-Methods"] == methods
        assert {name: answer.headers[name] for name in accepts} == accepts
        assert (await room.client.get(path)).status == 405


async def test_who_was_taken_out_does_not_publish_again(site: Site) -> None:
    """The token stays valid for the waiting room; the room decides about media."""
    room = await open_room(site)
    staying, removed = await room.seat("Staying"), await room.seat("Removed")
    async with publishing() as other, publishing() as peer:
        assert (await post(room, f"/whip/{room.id}", staying, other)).status == 201
        answer = await post(room, f"/whip/{room.id}", removed, peer)
        assert answer.status == 201
        session = answer.headers["Location"]
        await site.app[HUB].remove(room.id, removed.id, "removed")
        async with asyncio.timeout(PATIENCE_S):
            while removed.id in {seat for actor in site.app[HUB]._rooms for seat in actor.room.seats}:
                await asyncio.sleep(0.05)
        patched = await room.client.patch(
            session,
            data="a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=mid:0\r\n",
            headers={**FRAGMENT, **removed.headers, "If-Match": "*"},
        )
        assert patched.status == 404
    async with publishing() as again, watching() as viewer:
        assert (await post(room, f"/whip/{room.id}", removed, again)).status == 404
        assert (await post(room, f"/whep/{room.id}/{staying.id}", removed, viewer)).status == 404
