"""Why ready jobs are held back by the budget for assistants."""

from __future__ import annotations

from torc.api.base import Torc
from torc.api.change_plans import GetSpending
from torc.api.events import ListEvents


def held_back(torc: Torc, workflow_id: int) -> str | None:
    """Return why the budget for assistants has held jobs back in the current run; None if it has not."""
    spent = torc.send(ListEvents(workflow_id=workflow_id, type="budget_spent", newest_first=True, limit=1)).items
    if not spent:
        return None
    begun = torc.send(ListEvents(workflow_id=workflow_id, type="run_started", newest_first=True, limit=1)).items
    if begun and begun[0].id > spent[0].id:
        return None
    now = torc.send(GetSpending())
    left = max(0.0, (now.max_node_hours or 0.0) - now.node_hours - now.node_hours_reserved)
    return (
        f"running to their limits they would exceed the budget for assistants, of which {left:.4g} node-hours are left. "
        "A person can raise it ([mcp] max_node_hours), reset it (torc plans budget --reset), or run the remaining jobs "
        f"(torc run {workflow_id})"
    )
