"""Node-hours of allocations, summed by workflow and by user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torc.api import usage as api
from torc.operations.access import require_visible
from torc.operations.dispatch import Tx, answers
from torc.store import allocations


@answers(api.GetUsage)
def get_usage(tx: Tx, request: api.GetUsage) -> api.AllocationUsage:
    """Sum up what allocations have cost."""
    if request.workflow_id is not None:
        require_visible(tx, request.workflow_id)
    rows = allocations.usage(tx.db, tx.rights, workflow_id=request.workflow_id, since=request.since)
    found = [api.WorkflowUsage.model_validate(dict(row)) for row in rows]
    by_user: dict[str, list[api.WorkflowUsage]] = {}
    for workflow in found:
        by_user.setdefault(workflow.user, []).append(workflow)
    users = [
        api.UserUsage(user=user, num_workflows=len(own), **_sum(own).model_dump()) for user, own in by_user.items()
    ]
    users.sort(key=lambda usage: (-usage.node_seconds_used, usage.user))
    return api.AllocationUsage(workflows=found, users=users, total=_sum(found))


def _sum(of: Iterable[api.WorkflowUsage]) -> api.Sums:
    parts: Sequence[api.WorkflowUsage] = list(of)
    return api.Sums(
        num_allocations=sum(part.num_allocations for part in parts),
        num_active=sum(part.num_active for part in parts),
        node_seconds_used=sum(part.node_seconds_used for part in parts),
        node_seconds_wasted=sum(part.node_seconds_wasted for part in parts),
        gpu_node_seconds_used=sum(part.gpu_node_seconds_used for part in parts),
    )
