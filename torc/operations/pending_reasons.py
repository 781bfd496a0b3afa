"""What allocations of a workflow that have not begun mean for jobs that wait: for `torc jobs explain`."""

from __future__ import annotations

from typing import NamedTuple

from torc.operations.dispatch import Tx
from torc.planning.pending_reasons import explain
from torc.store import allocations
from torc.units import human_duration


class Queued(NamedTuple):
    """What is told of the allocation that a job waits for."""

    summary: str
    hint: str | None


def queued_for(tx: Tx, workflow_id: int, scheduler: str | None) -> Queued | None:
    """Tell of the allocation whose runners a job waits for; None: none is open that could take it."""
    rows = allocations.waiting(tx.db, workflow_id)
    rows = [row for row in rows if row["cancel_requested_at"] is None and not row["num_runners"]]
    rows = [row for row in rows if scheduler is None or row["scheduler"] == scheduler]
    if not rows:
        return None
    row, more = rows[0], f", the first of {len(rows)}" if len(rows) > 1 else ""
    name = f"allocation {row['id']} (job {row['cluster_job_id'] or 'not submitted yet'}{more})"
    if row["state"] == "running":
        return Queued(f"its {name} has begun, and its runners are about to speak", f"torc slurm show {row['id']}")
    if row["state"] == "submitting":
        return Queued(f"its {name} is being submitted", "`torc watch` submits it, if whoever did so was stopped")
    why = explain(row["reason"])
    expected = row["expected_start_at"]
    when = (
        ""
        if expected is None or expected <= tx.now
        else f", expected to start in {human_duration(int(expected - tx.now))}"
    )
    return Queued(f"its {name} waits in the queue{when}: {why.what}", why.hint or f"torc slurm list {workflow_id}")


def last_end(tx: Tx, workflow_id: int) -> Queued | None:
    """Tell of the allocation that ended last; None: the workflow had none."""
    row = allocations.last_ended(tx.db, workflow_id)
    if row is None:
        return None
    reason = f", {row['reason']}" if row["reason"] and row["reason"] != row["cluster_state"] else ""
    return Queued(
        f"no runner works on its workflow; its last allocation ({row['id']}) has ended: {row['cluster_state']}{reason}",
        f"torc watch {workflow_id} --recover asks for further ones",
    )
