"""For operators: /healthz (serving, and media flows), /readyz (its dependencies answer), /metrics (Prometheus)."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from prometheus_client import exposition
from sqlalchemy import func, select, text

from consult.notify.models import OutboxMessage
from web.access import Access, access
from web.keys import CLOCK, CONNECT, DATABASE, METRICS, READINESS, REDIS

routes = web.RouteTableDef()
log = structlog.get_logger("operate")
CHECK_SECONDS = 2.0


@routes.get("/healthz")
@access(Access.PUBLIC)
async def healthz(request: web.Request) -> web.Response:
    """200 when this process serves and media could flow through the relay: a probe through the real port, or a living
    media process."""
    media = request.app[CONNECT].media_flows()
    return web.json_response({"healthy": media, "media": media}, status=200 if media else 503)


@routes.get("/readyz")
@access(Access.PUBLIC)
async def readyz(request: web.Request) -> web.Response:
    """200 when the database (and Redis, if configured) answer within 2 s and the process is not stopping."""
    checks = {
        "database": await _answers(_ask_database(request)),
        "redis": await _answers(request.app[REDIS].ping()) if request.app[REDIS] is not None else None,
        "accepting": not request.app[READINESS].stopping,
    }
    ready = all(state is not False for state in checks.values())
    return web.json_response(
        {"ready": ready, "checks": {name: state for name, state in checks.items() if state is not None}},
        status=200 if ready else 503,
        headers={} if ready else {"Retry-After": "2"},
    )


async def _ask_database(request: web.Request) -> None:
    async with request.app[DATABASE].read() as session:
        await session.execute(text("SELECT 1"))


async def _answers(question: object) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await question  # type: ignore[misc]
    except Exception:
        return False
    return True


@routes.get("/metrics")
@access(Access.OPERATOR)
async def metrics(request: web.Request) -> web.Response:
    await _count_outbox(request)
    encoder, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encoder(request.app[METRICS].registry), headers={"Content-Type": content_type})


async def _count_outbox(request: web.Request) -> None:
    """`due` should be near nothing: messages wait there when no worker runs. Without a database the numbers stay."""
    gauge = request.app[METRICS].outbox
    try:
        async with asyncio.timeout(CHECK_SECONDS), request.app[DATABASE].read() as session:
            is_due = (OutboxMessage.due_at <= request.app[CLOCK]()).label("is_due")
            rows = await session.execute(
                select(OutboxMessage.status, is_due, func.count())
                .where(OutboxMessage.status.in_(("planned", "claimed", "failed")))
                .group_by(OutboxMessage.status, is_due)
            )
            counts = {"planned": 0, "due": 0, "failed": 0}
            for status, due, count in rows:
                counts["failed" if status == "failed" else "due" if due else "planned"] += count
    except Exception as error:
        log.warning("outbox_not_counted", error=type(error).__name__)
        return
    for state, count in counts.items():
        gauge.labels(state).set(count)
