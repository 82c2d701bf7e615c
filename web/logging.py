"""Structured logs without personal data: JSON lines in production, readable on a terminal."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from aiohttp.http_exceptions import HttpProcessingError

# Each pattern starts at the beginning of a run only: a long text from a stranger costs linear time.
_EMAIL = re.compile(r"(?<![^\s@<>\"'=,;:()\[\]])[^\s@<>\"'=,;:()\[\]]+@[^\s@<>\"',;:()\[\]]+")
# a capability, a session token, a ticket: long runs that are neither words nor plain hexadecimal ids
_TOKEN = re.compile(
    r"\b[A-Za-z0-9]{32}\.[A-Za-z0-9_-]{32}\b"
    r"|(?<![A-Za-z0-9_-])(?:(?=[a-z0-9_-]*[A-Z])[A-Za-z0-9_-]{32,39}|[A-Za-z0-9_-]{40,})(?![A-Za-z0-9_-])"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]+")
_URL_PASSWORD = re.compile(r"(?<=://)[^/@:\s]*+:[^/@\s]*@")
_SECRET_KEYS = frozenset(
    {"password", "token", "secret", "ticket", "email", "name", "authorization", "cookie", "code", "reason", "text"}
)


def scrub(text: str) -> str:
    """`text` with everything that looks like an e-mail address, a token or a password taken out."""
    text = _URL_PASSWORD.sub("[removed]@", text)
    text = _BEARER.sub(r"\1 [removed]", text)
    text = _EMAIL.sub("[e-mail]", text)
    return _TOKEN.sub("[token]", text)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {key: "[removed]" if key in _SECRET_KEYS else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def drop_personal_data(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last processor before the renderer. A key that names a secret loses its value, whatever it is."""
    for key, value in event.items():
        if key in _SECRET_KEYS:
            event[key] = "[removed]"
        elif key != "links":  # of mails that go to files: without SMTP there is no other way to see them
            event[key] = _clean(value)
    return event


class MalformedRequests(logging.Filter):
    """aiohttp logs a request that is no HTTP with its address and its very bytes (paths, cookies). Only that it came,
    and what kind it was, is kept."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a malformed request was refused: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        elif record.args and "request from" in str(record.msg):
            record.msg, record.args = "a request failed", ()
        return True


def configure(*, terminal: bool | None = None, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's loggers through one chain to standard error."""
    readable = sys.stderr.isatty() if terminal is None else terminal
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # a traceback becomes text before the scrubbing, never after it
                structlog.processors.format_exc_info,
                drop_personal_data,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # aiohttp's own access log writes raw paths; ours writes route templates
    logging.getLogger("aiohttp.access").disabled = True
    aiohttp_server = logging.getLogger("aiohttp.server")
    aiohttp_server.filters[:] = [MalformedRequests()]
    for noisy in ("aioice", "aiortc", "asyncio", "aiosqlite", "sqlalchemy.engine", "babel"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
