"""The hub over real WebSockets, with an admission, a record and a relay in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from media.api import (
    QualitySample,
    RelayError,
    RelayStopping,
    RoomClosed,
    SubscribeOffer,
    Track,
    TrackAdded,
    TransportChanged,
)
from signaling.directory import Board, LocalDirectory
from signaling.hub import Hub, HubLimits
from signaling.relay_pool import LocalPool
from signaling.turn import ice_servers
from tests.integration.hub_pages import ORIGIN, House, call, eventually, house
from tests.unit.signaling.fakes import FakeAdmission, FakeRecord, FakeRelay, grant


@pytest.fixture
def relay() -> FakeRelay:
    return FakeRelay()


@pytest.fixture
async def place(relay: FakeRelay) -> AsyncIterator[House]:
    admission, record = FakeAdmission(), FakeRecord()
    directory = LocalDirectory("web", "i1", board=Board())
    await directory.start()
    hub = Hub(
        directory=directory,
        pool=LocalPool(relay),
        admission=admission,
        record=record,
        ice_servers=ice_servers(["stun:stun.example", "turn:turn.example"], "secret"),
        public_url=ORIGIN,
        limits=HubLimits(sockets_per_address=12, opens_at_once=1_000),
    )
    async with house(hub, admission, record) as built:
        yield built
    await directory.stop()


async def test_a_client_waits_until_the_specialist_admits(place: House) -> None:
    client = await place.join("client")
    assert client.welcome["you"]["presence"] == "waiting"
    assert client.welcome["media_session"] == ""
    doctor = await place.join("doctor", "specialist")
    assert [(who["id"], who["admitted"]) for who in doctor.welcome["participants"]] == [("client", False)]
    assert await place.hub.waiting(["c1", "unknown"]) == {
        "c1": [("client", "Client", (await place.hub.waiting(["c1"]))["c1"][0][2])]
    }
    assert (await client.request("publish", offer="v=0", sources={}))["code"] == "not_admitted"
    assert (await doctor.request("admit", participant="client"))["type"] == "done"
    admitted = await client.until("admitted")
    assert admitted["media_session"] == doctor.welcome["media_session"] != ""
    assert (await client.until("started"))["started_at"]
    await eventually(lambda: "started" in place.record.kinds())
    assert place.record.kinds("client") == ["waiting", "admitted", "joined"]
    assert ("admitted", "c1", "client") in place.admission.notes
    assert place.hub.snapshot().joined == 2


async def test_media_is_negotiated_through_the_relay(place: House, relay: FakeRelay) -> None:
    doctor, _ = await call(place)
    answer = await doctor.request("publish", offer="v=0 publish", sources={"0": "microphone"})
    assert answer == {"type": "published", "request": answer["request"], "answer": "answer to v=0 publish"}
    await doctor.send("subscribe", request=900, fresh=True)
    offer = await doctor.until("offer")
    done = await doctor.request("answer", revision=offer["revision"], answer="v=0 answer")
    assert done["type"] == "done"
    assert ("subscribe", "c1", "doctor", "fresh") in relay.calls
    assert ("answer", "c1", "doctor", str(offer["revision"])) in relay.calls


async def test_a_relay_error_is_answered_with_its_code(place: House, relay: FakeRelay) -> None:
    doctor, _ = await call(place)
    relay.fail = RelayError("bad_sdp", "no fingerprint")
    error = await doctor.request("publish", offer="v=0", sources={})
    assert (error["type"], error["code"], error["message"]) == ("error", "bad_sdp", "no fingerprint")
    relay.fail = RelayError("draining", "")
    assert (await doctor.request("publish", offer="v=0", sources={}))["code"] == "media_unavailable"


async def test_a_slow_relay_command_of_one_holds_nobody_else_up(place: House, relay: FakeRelay) -> None:
    doctor, client = await call(place)
    relay.delay_s = 3600
    await doctor.send("publish", request=7, offer="v=0", sources={})
    await eventually(lambda: any(call[0] == "publish" for call in relay.calls))
    relay.delay_s = 0
    assert (await client.request("publish", offer="v=0", sources={}))["type"] == "published"
    line = {"id": "l1", "text": "still here"}
    assert (await doctor.request("send_chat", **line))["type"] == "done"


async def test_what_the_relay_tells_reaches_the_log(place: House, relay: FakeRelay) -> None:
    _doctor, client = await call(place)
    relay.emit(
        TransportChanged(room="c1", participant="client", direction="publish", state="connected", route="relayed")
    )
    track = Track(id="t1", participant="client", kind="video", source="camera", codec="VP8")
    relay.emit(TrackAdded(room="c1", track=track))
    relay.emit(TrackAdded(room="c1", track=track))
    relay.emit(
        QualitySample(
            room="c1",
            participant="client",
            direction="publish",
            kind="video",
            source="camera",
            codec="VP8",
            interval_ms=5_000,
            bitrate_bps=900_000,
            packets=500,
            packets_lost=5,
            loss=0.01,
            jitter_ms=3.5,
            rtt_ms=21.0,
        )
    )
    sample = {"direction": "subscribe", "kind": "video", "source": "camera", "bitrate_bps": 800_000, "width": 640}
    await client.send("stats", samples=[sample])
    await eventually(lambda: len(place.record.samples) == 2)
    assert [(who, by, kept.bitrate_bps) for who, by, kept in place.record.samples] == [
        ("client", "relay", 900_000),
        ("client", "browser", 800_000),
    ]
    assert [event[2:] for event in place.record.events if event[2] in ("route", "codec")] == [
        ("route", "relayed"),
        ("codec", "VP8"),
    ]


async def test_a_malformed_message_is_answered_and_closes_nothing(place: House) -> None:
    doctor = await place.join("doctor", "specialist")
    for frame, code in [
        ("{", "malformed"),
        ('{"type": "fly"}', "unknown_type"),
        ('{"type": "ping", "n": 1, "n": 2}', "malformed"),
        ('{"type": "ping", "n": 1, "more": 2}', "malformed"),
        ("[" * 60_000, "malformed"),
        ('"' + "x" * 70_000 + '"', "too_large"),
    ]:
        await doctor.socket.send_str(frame)
        assert (await doctor.until("error"))["code"] == code
    await doctor.socket.send_bytes(b"\xff\xfe")
    assert (await doctor.until("error"))["code"] == "malformed"
    await doctor.send("ping", n=3)
    assert (await doctor.until("pong"))["n"] == 3


async def test_a_flood_is_warned_and_then_cut_off_while_others_go_on(place: House) -> None:
    doctor, client = await call(place)
    for number in range(600):
        try:
            await client.send("ping", n=number)
        except ConnectionError:
            break
    assert await client.closed() == 1008
    assert any(message.get("code") == "too_fast" for message in client.seen)
    await doctor.send("ping", n=1)
    assert (await doctor.until("pong"))["n"] == 1


@pytest.mark.parametrize("origin", ["https://evil.example", "http://consult.example", ""])
async def test_a_foreign_origin_is_refused(place: House, origin: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await place.open(origin)
    assert refused.value.status == 403


async def test_a_ticket_works_once(place: House) -> None:
    page = await place.open()
    ticket = place.admission.ticket(grant("client", live=True))
    await page.send("join", ticket=ticket)
    await page.until("welcome")
    thief = await place.open()
    await thief.send("join", ticket=ticket)
    assert (await thief.until("error"))["code"] == "bad_ticket"
    assert await thief.closed() == 1008


async def test_the_first_message_is_join_or_resume(place: House) -> None:
    page = await place.open()
    await page.send("ping", n=1)
    assert (await page.until("error"))["code"] == "join_first"
    assert await page.closed() == 1008
    silent = await place.open()
    assert await silent.closed() == 1008
    assert silent.seen[-1]["code"] == "join_first"


async def test_a_lost_socket_is_reconnecting_and_resumes_without_losing_the_place(place: House) -> None:
    doctor, client = await call(place)
    await client.socket.close()
    await doctor.presence("client", "reconnecting")
    await doctor.request("send_chat", id="while-away", text="are you there?")
    again = await place.resume(client)
    assert again.welcome["type"] == "welcome"
    assert again.welcome["resumed"] is True
    assert again.welcome["you"]["presence"] == "joined"
    assert again.welcome["media_session"] == doctor.welcome["media_session"]
    assert [line["text"] for line in again.welcome["chat"]] == ["are you there?"]
    await doctor.presence("client", "joined")
    await eventually(lambda: place.record.kinds("client")[-2:] == ["reconnecting", "reconnected"])


async def test_a_resume_replaces_a_socket_that_died_without_a_sign(place: House) -> None:
    doctor, client = await call(place)
    again = await place.resume(client)
    assert again.welcome["resumed"] is True
    assert await client.closed() == 1000
    assert not any(message["type"] == "ended" for message in client.seen)
    await again.request("send_chat", id="l1", text="back")
    assert (await doctor.until("chat"))["line"]["text"] == "back"


async def test_a_wrong_resume_token_is_refused(place: House) -> None:
    await call(place)
    for token in ["c1.client.wrongwrongwrongwrong", "c9.client.wrongwrongwrongwrong", "no-dots-in-here-at-all"]:
        page = await place.open()
        await page.send("resume", token=token)
        assert (await page.until("error"))["code"] == "bad_resume"
        assert await page.closed() == 1008


async def test_an_unanswered_offer_is_sent_again_after_a_resume(place: House) -> None:
    doctor, _ = await call(place)
    await doctor.send("subscribe", request=5)
    offer = await doctor.until("offer")
    again = await place.resume(doctor)
    assert (await again.until("offer"))["revision"] == offer["revision"]


async def test_a_second_tab_takes_the_place_of_the_first(place: House) -> None:
    doctor, client = await call(place)
    second = await place.join("client")
    assert second.welcome["you"]["admitted"] is True
    assert (await client.until("ended"))["reason"] == "replaced"
    assert await client.closed() == 1000
    await eventually(lambda: "reconnected" in place.record.kinds("client"))
    assert not any(message["type"] == "participant_left" for message in doctor.seen)


async def test_chat_is_acknowledged_once_kept_and_the_same_id_is_the_same_line(place: House) -> None:
    doctor, client = await call(place)
    place.record.broken = True
    error = await client.request("send_chat", id="l1", text="hello")
    assert (error["type"], error["code"]) == ("error", "unavailable")
    place.record.broken = False
    for _ in range(2):
        assert (await client.request("send_chat", id="l1", text="hello"))["type"] == "done"
    assert (await doctor.request("send_chat", id="l1", text="mine"))["code"] == "not_allowed"
    assert [line.text for line in place.record.lines.values()] == ["hello"]
    assert sum(message["type"] == "chat" for message in doctor.seen) == 1


async def test_events_survive_a_record_that_is_away_for_a_while(place: House) -> None:
    doctor = await place.join("doctor", "specialist")
    place.record.broken = True
    client = await place.join("client")
    await doctor.request("admit", participant="client")
    await client.until("admitted")
    place.record.broken = False
    await eventually(lambda: place.record.kinds("client") == ["waiting", "admitted", "joined"])


async def test_finish_ends_it_for_everybody_and_for_good(place: House, relay: FakeRelay) -> None:
    doctor, client = await call(place)
    assert (await client.request("finish"))["code"] == "not_allowed"
    await doctor.send("finish", request=1)
    for page in (doctor, client):
        assert (await page.until("ended"))["reason"] == "finished"
        assert await page.closed() == 1000
    await eventually(lambda: ("finished", "c1", "") in place.admission.notes)
    await eventually(lambda: ("close_room", "c1") in relay.calls)
    page = await place.open()
    await page.send("join", ticket=place.admission.ticket(grant("client", live=True)))
    assert (await page.until("error"))["code"] == "closed"
    await eventually(lambda: place.hub.snapshot().rooms == 0)


async def test_hanging_up_is_not_the_end(place: House, relay: FakeRelay) -> None:
    doctor, client = await call(place)
    await client.send("leave")
    assert (await client.until("ended"))["reason"] == "left"
    assert (await doctor.until("participant_left"))["reason"] == "left"
    assert ("close_room", "c1") not in relay.calls
    back = await place.join("client", admitted=True)
    assert back.welcome["you"]["presence"] == "joined"
    await doctor.presence("client", "joined")


async def test_a_cancelled_consultation_ends_the_waiting(place: House) -> None:
    client = await place.join("client")
    await place.hub.end("c1", "cancelled")
    assert (await client.until("ended"))["reason"] == "cancelled"


async def test_a_relay_that_drops_the_room_or_drains_gives_a_new_media_session(place: House, relay: FakeRelay) -> None:
    doctor, client = await call(place)
    sessions = {doctor.welcome["media_session"]}
    for event in (RoomClosed(room="c1"), RelayStopping()):
        relay.emit(event)
        reset = await doctor.until("media_reset")
        assert (await client.until("media_reset")) == reset
        sessions.add(reset["media_session"])
    assert len(sessions) == 3
    await eventually(lambda: place.record.kinds().count("media_restarted") == 2)


async def test_turn_credentials_are_renewed_on_request(place: House) -> None:
    doctor = await place.join("doctor", "specialist")
    assert doctor.welcome["ice_servers"][0]["urls"] == ["stun:stun.example"]
    servers = await doctor.request("get_ice_servers")
    assert servers["ice_servers"][1]["username"].endswith(":doctor")


async def test_sockets_per_address_are_capped(place: House) -> None:
    pages = [await place.open() for _ in range(12)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await place.open()
    assert refused.value.status == 429
    await pages[0].socket.close()
    await eventually(lambda: place.hub.snapshot().sockets == 11)
    await place.open()


async def test_a_graceful_stop_tells_everyone_that_the_server_restarts(place: House) -> None:
    doctor, client = await call(place)
    await doctor.request("send_chat", id="l1", text="kept")
    await place.hub.stop()
    for page in (doctor, client):
        assert (await page.until("ended"))["reason"] == "server"
        assert await page.closed() == 1012
    assert "left" not in place.record.kinds()


async def test_a_reader_who_does_not_read_is_cut_off(place: House, relay: FakeRelay) -> None:
    doctor, client = await call(place)
    transport = client.socket._conn.transport  # type: ignore[union-attr]
    assert transport is not None
    transport.pause_reading()
    for revision in range(400):  # 24 MB: more than the kernel's buffers and the hub's queue together
        offer = "x" * 60_000
        relay.emit(SubscribeOffer(room="c1", participant="client", revision=revision, offer=offer, tracks={}))
        await asyncio.sleep(0)
    await doctor.presence("client", "reconnecting")
    await doctor.send("ping", n=1)
    assert (await doctor.until("pong"))["n"] == 1


async def test_coming_and_going_quickly_loses_nobody(place: House) -> None:
    for number in range(30):
        page = await place.join(f"p{number}", "participant")
        await page.send("leave")
        assert (await page.until("ended"))["reason"] == "left"
    await eventually(lambda: place.hub.snapshot().rooms == 0)
    assert place.record.kinds().count("joined") == place.record.kinds().count("left") == 30


async def test_a_hub_that_is_stopping_takes_no_sockets(place: House) -> None:
    await place.hub.stop()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await place.open()
    assert refused.value.status == 503


async def test_a_record_that_is_away_keeps_a_room_closed_until_it_is_back(place: House) -> None:
    place.record.broken = True
    page = await place.open()
    await page.send("join", ticket=place.admission.ticket(grant("doctor", "specialist", live=True)))
    assert (await page.until("error"))["code"] == "unavailable"
    assert await page.closed() == 1008
    place.record.broken = False
    assert (await place.join("doctor", "specialist")).welcome["you"]["admitted"] is True
