"""What looks like personal data or a secret does not reach the log, wherever in an event it stands."""

from __future__ import annotations

import asyncio
import io
import json
import logging as standard_logging
import time

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from web import logging

TOKEN = "59e6989acdf749ac804cb2472c817c23._1E1DUKpHfTJwvc-p-8zJZjw1azgy4xZ"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    output = io.StringIO()
    root = standard_logging.getLogger()
    kept = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", output)
    logging.configure(terminal=False)
    yield output
    root.handlers[:], root.level = kept[0], kept[1]
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("mail to anna@example.org failed", "mail to [e-mail] failed"),
        (f"token {TOKEN}", "token [token]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [removed]"),
        ("postgresql://user:secret@db/consult", "postgresql://[removed]@db/consult"),
        ("consult_0123456789012345678901234567890123456789012", "[token]"),
        ("route /desk/consultations/{consultation} in 12.5 ms", "route /desk/consultations/{consultation} in 12.5 ms"),
        ("/ics/1/EXcnfqNyyKDKyDzqYJDSfYLDAH7YDEfA.ics", "/ics/1/[token].ics"),
        ("room 32381bdf674e422c8e072afcd83a5437", "room 32381bdf674e422c8e072afcd83a5437"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert logging.scrub(text) == clean


def test_events_are_json_and_clean(written: io.StringIO) -> None:
    log = structlog.get_logger("test")
    log.info(
        "sent", to=["anna@example.org"], password="hunter2", nested={"ticket": "x", "note": f"see {TOKEN}"}, count=3
    )
    event = json.loads(written.getvalue())
    assert event["event"] == "sent"
    assert event["count"] == 3
    assert event["password"] == "[removed]"
    assert event["nested"] == {"ticket": "[removed]", "note": "see [token]"}
    assert event["to"] == ["[e-mail]"]


def test_tracebacks_and_other_libraries_are_clean_too(written: io.StringIO) -> None:
    try:
        raise ValueError(f"anna@example.org has {TOKEN}")
    except ValueError:
        structlog.get_logger("test").exception("failed")
        standard_logging.getLogger("library").warning("cannot reach %s", "anna@example.org")
    assert "ValueError" in written.getvalue()
    assert "anna@example.org" not in written.getvalue()
    assert TOKEN not in written.getvalue()


def test_raw_paths_are_not_logged(written: io.StringIO) -> None:
    standard_logging.getLogger("aiohttp.access").info("GET /ics/1/secret.ics")
    assert written.getvalue() == ""


@pytest.mark.parametrize("piece", ["a", "a.", "://", "a:", "Bearer ", "a@", "A-", "a-A"])
def test_a_long_text_from_a_stranger_takes_no_time(piece: str) -> None:
    started = time.perf_counter()
    for begin in ("", "://", "x" * 32 + "."):
        logging.scrub(begin + piece * (40_000 // len(piece)))
    # a pattern that backtracks takes half a minute
    assert time.perf_counter() - started < 3


async def test_a_request_that_is_no_http_leaves_no_trace_of_its_sender(written: io.StringIO) -> None:
    app = web.Application()
    async with TestServer(app) as server:
        for request in (
            b"GET /ics/1/EXcnfqNyyKDKyDzqYJDSfYLDAH7YDEfA.ics\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nCookie: consult_manage=canary\x00\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(request)
            assert (await reader.readline()).endswith(b"400 Bad Request\r\n")
            writer.close()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert len(lines) == 2
    assert all(line["event"].startswith("a malformed request was refused") for line in lines)
    for trace in ("127.0.0.1", "EXcnfqNyyKDKyDzqYJDSfYLDAH7YDEfA", "canary", "Traceback"):
        assert trace not in written.getvalue()
