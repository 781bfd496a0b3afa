"""Answers to requests: plain functions of a transaction and a request. Importing the package enters all of them."""

from torc.operations import (
    classes,
    create,
    data,
    events,
    exchange,
    graph,
    jobs,
    reinitialize,
    remotes,
    reset,
    results,
    retention,
    runs,
    summary,
    workflows,
)

__all__ = [
    "classes",
    "create",
    "data",
    "events",
    "exchange",
    "graph",
    "jobs",
    "reinitialize",
    "remotes",
    "reset",
    "results",
    "retention",
    "runs",
    "summary",
    "workflows",
]
