"""The rooms of this web process: the hub behind /ws, with the domain's admission and session log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consult.people.attempts import network_of
from consult.record.log import SessionLog
from signaling.effects import Now
from signaling.hub import Hub
from signaling.turn import ice_servers
from web.access import Access, access
from web.admission import DomainAdmission, DomainRecord
from web.keys import CLOCK, CONNECT, DATABASE, HUB, METRICS, READINESS, SESSION_LOG, SETTINGS, VAULT, Connect
from web.origin import client_address

routes = web.RouteTableDef()


@routes.get("/ws")
@access(Access.PUBLIC)
async def socket(request: web.Request) -> web.StreamResponse:
    """Signaling. The hub checks the Origin, and the first message carries the ticket."""
    return await request.app[HUB].handle(request)


def install(app: web.Application, connect: Connect) -> None:
    """Make the hub; it runs from the app's start to its shutdown."""
    settings = app[SETTINGS]
    log = SessionLog(app[DATABASE], app[VAULT])
    app[CONNECT] = connect
    app[SESSION_LOG] = log
    app[HUB] = Hub(
        directory=connect.directory,
        pool=connect.pool,
        admission=DomainAdmission(app[DATABASE], app[VAULT]),
        record=DomainRecord(log),
        ice_servers=ice_servers(settings.turn_urls, settings.turn_secret),
        public_url=settings.public_url,
        post=connect.post,
        clock=lambda: Now(app[CLOCK](), time.monotonic()),
        # an IPv6 visitor has a whole /64 to come from
        client_address=lambda request: network_of(client_address(request)),
    )
    app[METRICS].registry.register(RoomsCollector(app))
    app.cleanup_ctx.append(_run)
    # shutdown comes before the open sockets are waited for: everybody in a call is told first
    app.on_shutdown.append(_stop)


async def _run(app: web.Application) -> AsyncIterator[None]:
    connect = app[CONNECT]
    async with app[SESSION_LOG]:
        await connect.directory.start()
        await app[HUB].start()
        yield
        await connect.directory.stop()


async def _stop(app: web.Application) -> None:
    app[READINESS].stopping = True
    await app[HUB].stop()


class RoomsCollector(Collector):
    """What hub, session log, and the relay in this process (if any) count; read when Prometheus asks."""

    def __init__(self, app: web.Application) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        hub = self._app[HUB].snapshot()
        for name, value in (
            ("rooms", hub.rooms),
            ("sockets", hub.sockets),
            ("participants_joined", hub.joined),
            ("participants_waiting", hub.waiting),
        ):
            yield GaugeMetricFamily(f"consult_hub_{name}", "The hub of this process", value=value)
        log = self._app[SESSION_LOG]
        yield GaugeMetricFamily("consult_session_log_waiting", "Log rows not yet stored", value=log.rows_waiting)
        yield CounterMetricFamily(
            "consult_session_log_lost",
            "Log rows that could not be stored",
            value=log.samples_given_up + log.rows_refused,
        )
        snapshot = self._app[CONNECT].relay_snapshot
        if snapshot is not None:
            yield from relay_metrics(snapshot())


def relay_metrics(snapshot: dict[str, Any]) -> Iterator[Metric]:
    """The relay's numbers: plain ones as gauges, dicts as a label per key."""
    for name, value in snapshot.items():
        if isinstance(value, dict):
            family = GaugeMetricFamily(f"consult_relay_{name}", "The relay of this process", labels=["kind"])
            for key, count in value.items():
                family.add_metric([str(key)], float(count))
            yield family
        else:
            yield GaugeMetricFamily(f"consult_relay_{name}", "The relay of this process", value=float(value))
