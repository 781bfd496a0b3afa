"""Workflows that have been kept for long enough."""

from __future__ import annotations

from collections import Counter

from torc.api.workflows import DeleteWorkflow, PruneWorkflows, Workflow
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.row_mapping import workflows_of
from torc.operations.workflows import delete_workflow
from torc.store import workflows

_UNFINISHED = {"running", "interrupted"}


@answers(PruneWorkflows, removes=True)
def prune_workflows(tx: Tx, request: PruneWorkflows) -> list[Workflow]:
    """Delete what is old, in one transaction."""
    before = tx.now - request.older_than_seconds
    seen: Counter[str] = Counter()
    chosen = []
    wanted = None if request.only is None else set(request.only)
    for workflow in workflows_of(tx, workflows.all_newest_first(tx.db)):
        seen[workflow.name] += 1
        is_old = (workflow.ended_at or workflow.updated_at) <= before
        is_kept = seen[workflow.name] <= request.keep or workflow.state in _UNFINISHED
        is_meant = wanted is None or workflow.id in wanted
        if is_old and not is_kept and is_meant and (workflow.is_archived or not request.archived_only):
            chosen.append(workflow)
    if request.dry_run:
        raise DryRun(chosen)
    for workflow in chosen:
        delete_workflow(tx, DeleteWorkflow(workflow_id=workflow.id))
    return chosen
