"""All requests: importing this module registers them in REQUESTS. For servers, documents and tests."""

from torc.api import (  # noqa: F401 - each registers its requests
    access_groups,
    allocations,
    attempts,
    change_plans,
    data,
    diagnosis,
    estimates,
    events,
    jobs,
    planning,
    provenance,
    recovery,
    remote_workers,
    runs,
    transfer,
    usage,
    users,
    utilization,
    workflows,
)
from torc.api.base import REQUESTS

__all__ = ["REQUESTS"]
