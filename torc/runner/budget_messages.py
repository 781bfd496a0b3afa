"""Why ready jobs are left where the budget of assistants holds them back."""

from __future__ import annotations

from torc.api.base import Torc
from torc.api.change_plans import GetSpending
from torc.api.events import ListEvents


def held_back(torc: Torc, workflow_id: int) -> str | None:
    """Say that the budget of assistants has held jobs back in the present run of a workflow; None: it has not."""
    spent = torc.send(ListEvents(workflow_id=workflow_id, type="budget_spent", newest_first=True, limit=1)).items
    if not spent:
        return None
    begun = torc.send(ListEvents(workflow_id=workflow_id, type="run_started", newest_first=True, limit=1)).items
    if begun and begun[0].id > spent[0].id:
        return None
    now = torc.send(GetSpending())
    left = max(0.0, (now.max_node_hours or 0.0) - now.node_hours - now.node_hours_reserved)
    return (
        f"they would go beyond the budget of assistants if they ran to their limits: {left:.4g} node-hours of it are left. "
        "A person can raise it ([mcp] max_node_hours), begin it anew (torc plans budget --anew), or run what is left "
        f"(torc run {workflow_id})"
    )
