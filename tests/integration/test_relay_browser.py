"""Two real Chromium pages over the relay: what they decode is the judge."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, async_playwright

from media.api import QualitySample, SubscribeOffer, TrackAdded, TrackRemoved, TransportChanged
from media.relay import start
from media.settings import RelaySettings
from tests import servers
from tests.integration.relay_lab import (
    BROWSER_ARGS,
    ROOM,
    LossyProxy,
    PageServer,
    eventually,
    page_server,
)

CHROMIUM = "/usr/bin/chromium"


class Call:
    """Pages in one room of one relay."""

    def __init__(self, server: PageServer, browser: Any, proxy: LossyProxy | None) -> None:
        self.server = server
        self.relay = server.relay
        self.proxy = proxy
        self._browser = browser

    async def page(self, participant: str, **options: Any) -> Page:
        """A page that has joined."""
        context = await self._browser.new_context(permissions=["camera", "microphone"])
        page: Page = await context.new_page()
        await page.goto(f"{self.server.base_url}/?id={participant}")
        await page.evaluate("options => relayClient.join(options)", options)
        return page


@asynccontextmanager
async def call(*, loss: float | None = None, delay_s: float = 0.0, **settings: Any) -> AsyncIterator[Call]:
    """A relay (behind a bad network when `loss` is given), the page server and a browser."""
    proxy = None if loss is None else LossyProxy(("127.0.0.1", 0), loss=loss, delay_s=delay_s)
    if proxy is not None:
        await proxy.open()
    options = RelaySettings(
        port=0,
        announced_ips=("127.0.0.1",),
        announced_port=None if proxy is None else proxy.port,
        **settings,
    )
    relay = await start(options)
    if proxy is not None:
        proxy.upstream = relay.bound[0]
    try:
        async with page_server(relay) as server, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGS)
            try:
                yield Call(server, browser, proxy)
            finally:
                await browser.close()
    finally:
        await relay.stop()
        if proxy is not None:
            proxy.close()


async def inbound(page: Page, kind: str) -> list[dict[str, Any]]:
    stats = await page.evaluate("relayClient.stats()")
    return [one for one in stats["subscribed"]["inbound"] if one["kind"] == kind]


async def frames(page: Page) -> int:
    """Decoded video frames of all received tracks."""
    return sum(one.get("framesDecoded", 0) for one in await inbound(page, "video"))


async def more_frames(page: Page, count: int = 20, within_s: float = 60.0) -> None:
    """Wait until `count` more frames are decoded."""
    before = await frames(page)

    async def grown() -> bool:
        return await frames(page) >= before + count

    await eventually(grown, within_s)


async def key_frames_encoded(page: Page) -> int:
    stats = await page.evaluate("relayClient.stats()")
    return sum(one.get("keyFramesEncoded", 0) for one in stats["published"]["outbound"])


async def heard(page: Page) -> bool:
    return any(one.get("totalAudioEnergy", 0) > 0 for one in await inbound(page, "audio"))


async def test_two_browsers_see_and_hear_each_other_and_the_log_learns_of_it() -> None:
    async with call(quality_interval_s=1.0) as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        for page in (anna, ben):
            await more_frames(page)
            await eventually(lambda page=page: heard(page))
        added = {(event.track.participant, event.track.source) for event in room.server.of(TrackAdded)}
        assert added == {(who, what) for who in ("anna", "ben") for what in ("camera", "microphone")}
        for who in ("anna", "ben"):
            for direction in ("publish", "subscribe"):
                states = room.server.of(TransportChanged, participant=who, direction=direction)
                assert (states[-1].state, states[-1].route) == ("connected", "udp")

        def measured() -> list[QualitySample]:
            return [
                one
                for one in room.server.of(QualitySample, participant="ben", kind="video")
                if one.bitrate_bps > 10_000 and one.rtt_ms is not None and one.jitter_ms is not None
            ]

        await eventually(lambda: {one.direction for one in measured()} == {"publish", "subscribe"})
        assert all(one.loss == 0 and one.rtt_ms < 1000 for one in measured() if one.rtt_ms is not None)

        async def publisher_knows() -> bool:
            """Its estimator lives on the relay's transport-cc feedback, its round trip on the receiver
            reports."""
            published = (await anna.evaluate("relayClient.stats()"))["published"]
            rates = published["pair"]["availableOutgoingBitrate"]
            return rates > 500_000 and all("roundTripTime" in one for one in published["remote"])

        await eventually(publisher_knows)


async def test_five_percent_loss_both_ways_at_40_ms_is_repaired() -> None:
    async with call(loss=0.05, delay_s=0.02) as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        for page in (anna, ben):
            await more_frames(page, 60)
        assert room.proxy is not None
        assert room.proxy.lost > 20  # the premise: packets really were lost

        async def repaired() -> bool:
            return all(
                [
                    sum(one.get("retransmittedPacketsReceived", 0) for one in await inbound(page, "video"))
                    for page in (anna, ben)
                ]
            )

        await eventually(repaired)
        for page in (anna, ben):
            await eventually(lambda page=page: heard(page))
            await more_frames(page, 30)


async def test_a_browser_that_restarts_ice_alone_is_followed_and_then_renegotiates() -> None:
    async with call(loss=0.0) as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        await more_frames(anna)
        await more_frames(ben)
        await anna.evaluate("relayClient.restartAlone()")
        await more_frames(ben, 40)
        await more_frames(anna, 40)
        await anna.evaluate("relayClient.finishRestart()")
        await more_frames(ben, 40)
        # The new credentials are in use: a rebinding is followed with them.
        assert room.proxy is not None
        keys = await key_frames_encoded(anna)
        room.proxy.rebind()
        await more_frames(ben, 40)
        # Whoever comes back is sent a key frame without having to ask.
        assert await key_frames_encoded(anna) > keys
        await more_frames(anna, 40)


async def test_a_restart_of_the_subscribe_connection_by_the_hub() -> None:
    async with call() as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        await more_frames(ben)
        await room.relay.restart_subscribe(ROOM, "ben")
        await more_frames(ben, 40)
        assert await frames(anna) > 0


async def test_a_screen_comes_and_goes_by_renegotiation_and_its_section_is_used_again() -> None:
    async with call() as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        await more_frames(ben)
        for _ in range(2):
            await anna.evaluate("relayClient.share()")

            async def both() -> bool:
                live = [one for one in await inbound(ben, "video") if one.get("framesDecoded", 0) > 5]
                return len(live) == 2

            await eventually(both)
            screens = [e.track for e in room.server.of(TrackAdded) if e.track.source == "screen"]
            await anna.evaluate("relayClient.unshare()")
            await eventually(lambda screen=screens[-1]: room.server.of(TrackRemoved, track_id=screen.id))

            async def one_left() -> bool:
                return len(await inbound(ben, "video")) == 1

            await eventually(one_left)
        assert len(screens) == 2
        await more_frames(ben)
        offers = room.server.of(SubscribeOffer, participant="ben")
        # audio, camera, screen: the second screen took the section of the first
        assert offers[-1].offer.count("m=") == 3
        assert len(offers[-1].tracks) == 2


async def test_a_paused_track_sends_nothing_and_resumes_with_a_key_frame() -> None:
    async with call() as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        await more_frames(ben)
        camera = next(
            event.track
            for event in room.server.of(TrackAdded)
            if event.track.source == "camera" and event.track.participant == "anna"
        )
        await room.relay.set_paused(ROOM, "ben", camera.id, True)

        async def still() -> bool:
            before = (await inbound(ben, "video"))[0]["packetsReceived"]
            await anna.wait_for_timeout(500)
            return bool((await inbound(ben, "video"))[0]["packetsReceived"] == before)

        await eventually(still)
        keys = (await inbound(ben, "video"))[0]["keyFramesDecoded"]
        await room.relay.set_paused(ROOM, "ben", camera.id, False)
        await more_frames(ben)
        assert (await inbound(ben, "video"))[0]["keyFramesDecoded"] > keys
        assert await heard(ben)


async def test_a_reload_of_the_publisher_keeps_the_sections_of_the_viewer() -> None:
    async with call() as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        await more_frames(ben)
        known = {event.track.id for event in room.server.of(TrackAdded, room=ROOM)}
        await anna.reload()
        await anna.evaluate("relayClient.join()")
        await more_frames(ben, 40)
        await more_frames(anna, 20)
        assert {event.track.id for event in room.server.of(TrackAdded)} == known
        assert not room.server.of(TrackRemoved)


async def test_a_late_viewer_without_a_camera_gets_everything_at_once() -> None:
    async with call() as room:
        anna, ben = await room.page("anna"), await room.page("ben")
        await more_frames(ben)
        late = await room.page("clara", publish=False)
        await eventually(lambda: heard(late))

        async def two_cameras() -> bool:
            live = [one for one in await inbound(late, "video") if one.get("framesDecoded", 0) > 5]
            return len(live) == 2

        await eventually(two_cameras)
        assert await frames(anna) > 0
        await room.relay.leave(ROOM, "anna")
        await eventually(lambda: len(room.server.of(TrackRemoved, participant="anna")) == 2)
        await more_frames(late)


async def test_a_call_through_a_turn_server_is_seen_as_relayed() -> None:
    secret = "turn-secret"
    with servers.turn_server(secret) as port:
        username = str(int(time.time()) + 600)
        password = base64.b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()
        url = f"turn:127.0.0.1:{port}?transport=udp"
        rtc = {
            "iceServers": [{"urls": url, "username": username, "credential": password}],
            "iceTransportPolicy": "relay",
        }
        async with call(turn_hosts=("127.0.0.1",)) as room:
            anna, ben = await room.page("anna", rtc=rtc), await room.page("ben", rtc=rtc)
            await more_frames(anna)
            await more_frames(ben)
            for who in ("anna", "ben"):
                for direction in ("publish", "subscribe"):
                    last = room.server.of(TransportChanged, participant=who, direction=direction)[-1]
                    assert (last.state, last.route) == ("connected", "relayed")
