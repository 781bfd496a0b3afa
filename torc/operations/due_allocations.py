"""What asks for allocations: schedule_nodes actions that are due, with the schedulers that they name, and jobs that wait."""

from __future__ import annotations

from sqlalchemy import text

from torc.api.allocations import DueScheduling, ListDueScheduling, ListWaitingJobs, WaitingJobs
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.store.json_columns import loads

_DUE = text(
    "SELECT f.id, f.action_id, a.trigger_type, a.settings FROM firing f JOIN action a ON a.id = f.action_id "
    "WHERE f.workflow_id = :id AND f.run_id = :run_id AND f.state = 'due' AND a.action_type = 'schedule_nodes' "
    "ORDER BY a.position, f.id"
)
_SCHEDULERS = text("SELECT name, fields FROM named WHERE workflow_id = :id AND kind = 'slurm_scheduler'")


@answers(ListDueScheduling)
def list_due_scheduling(tx: Tx, request: ListDueScheduling) -> list[DueScheduling]:
    """List what is due; nothing, when the run is over. An action for local schedulers asks for nothing."""
    row = workflow_row(tx, request.workflow_id)
    if row["is_canceled"] or row["is_archived"] or row["ended_at"] is not None:
        return []
    due = tx.db.execute(_DUE, {"id": row["id"], "run_id": row["run_id"]}).all()
    schedulers = (
        {name: loads(fields, {}) for name, fields in tx.db.execute(_SCHEDULERS, {"id": row["id"]})} if due else {}
    )
    defaults = loads(row["settings"], {}).get("slurm_defaults") or {}
    made = []
    for firing_id, action_id, trigger, kept in due:
        settings = loads(kept, {})
        name = settings.get("scheduler")
        if settings.get("scheduler_type") == "local" or name not in schedulers:
            continue
        made.append(
            DueScheduling(
                firing_id=firing_id,
                action_id=action_id,
                trigger_type=trigger,
                scheduler=name,
                fields=schedulers[name],
                num_allocations=settings.get("num_allocations") or 1,
                settings=settings,
                defaults=defaults,
                job_name=f"{row['name']}-{name}",
            )
        )
    return made


_WAITING = text(
    "SELECT n.name AS scheduler, r.name AS requirement, j.supports_termination, count(*) AS num_jobs, r.num_cpus, r.num_gpus, "
    "r.num_nodes, r.memory_bytes, r.runtime_seconds FROM job j JOIN requirement r ON r.id = j.requirement_id "
    "LEFT JOIN named n ON n.id = j.scheduler_id WHERE j.workflow_id = :id AND j.state = 'ready' "
    "GROUP BY n.name, r.id, r.name, j.supports_termination, r.num_cpus, r.num_gpus, r.num_nodes, r.memory_bytes, r.runtime_seconds "
    "ORDER BY n.name, r.id, j.supports_termination"
)


@answers(ListWaitingJobs)
def list_waiting_jobs(tx: Tx, request: ListWaitingJobs) -> list[WaitingJobs]:
    """Count the ready jobs."""
    row = workflow_row(tx, request.workflow_id)
    return [
        WaitingJobs(**{**found, "supports_termination": bool(found["supports_termination"])})
        for found in tx.db.execute(_WAITING, {"id": row["id"]}).mappings()
    ]
