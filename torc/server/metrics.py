"""Prometheus metrics of the server. Several processes share one folder, and each reports the sums."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

#: the folder that processes share; read by prometheus_client on import
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
        """Return the metrics in the Prometheus text format."""
        registry = self._registry
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_process(pid: int, folder: str) -> None:
    """Remove the gauges of an ended process from the sums; its counters remain."""
    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
