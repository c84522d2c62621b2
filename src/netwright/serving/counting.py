"""What a server counts, in the format of Prometheus. Floor 17."""

from __future__ import annotations

from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@final
class Counts:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("netwright_requests", "Requests answered.", ("path", "status"), registry=self.registry)
        self.seconds = Histogram(
            "netwright_request_seconds", "Seconds to the answer of a prediction.", buckets=SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "netwright_batch_requests", "Requests answered by one batch.", buckets=BATCHES, registry=self.registry
        )
        self.rows = Counter("netwright_rows", "Rows predicted.", registry=self.registry)
        self.active = Gauge("netwright_requests_active", "Predictions in work.", registry=self.registry)
        self.waiting = Gauge("netwright_requests_waiting", "Predictions that wait for a batch.", registry=self.registry)
        self.left = Counter("netwright_clients_left", "Clients that left before their answer.", registry=self.registry)

    def page(self) -> bytes:
        """Return all counts as text."""
        text: bytes = generate_latest(self.registry)
        return text
