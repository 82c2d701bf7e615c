"""Typed application and request state. Everything a handler may reach is named here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

if TYPE_CHECKING:
    from consult.db import Database
    from consult.people.attempts import Attempts
    from consult.privacy.vault import Vault
    from consult.record.log import SessionLog
    from consult.settings import Settings
    from signaling.directory import Directory
    from signaling.hub import Hub
    from signaling.post import Post
    from signaling.relay_pool import RelayPool
    from web.metrics import WebMetrics
    from web.static_files import StaticFiles

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class PracticeInfo:
    """The practice whose public pages this server shows (a snapshot taken at start)."""

    id: str
    slug: str
    name: str
    zone: str  # IANA
    language: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is signed in. `stage` is "full" only after the second factor; handlers of staff routes see nothing else."""

    person_id: str
    practice_id: str
    role: Literal["specialist", "admin"]
    stage: str  # password_ok | full
    totp_enrolled: bool
    csrf_token: str
    name: str
    zone: str  # IANA
    language: str


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """A verified API token."""

    token_id: str
    practice_id: str


@dataclass(slots=True)
class Readiness:
    """What /readyz and the graceful stop know about this process."""

    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """How this process finds rooms and relays: in itself, or through Redis.

    media_flows: whether a call could have media now. relay_snapshot: counters of a relay in this very process.
    """

    directory: Directory
    pool: RelayPool
    media_flows: Callable[[], bool]
    post: Post | None = None
    relay_snapshot: Callable[[], dict[str, Any]] | None = None


SETTINGS: web.AppKey[Settings] = web.AppKey("settings")
DATABASE: web.AppKey[Database] = web.AppKey("database")
VAULT: web.AppKey[Vault] = web.AppKey("vault")
CLOCK: web.AppKey[Clock] = web.AppKey("clock")
PRACTICE: web.AppKey[PracticeInfo] = web.AppKey("practice")
HUB: web.AppKey[Hub] = web.AppKey("hub")
CONNECT: web.AppKey[Connect] = web.AppKey("connect")
SESSION_LOG: web.AppKey[SessionLog] = web.AppKey("session_log")
STATIC: web.AppKey[StaticFiles] = web.AppKey("static")
ATTEMPTS: web.AppKey[Attempts] = web.AppKey("attempts")
METRICS: web.AppKey[WebMetrics] = web.AppKey("metrics")
READINESS: web.AppKey[Readiness] = web.AppKey("readiness")
# a client of the configured Redis, or None in the embedded shape
REDIS: web.AppKey[Any] = web.AppKey("redis")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
LANGUAGE: web.RequestKey[str] = web.RequestKey("language", str)
ZONE: web.RequestKey[str] = web.RequestKey("zone", str)
IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)
SESSION_TOKEN: web.RequestKey[str] = web.RequestKey("session_token", str)
API_CALLER: web.RequestKey[ApiCaller] = web.RequestKey("api_caller", ApiCaller)
