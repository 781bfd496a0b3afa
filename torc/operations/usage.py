"""Node-hours of allocations, summed by workflow and by user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import text

from torc.api import usage as api
from torc.operations.access import require_visible, visible
from torc.operations.dispatch import Tx, answers

_SUMS = """SELECT w.id AS workflow_id, w.name, w."user", count(*) AS num_allocations,
    sum(CASE WHEN a.state = 'ended' THEN 0 ELSE 1 END) AS num_active, sum(a.node_seconds_used) AS node_seconds_used,
    sum(coalesce(a.node_seconds_wasted, 0)) AS node_seconds_wasted,
    sum(CASE WHEN a.gpus_per_node > 0 THEN a.node_seconds_used ELSE 0 END) AS gpu_node_seconds_used
    FROM allocation a JOIN workflow w ON w.id = a.workflow_id"""


@answers(api.GetUsage)
def get_usage(tx: Tx, request: api.GetUsage) -> api.Usage:
    """Sum up what allocations have cost."""
    if request.workflow_id is not None:
        require_visible(tx, request.workflow_id)
    seen, values = visible(tx)
    where = [f"w.id IN (SELECT id FROM workflow WHERE {' AND '.join(seen)})"] if seen else []
    if request.workflow_id is not None:
        where.append("w.id = :workflow_id")
        values["workflow_id"] = request.workflow_id
    if request.since is not None:
        where.append("a.created_at >= :since")
        values["since"] = request.since
    conditions = f" WHERE {' AND '.join(where)}" if where else ""
    query = f'{_SUMS}{conditions} GROUP BY w.id, w.name, w."user" ORDER BY 6 DESC, w.id'
    found = [api.WorkflowUsage.model_validate(dict(row)) for row in tx.db.execute(text(query), values).mappings()]
    by_user: dict[str, list[api.WorkflowUsage]] = {}
    for workflow in found:
        by_user.setdefault(workflow.user, []).append(workflow)
    users = [
        api.UserUsage(user=user, num_workflows=len(own), **_sum(own).model_dump()) for user, own in by_user.items()
    ]
    users.sort(key=lambda usage: (-usage.node_seconds_used, usage.user))
    return api.Usage(workflows=found, users=users, total=_sum(found))


def _sum(of: Iterable[api.WorkflowUsage]) -> api.Sums:
    parts: Sequence[api.WorkflowUsage] = list(of)
    return api.Sums(
        num_allocations=sum(part.num_allocations for part in parts),
        num_active=sum(part.num_active for part in parts),
        node_seconds_used=sum(part.node_seconds_used for part in parts),
        node_seconds_wasted=sum(part.node_seconds_wasted for part in parts),
        gpu_node_seconds_used=sum(part.gpu_node_seconds_used for part in parts),
    )
