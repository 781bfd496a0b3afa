"""The contract between whoever asks and whoever answers: typed requests and replies. No SQL, no HTTP, no clock.

Importing the package enters every request in `torc.api.base.REQUESTS`.
"""

from torc.api import (
    allocations,
    attempts,
    data,
    diagnosis,
    events,
    interventions,
    jobs,
    learning,
    planning,
    provenance,
    recovery,
    remotes,
    runs,
    sharing,
    transfer,
    usage,
    users,
    utilization,
    workflows,
)
from torc.api.base import REQUESTS, Page, Request, Torc

__all__ = [
    "REQUESTS",
    "Page",
    "Request",
    "Torc",
    "allocations",
    "attempts",
    "data",
    "diagnosis",
    "events",
    "interventions",
    "jobs",
    "learning",
    "planning",
    "provenance",
    "recovery",
    "remotes",
    "runs",
    "sharing",
    "transfer",
    "usage",
    "users",
    "utilization",
    "workflows",
]
