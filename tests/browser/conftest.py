"""A served Consult and real Chromium browsers with fake cameras."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests import servers
from tests.browser import fake_camera
from tests.consult_processes import Served, serve_demo

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    # the microphone's beep must be heard without a click
    "--autoplay-policy=no-user-gesture-required",
]

Launch = Callable[..., Awaitable[Browser]]


@pytest.fixture(scope="session")
def cameras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the fake cameras' pictures."""
    return tmp_path_factory.mktemp("cameras")


@pytest.fixture
async def launch(cameras: Path) -> AsyncIterator[Launch]:
    """Starts one more real Chromium (a new profile and another face each); all are closed at the end."""
    browsers: list[Browser] = []
    async with async_playwright() as playwright:

        async def start(*more_arguments: str) -> Browser:
            browser = await playwright.chromium.launch(
                executable_path=servers.find_program("chromium"),
                headless=True,
                args=[
                    *CHROMIUM_ARGUMENTS,
                    f"--use-file-for-fake-video-capture={fake_camera.write(cameras, len(browsers))}",
                    *more_arguments,
                ],
            )
            browsers.append(browser)
            return browser

        yield start
        for browser in browsers:
            await browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`consult serve --demo` in a process of its own: the embedded default."""
    with serve_demo(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(scope="session")
def screenshots() -> Path:
    folder = Path(__file__).parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
