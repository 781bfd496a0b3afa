"""The budget of assistants in a store: what everything that they started has cost, over all workflows, sessions and callers.

A plan that starts a run reserves its estimate when it is applied, and its workflow is charged to it (`workflow.charged_to`) until
what it started is over. Meanwhile a runner gets a job only if the job could run to its limit within the budget; ended attempts count
with their actual time. Workflows run by people are not charged, and exchanges of their runners skip all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping

from torc.operations.transaction import Tx
from torc.planning.cost import node_seconds
from torc.store import events, spending
from torc.units import HOUR
from torc.workflow.packing import Candidate
from torc.workflow.resources import Capacity

#: so long after a plan was applied, what it was to begin may still not have spoken
_PATIENCE_SECONDS = 900.0
#: a plan that submits allocations may submit the next one so long after it was applied
_LONGEST_SUBMITTING_SECONDS = 30 * 86_400.0


class BudgetUse(NamedTuple):
    """What was spent, what is reserved in addition, and the limit (None: unknown)."""

    node_seconds: float
    num_retries: int
    reserved_seconds: float
    limit_seconds: float | None


def spent(tx: Tx, *, but: int | None = None) -> BudgetUse:
    """Sum up; `but`: a workflow whose plans are left out of what is spoken for."""
    found = spending.totals(tx.db, tx.dialect)
    return BudgetUse(found.node_seconds, found.num_retries, _reserved(tx, but), found.limit_seconds)


def lock(tx: Tx) -> None:
    """Keep others from spending until the transaction ends."""
    spending.lock(tx.db)


def charge_retries(tx: Tx, number: int, limit_seconds: float | None) -> None:
    """Count retries, and record the limits of the deployment."""
    spending.add_retries(tx.db, number, limit_seconds)


def start_anew(tx: Tx) -> None:
    """Reset what was spent: for people only."""
    lock(tx)
    spending.reset(tx.db)


def _reserved(tx: Tx, but: int | None) -> float:
    """Return what applied plans may still cost: their estimates, or what runners hold if that is more."""
    total = 0.0
    for charged in spending.charged_workflows(tx.db, tx.dialect):
        if charged.workflow_id == but:
            continue
        if is_at_work(tx, charged.workflow_id) or tx.now - charged.applied_at < _PATIENCE_SECONDS:
            total += max(charged.reserved_seconds - charged.used_seconds, held_seconds(tx, charged.workflow_id))
    return total


def held_seconds(tx: Tx, workflow_id: int) -> float:
    """Return the node-seconds of what the runners of a workflow hold, if all of it ran to its limits."""
    held = spending.held_jobs(tx.db, tx.dialect, workflow_id)
    return sum(
        (jobs.number * node_seconds(jobs.request, float(jobs.request.runtime_seconds), jobs.node) for jobs in held), 0.0
    )


def is_at_work(tx: Tx, workflow_id: int) -> bool:
    """Return whether runners work on a workflow, or it has open allocations."""
    return spending.is_at_work(tx.db, tx.dialect, workflow_id)


def settle(tx: Tx, workflow_id: int, plan: int) -> None:
    """Charge the attempts that have ended since the last time, each once, for their actual time."""
    found = spending.charge(tx.db, tx.dialect, plan)
    if found is None:
        return
    attempts = spending.ended_attempts(tx.db, tx.dialect, workflow_id, found.charged_attempt)
    if not attempts:
        return
    seconds = sum(node_seconds(attempt.request, attempt.wall_seconds, attempt.node) for attempt in attempts)
    spending.add_seconds(tx.db, tx.dialect, seconds)
    spending.note_use(tx.db, tx.dialect, plan, seconds, attempts[-1].id)


def end_charge(tx: Tx, workflow: RowMapping, *, run_is_over: bool = False) -> None:
    """Settle the charges of a workflow, and stop charging it once what the plan started is over."""
    plan = workflow["charged_to"]
    settle(tx, workflow["id"], plan)
    found = spending.charge(tx.db, tx.dialect, plan)
    # the next allocation may be asked for later
    waits = (
        found is not None
        and found.arguments.get("starts") == "submit"
        and not run_is_over
        and tx.now - found.applied_at < _LONGEST_SUBMITTING_SECONDS
    )
    if not waits and not is_at_work(tx, workflow["id"]):
        spending.charge_to(tx.db, tx.dialect, workflow["id"], None)


def forget_old_charge(tx: Tx, workflow: RowMapping) -> None:
    """Stop charging a workflow to a plan that never started anything."""
    found = spending.charge(tx.db, tx.dialect, workflow["charged_to"])
    if found is None or tx.now - found.applied_at >= _PATIENCE_SECONDS:
        end_charge(tx, workflow, run_is_over=True)


def within_budget(
    tx: Tx, workflow: RowMapping, chosen: Sequence[Candidate], capacity: Capacity | None
) -> list[Candidate]:
    """Return those of the jobs chosen for a runner that fit into the budget if they run to their limits."""
    lock(tx)
    settle(tx, workflow["id"], workflow["charged_to"])
    found = spent(tx, but=workflow["id"])
    if found.limit_seconds is None:
        return list(chosen)
    room = found.limit_seconds - found.node_seconds - found.reserved_seconds - held_seconds(tx, workflow["id"])
    taken: list[Candidate] = []
    for job in chosen:
        cost = node_seconds(job.request, float(job.request.runtime_seconds), capacity)
        if cost <= room:
            room -= cost
            taken.append(job)
    if len(taken) < len(chosen):
        _tell(tx, workflow["id"], room)
    return taken


def _tell(tx: Tx, workflow_id: int, room: float) -> None:
    """Log once per run that the budget holds jobs back."""
    begun = events.last_id_of(tx.db, tx.dialect, workflow_id, "run_started")
    if not events.last_id_of(tx.db, tx.dialect, workflow_id, "budget_spent", after=begun):
        tx.event(workflow_id, "budget_spent", node_hours_left=round(max(0.0, room) / HOUR, 3))
