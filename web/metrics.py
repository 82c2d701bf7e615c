"""Prometheus metrics of the web process, in a registry of their own (a test can start several apps)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class WebMetrics:
    """HTTP by route template, never by raw path: a path can carry ids."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "consult_http_requests_total", "HTTP answers", ["method", "route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "consult_http_request_seconds",
            "Time to answer",
            ["method", "route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self.registry,
        )
        self.in_flight = Gauge("consult_http_in_flight", "Requests being answered", registry=self.registry)
        self.denied = Counter(
            "consult_http_denied_total", "Requests that an access rule refused", ["rule"], registry=self.registry
        )
        self.outbox = Gauge("consult_outbox_messages", "Messages by state", ["state"], registry=self.registry)
        self.sign_ins = Counter(
            "consult_sign_ins_total", "Sign-in steps by outcome", ["step", "outcome"], registry=self.registry
        )
