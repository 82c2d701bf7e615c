"""The composition root of a web process: hands every part what it needs and owns the background tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from aiohttp import web

from consult.db import Database
from consult.people.attempts import Attempts
from consult.privacy.vault import Vault
from consult.settings import Settings
from web import rooms
from web.access import check_every_route
from web.keys import (
    ATTEMPTS,
    CLOCK,
    DATABASE,
    METRICS,
    PRACTICE,
    READINESS,
    REDIS,
    SETTINGS,
    STATIC,
    VAULT,
    Clock,
    Connect,
    PracticeInfo,
    Readiness,
)
from web.metrics import WebMetrics
from web.middleware import MIDDLEWARES, security_headers
from web.static_files import StaticFiles

BODY_BYTES_MAX = 256 * 1024

FEATURES = (
    "web.static_files",
    "web.operate.views",
    "web.rooms",
    "web.booking.views",
    "web.account.views",
    "web.desk.views",
    "web.desk.availability",
    "web.desk.services",
    "web.admin.sessions",
    "web.admin.users",
    "web.admin.messages",
    "web.admin.tokens",
    "web.room.views",
    "web.api.views",
    "web.api.whip",
)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the command line (or a test) decides; everything else follows from it."""

    settings: Settings
    database: Database
    vault: Vault
    practice: PracticeInfo
    connect: Connect
    clock: Clock = utc_now
    redis: Any = None
    # more background work of this process, e.g. the embedded worker
    contexts: Sequence[Callable[[web.Application], AsyncIterator[None]]] = field(default=())


def create_app(parts: Parts) -> web.Application:
    """The whole web process. Fails when a route has no access rule."""
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=BODY_BYTES_MAX)
    app[SETTINGS] = parts.settings
    app[DATABASE] = parts.database
    app[VAULT] = parts.vault
    app[PRACTICE] = parts.practice
    app[CLOCK] = parts.clock
    app[REDIS] = parts.redis
    app[METRICS] = WebMetrics()
    app[ATTEMPTS] = Attempts(parts.vault, parts.settings.redis_url)
    app[STATIC] = StaticFiles()
    app[READINESS] = Readiness()
    rooms.install(app, parts.connect)
    for feature in FEATURES:
        app.router.add_routes(import_module(feature).routes)
    check_every_route(app)
    app.on_response_prepare.append(security_headers)
    for context in parts.contexts:
        app.cleanup_ctx.append(context)
    return app
