"""The call page by itself: its states, its controls, device troubles, and that it comes back from every interruption.

Ad-hoc consultations over the API give each test a room of its own on one server.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Route, expect

from tests.browser import people
from tests.browser.conftest import Launch
from tests.consult_processes import Served, serve_demo

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

# every socket and peer connection of the page, for the tests that break them
SPY = """
  const Socket = WebSocket;
  window.sockets = [];
  window.WebSocket = class extends Socket { constructor(...args) { super(...args); window.sockets.push(this); } };
  const Peer = RTCPeerConnection;
  window.peers = [];
  window.RTCPeerConnection = class extends Peer { constructor(...args) { super(...args); window.peers.push(this); } };
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_demo(tmp_path_factory.mktemp("call-page")) as served:
        yield served


@dataclass
class Room:
    """An ad-hoc consultation of the API."""

    server: Served
    id: str

    def link(self, name: str, role: str = "participant") -> str:
        answer = post(self.server, f"/api/v1/consultations/{self.id}/tokens", {"role": role, "name": name})
        return str(answer["join_url"])


def post(server: Served, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        server.base_url + path,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {server.demo['api_token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


@pytest.fixture
def room(server: Served) -> Room:
    return Room(server, post(server, "/api/v1/consultations", {"encryption": "transport"})["id"])


async def new_page(browser: Browser, viewport: dict[str, int], script: str = SPY) -> Page:
    page = await browser.new_page(viewport=viewport)  # type: ignore[arg-type]
    await page.add_init_script(script)
    return page


async def enter(page: Page, link: str) -> None:
    await page.goto(link)
    await people.join(page)
    await people.call_state(page, "connected")


async def frames(page: Page, name: str) -> int:
    video = page.locator(f'video[aria-label="Video of {name}"]')
    if not await video.count():
        return 0
    count: int = await video.evaluate("(video) => video.getVideoPlaybackQuality().totalVideoFrames")
    return count


async def expect_new_frames(page: Page, name: str, deadline_s: float = 40) -> None:
    """More pictures of `name` are decoded than now."""
    before = await frames(page, name)
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        await asyncio.sleep(0.2)
        now = await frames(page, name)
        if now > before + 3 or (0 < now < before):
            return
    raise AssertionError(f"no new pictures of {name} in {deadline_s} s")


async def test_two_people_talk_write_and_come_back(launch: Launch, room: Room) -> None:
    anna = await new_page(await launch(), WIDE)
    boris = await new_page(await launch(), PHONE)
    await enter(anna, room.link("Anna"))
    await enter(boris, room.link("Boris"))
    await expect_new_frames(anna, "Boris")
    await expect_new_frames(boris, "Anna")
    assert "#" not in anna.url, "the secret has left the address bar"

    # muting and the camera are seen on the other side; the camera comes back
    await boris.get_by_role("button", name="Mute microphone").click()
    await expect(anna.get_by_title("Boris is muted")).to_be_visible()
    await boris.get_by_role("button", name="Turn camera off").click()
    await expect(anna.locator(".tile-avatar")).to_be_visible()
    assert await boris.locator("#self-video").evaluate("(video) => video.srcObject === null"), "the camera is released"
    await boris.get_by_role("button", name="Turn camera on").click()
    await boris.keyboard.press("m")
    await expect(anna.locator(".tile-avatar")).to_be_hidden()
    await expect(anna.get_by_title("Boris is muted")).to_be_hidden()
    await expect_new_frames(anna, "Boris")

    # chat, with the unread badge on the closed side
    await anna.get_by_role("button", name="Chat").click()
    await anna.get_by_label("Message", exact=True).fill("<b>Hello</b> Boris")
    await anna.keyboard.press("Enter")
    await expect(boris.locator("#more-unread")).to_have_text("1")
    await boris.get_by_role("button", name="More").click()
    await boris.get_by_role("menuitem", name="Chat").click()
    await expect(boris.locator(".chat-text")).to_have_text("<b>Hello</b> Boris")
    await boris.get_by_role("button", name="Close the chat").click()
    # more lines than the server takes at once all arrive, in their order
    more = [f"Line {number}" for number in range(14)]
    for line in more:
        await anna.get_by_label("Message", exact=True).fill(line)
        await anna.keyboard.press("Enter")
    await expect(boris.locator(".chat-text")).to_have_text(["<b>Hello</b> Boris", *more], timeout=people.DEADLINE_MS)
    await anna.get_by_label("Message", exact=True).press("m")
    await expect(anna.get_by_role("button", name="Mute microphone")).to_be_visible()  # typing is not a shortcut

    # leaving is not finishing: both ways back
    await boris.get_by_role("button", name="Leave").click()
    await people.call_state(boris, "ended")
    await expect(anna.locator(".tile")).to_have_count(0)
    await boris.get_by_role("button", name="Return to the call").click()
    await people.call_state(boris, "connected")
    await expect_new_frames(anna, "Boris")
    await anna.reload()
    await people.call_state(anna, "connected")
    await expect_new_frames(anna, "Boris")
    await expect_new_frames(boris, "Anna")
    await anna.get_by_role("button", name="Chat").click()
    await expect(anna.locator(".chat-text")).to_have_text(["<b>Hello</b> Boris", *more])


async def test_a_shared_screen_takes_the_stage(launch: Launch, room: Room) -> None:
    anna = await new_page(await launch("--auto-select-desktop-capture-source=Entire screen"), WIDE)
    boris = await new_page(await launch(), WIDE)
    await enter(anna, room.link("Anna"))
    await enter(boris, room.link("Boris"))
    await expect_new_frames(boris, "Anna")
    await anna.get_by_role("button", name="Share your screen").click()
    screen = boris.locator('video[aria-label="Screen of Anna"]')
    await expect(screen).to_be_visible(timeout=people.DEADLINE_MS)
    await expect(boris.locator("#stage")).to_have_attribute("data-layout", "presentation")
    end = time.monotonic() + 40
    while await screen.evaluate("(video) => video.getVideoPlaybackQuality().totalVideoFrames") < 3:
        assert time.monotonic() < end, "no picture of the screen"
        await asyncio.sleep(0.2)
    await expect_new_frames(boris, "Anna")
    await anna.get_by_role("button", name="Stop sharing").click()
    await expect(screen).to_have_count(0)
    await expect(boris.locator("#stage")).to_have_attribute("data-layout", "single")


async def test_a_lost_socket_comes_back_and_media_never_stops(launch: Launch, room: Room) -> None:
    anna = await new_page(await launch(), WIDE)
    boris = await new_page(await launch(), WIDE)
    await enter(anna, room.link("Anna"))
    await enter(boris, room.link("Boris"))
    await expect_new_frames(boris, "Anna")
    # what the page shows on the way: told by an observer, because it may last a moment only
    await boris.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => window.seen.push(document.documentElement.dataset.callState))
            .observe(document.documentElement, {attributeFilter: ['data-call-state']});
          window.sockets.at(-1).close();
        }"""
    )
    end = time.monotonic() + 30
    while await boris.evaluate("window.seen.at(-1)") != "connected":
        assert time.monotonic() < end, await boris.evaluate("window.seen")
        await asyncio.sleep(0.1)
    assert await boris.evaluate("window.seen") == ["reconnecting", "connected"]
    assert await boris.evaluate("window.sockets.length") == 2
    assert await boris.evaluate("window.peers.map((peer) => peer.connectionState)") == ["connected", "connected"], (
        "the media connections were kept"
    )
    await expect_new_frames(boris, "Anna")
    await expect_new_frames(anna, "Boris")


async def test_closed_media_connections_are_built_anew(launch: Launch, room: Room) -> None:
    anna = await new_page(await launch(), WIDE)
    boris = await new_page(await launch(), WIDE)
    await enter(anna, room.link("Anna"))
    await enter(boris, room.link("Boris"))
    await expect_new_frames(boris, "Anna")
    await boris.evaluate(
        "window.peers.forEach((peer) => Object.defineProperty(peer, 'connectionState', {value: 'failed'}))"
    )
    await people.call_state(boris, "reconnecting")
    await people.call_state(boris, "connected")
    assert await boris.evaluate("window.peers.length") > 2, "new connections"
    await expect_new_frames(boris, "Anna")
    await expect_new_frames(anna, "Boris")


async def test_joining_without_any_device_receives(launch: Launch, room: Room) -> None:
    anna = await new_page(await launch(), WIDE)
    nobody = await new_page(
        await launch(),
        WIDE,
        SPY
        + """
        navigator.mediaDevices.getUserMedia = async () => {
          throw new DOMException('Requested device not found', 'NotFoundError');
        };""",
    )
    await enter(anna, room.link("Anna"))
    await enter(nobody, room.link("Nobody"))
    await expect_new_frames(nobody, "Anna")
    await expect(anna.locator(".tile-avatar")).to_be_visible()


async def test_continue_without_camera_never_asks_for_it(launch: Launch, room: Room) -> None:
    page = await new_page(
        await launch(),
        PHONE,
        """
        navigator.permissions.query = async () => ({state: 'prompt'});
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.asked = [];
        navigator.mediaDevices.getUserMedia = (wish) => {
          window.asked.push([Boolean(wish.audio), Boolean(wish.video)]);
          return ask(wish);
        };""",
    )
    await page.goto(room.link("Anna"))
    await page.get_by_role("button", name="Continue without camera").click()
    await expect(page.get_by_role("button", name="Mute microphone")).to_be_visible()
    await people.join(page)
    await people.call_state(page, "connected")
    await page.reload()
    await people.call_state(page, "connected")
    assert await page.evaluate("window.asked") == [[True, False]], "after the reload, too"


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (
            "new DOMException('Permission denied', 'NotAllowedError')",
            "The browser blocks the camera and the microphone",
        ),
        (
            "new DOMException('Permission denied by system', 'NotAllowedError')",
            "Your device's settings block the camera and the microphone",
        ),
        (
            "new DOMException('Could not start', 'NotReadableError')",
            "Another program uses the camera or the microphone",
        ),
        ("new DOMException('Requested device not found', 'NotFoundError')", "No camera and no microphone were found"),
        ("new DOMException('', 'OverconstrainedError')", "These devices don't fit"),
    ],
)
async def test_each_device_failure_has_its_text_and_fix(launch: Launch, room: Room, error: str, title: str) -> None:
    page = await new_page(
        await launch(),
        WIDE,
        f"""
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.mended = false;
        navigator.permissions.query = async () => ({{state: 'prompt'}});
        navigator.mediaDevices.getUserMedia = async (wish) => {{
          if (!window.mended) throw {error};
          return ask(wish);
        }};""",
    )
    await page.goto(room.link("Anna"))
    await page.get_by_role("button", name="Turn on camera and microphone").click()
    failures = page.locator("#device-failures")
    await expect(failures.get_by_role("heading")).to_have_text([title])
    await page.evaluate("window.mended = true")
    await failures.get_by_role("button", name="Try again").click()
    await expect(failures.get_by_role("heading")).to_have_count(0)
    await expect(page.locator("#preview-video")).to_be_visible()


async def test_a_silent_microphone_is_told(launch: Launch, room: Room) -> None:
    page = await new_page(
        await launch(),
        WIDE,
        """
        navigator.permissions.query = async () => ({state: 'prompt'});
        navigator.mediaDevices.getUserMedia = async () =>
          new MediaStream(new AudioContext().createMediaStreamDestination().stream.getAudioTracks());""",
    )
    await page.goto(room.link("Anna"))
    await page.get_by_role("button", name="Continue without camera").click()
    told = page.get_by_role("heading", name="We hear nothing from your microphone")
    await expect(told).to_be_visible(timeout=people.DEADLINE_MS)


async def test_links_that_lead_nowhere_say_what_to_do(launch: Launch, room: Room) -> None:
    page = await new_page(await launch(), WIDE)
    link = room.link("Anna")
    await page.goto(link.partition("#")[0])
    await expect(page.get_by_role("heading", name="This link is incomplete")).to_be_visible()
    other = await new_page(await launch(), WIDE)
    await other.goto(link[:-4] + "aaaa")
    await expect(other.get_by_role("heading", name="This link does not open a consultation")).to_be_visible()
    # the whole link, opened in the same tab, works
    await other.goto(link)
    await expect(other.get_by_role("button", name="Join")).to_be_visible()


async def test_too_early_counts_down_and_opens_by_itself(launch: Launch, room: Room) -> None:
    page = await new_page(await launch(), PHONE)
    asked: list[str] = []

    async def early(route: Route) -> None:
        """The first answer of the server, with an opening that is still to come."""
        asked.append("preview")
        if len(asked) > 1:
            await route.continue_()
            return
        response = await route.fetch()
        preview = await response.json()
        now = datetime.fromisoformat(preview["server_time"])
        preview |= {"status": "early", "opens_at": (now + timedelta(seconds=5)).isoformat()}
        await route.fulfill(json=preview)

    await page.route("**/preview", early)
    await page.goto(room.link("Anna"))
    await expect(page.get_by_role("heading", name="You are early")).to_be_visible()
    await expect(page.get_by_text("It opens by itself in 0:0")).to_be_visible()
    await expect(page.get_by_role("button", name="Join")).to_be_visible(timeout=people.DEADLINE_MS)
    assert len(asked) > 1


async def test_the_waiting_room_from_both_sides(launch: Launch, server: Served) -> None:
    links = server.demo["consultation"]
    client = await new_page(await launch(), PHONE)
    specialist = await new_page(await launch(), WIDE)
    await client.goto(links["client_join_url"])
    await people.join(client)
    await people.call_state(client, "waiting")
    await expect(client.get_by_text("Waiting")).to_have_count(1)
    await enter(specialist, links["specialist_join_url"])
    admit = specialist.get_by_role("button", name="Admit")
    await expect(admit).to_have_count(1)
    axe = await Axe().run(specialist)
    assert [(one["id"], one["nodes"][0]["html"]) for one in axe.response["violations"]] == []
    axe = await Axe().run(client)
    assert [(one["id"], one["nodes"][0]["html"]) for one in axe.response["violations"]] == []

    # a lost socket in the waiting room keeps the place
    await client.evaluate("window.sockets.at(-1).close()")
    await client.wait_for_timeout(500)
    await people.call_state(client, "waiting")
    await expect(admit).to_have_count(1)

    # not now: out of the way, not turned away
    await specialist.get_by_role("button", name="Not now").click()
    await expect(admit).to_have_count(0)
    await people.call_state(client, "waiting")
    await specialist.get_by_role("button", name="1 in the waiting room").click()
    await expect(admit).to_have_count(1)

    # turned away, the client may ask again
    await specialist.locator(".queue").get_by_role("button", name="Turn away").click()
    await specialist.locator("#refuse-confirm").click()
    await people.call_state(client, "ended")
    await expect(client.get_by_role("heading", name="You can't be seen right now")).to_be_visible()
    await client.get_by_role("button", name="Ask again").click()
    await people.call_state(client, "waiting")
    await admit.click()
    await people.call_state(client, "connected")
    await expect_new_frames(specialist, "Clara Jensen")

    # a specialist's reload is seen as reconnecting, never as the end
    await specialist.reload()
    await people.call_state(specialist, "connected")
    await people.call_state(client, "connected")
    await expect_new_frames(client, server.demo["specialists"][0]["name"])

    # finishing ends it for both, for good
    await specialist.get_by_role("button", name="More").click()
    await specialist.get_by_role("menuitem", name="Finish visit").click()
    await specialist.get_by_role("dialog").get_by_role("button", name="Finish visit").click()
    for page in (client, specialist):
        await people.call_state(page, "ended")
        await expect(page.get_by_role("heading", name="The visit is finished")).to_be_visible()
        await expect(page.get_by_role("button", name="Return to the call")).to_be_hidden()
    await client.reload()
    await expect(client.get_by_role("heading", name="This consultation is over")).to_be_visible()


async def test_axe_finds_nothing_in_any_state(launch: Launch, room: Room) -> None:
    browser = await launch()
    anna = await new_page(browser, WIDE)
    boris = await new_page(browser, PHONE)
    axe = Axe()

    async def check(page: Page, state: str) -> None:
        results = await axe.run(page)
        assert results.response["passes"], "the premise: axe ran"
        assert [(one["id"], one["nodes"][0]["html"]) for one in results.response["violations"]] == [], state

    await anna.goto(room.link("Anna"))
    await expect(anna.get_by_role("button", name="Join")).to_be_visible()
    await check(anna, "prejoin")
    await people.join(anna)
    await people.call_state(anna, "connected")
    await check(anna, "alone")
    await enter(boris, room.link("Boris"))
    await expect(anna.locator(".tile")).to_have_count(1)
    await check(anna, "connected")
    await check(boris, "connected on a phone")
    await boris.get_by_role("button", name="More").click()
    await check(boris, "menu")
    await boris.get_by_role("menuitem", name="Camera and sound").click()
    await check(boris, "devices")
    await boris.keyboard.press("Escape")
    await anna.get_by_role("button", name="Chat").click()
    await check(anna, "chat")
    await anna.emulate_media(color_scheme="dark")
    await anna.get_by_role("button", name="Leave").click()
    await people.call_state(anna, "ended")
    await check(anna, "ended, dark")
