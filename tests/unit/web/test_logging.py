"""What looks like personal data or a secret does not reach the log, wherever in an event it stands."""

from __future__ import annotations

import io
import json
import logging as standard_logging

import pytest
import structlog

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
