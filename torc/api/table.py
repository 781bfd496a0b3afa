"""Every request there is: importing this enters all of them in REQUESTS. For servers, documents and tests."""

from torc.api import (  # noqa: F401 - each enters its requests
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
from torc.api.base import REQUESTS

__all__ = ["REQUESTS"]
