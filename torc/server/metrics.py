"""What the server counts, for Prometheus. Several processes count in one folder, and each tells the sums."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

#: names the folder in which processes count together; read by prometheus_client when it is imported
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
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
        self.waiting = self._gauge("torc_waiting", "Requests that wait for a change")
        self.listeners = self._gauge("torc_listeners", "Open event streams")
        self.in_flight = self._gauge("torc_in_flight", "Requests being answered")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry, multiprocess_mode="livesum")

    def text(self) -> bytes:
        """Write all of it in the text format of Prometheus."""
        registry = self._registry
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_process(pid: int, folder: str) -> None:
    """Take what a process that has ended was doing out of the sums; what it has done stays in them."""
    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
