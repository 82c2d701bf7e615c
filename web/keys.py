"""Typed application and request state. Everything a handler may reach is named here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

if TYPE_CHECKING:
    from consult.db import Database
    from consult.people.attempts import Attempts
    from consult.privacy.vault import Vault
    from consult.settings import Settings
    from media.api import Relay
    from signaling.hub import Hub
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


SETTINGS: web.AppKey[Settings] = web.AppKey("settings")
DATABASE: web.AppKey[Database] = web.AppKey("database")
VAULT: web.AppKey[Vault] = web.AppKey("vault")
CLOCK: web.AppKey[Clock] = web.AppKey("clock")
PRACTICE: web.AppKey[PracticeInfo] = web.AppKey("practice")
HUB: web.AppKey[Hub] = web.AppKey("hub")
RELAY: web.AppKey[Relay] = web.AppKey("relay")
STATIC: web.AppKey[StaticFiles] = web.AppKey("static")
ATTEMPTS: web.AppKey[Attempts] = web.AppKey("attempts")
METRICS: web.AppKey[WebMetrics] = web.AppKey("metrics")
READINESS: web.AppKey[Readiness] = web.AppKey("readiness")
# a client of the configured Redis, or None in the embedded shape
REDIS: web.AppKey[Any] = web.AppKey("redis")
# called after an account is disabled or signed out everywhere: closes its open sockets
DISCONNECT: web.AppKey[Callable[[str], Awaitable[None]]] = web.AppKey("disconnect")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
LANGUAGE: web.RequestKey[str] = web.RequestKey("language", str)
ZONE: web.RequestKey[str] = web.RequestKey("zone", str)
IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)
SESSION_TOKEN: web.RequestKey[str] = web.RequestKey("session_token", str)
API_CALLER: web.RequestKey[ApiCaller] = web.RequestKey("api_caller", ApiCaller)
