"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one server process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "torc_requests", "Requests by kind and status", ["kind", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "torc_request_seconds",
            "Time of answering, waiting included",
            ["kind"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.waiting = Gauge("torc_waiting", "Requests that wait for a change", registry=self._registry)
        self.listeners = Gauge("torc_listeners", "Open event streams", registry=self._registry)
        self.in_flight = Gauge("torc_in_flight", "Requests being answered", registry=self._registry)

    def text(self) -> bytes:
        """Write all of it in the text format of Prometheus."""
        return generate_latest(self._registry)
