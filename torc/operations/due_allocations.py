"""What requests allocations: due schedule_nodes actions with their schedulers, and waiting jobs."""

from __future__ import annotations

from torc.api.allocations import DueScheduling, ListDueScheduling, ListWaitingJobs, WaitingJobs
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.store import actions, demand, named
from torc.store.json_columns import loads
from torc.workflow.lifecycle import may_start_jobs


@answers(ListDueScheduling)
def list_due_scheduling(tx: Tx, request: ListDueScheduling) -> list[DueScheduling]:
    """List due actions; none if the run is over. Actions for local schedulers request nothing."""
    row = workflow_row(tx, request.workflow_id)
    if not may_start_jobs(row) or row["ended_at"] is not None:
        return []
    due = actions.due_scheduling(tx.db, row["id"], row["run_id"])
    schedulers = {each.name: each for each in named.schedulers(tx.db, tx.dialect, row["id"])} if due else {}
    of_workflow = loads(row["settings"], {})
    made = []
    for firing in due:
        settings = loads(firing["settings"], {})
        name = settings.get("scheduler")
        if settings.get("scheduler_type") == "local" or name not in schedulers:
            continue
        scheduler = schedulers[name]
        made.append(
            DueScheduling(
                firing_id=firing["id"],
                action_id=firing["action_id"],
                trigger_type=firing["trigger_type"],
                scheduler=name,
                fields=dict(scheduler.fields),
                num_allocations=settings.get("num_allocations") or 1,
                settings={**settings, "scheduler_type": scheduler.type.name},
                defaults=of_workflow.get(scheduler.type.defaults_field) or {},
                job_name=f"{row['name']}-{name}",
            )
        )
    return made


@answers(ListWaitingJobs)
def list_waiting_jobs(tx: Tx, request: ListWaitingJobs) -> list[WaitingJobs]:
    """Count the ready jobs."""
    row = workflow_row(tx, request.workflow_id)
    return [
        WaitingJobs(**{**found, "supports_termination": bool(found["supports_termination"])})
        for found in demand.ready_jobs(tx.db, row["id"])
    ]
