"""The one budget of assistants in a store: what all that they began has cost, over all workflows, sessions and callers.

A plan that begins a run reserves its estimate when it is applied, and its workflow is charged to it (`workflow.charged_to`) until
what it began is over. While it goes on, a runner gets a job only if the job could run to its limit within the budget; attempts
that ended count with the time that they took. Workflows that people run are charged to nothing, and exchanges of their runners
do nothing of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping, text

from torc.operations.transaction import Tx
from torc.planning.cost import node_seconds
from torc.store.json_columns import loads
from torc.workflow.packing import Candidate
from torc.workflow.resources import Capacity, ResourceRequest

NAME = "assistants"
#: so long after a plan was applied, what it was to begin may still not have spoken
_PATIENCE_SECONDS = 900.0
_HOUR = 3600.0
_MAKE = text(
    "INSERT INTO spending (name, node_seconds, num_retries) VALUES (:name, 0, 0) ON CONFLICT (name) DO NOTHING"
)
_LOCK = text("UPDATE spending SET num_retries = num_retries + 0 WHERE name = :name")
_READ = text("SELECT node_seconds, num_retries, limit_seconds FROM spending WHERE name = :name")
_ADD = "UPDATE spending SET node_seconds = node_seconds + :seconds WHERE name = 'assistants'"
_CHARGED = (
    "SELECT w.id, i.id, i.applied_at, coalesce(i.reserved_seconds, 0), coalesce(i.used_seconds, 0) FROM workflow w "
    "JOIN intervention i ON i.id = w.charged_to WHERE w.charged_to IS NOT NULL"
)
_HELD = (
    "SELECT r.capacity, q.num_cpus, q.num_gpus, q.num_nodes, q.memory_bytes, q.runtime_seconds, count(*) FROM runner r "
    "JOIN job j ON j.runner_id = r.id JOIN requirement q ON q.id = j.requirement_id WHERE r.workflow_id = :id AND r.is_active "
    "AND j.state IN ('pending', 'running') GROUP BY r.id, q.id"
)
_SINCE = (
    "SELECT a.id, a.wall_seconds, r.capacity, q.num_cpus, q.num_gpus, q.num_nodes, q.memory_bytes, q.runtime_seconds FROM attempt a "
    "JOIN job j ON j.id = a.job_id JOIN requirement q ON q.id = coalesce(a.requirement_id, j.requirement_id) "
    "LEFT JOIN runner r ON r.id = a.runner_id WHERE a.workflow_id = :id AND a.id > :after ORDER BY a.id"
)
_USE = "UPDATE intervention SET used_seconds = coalesce(used_seconds, 0) + :seconds, charged_attempt = :attempt WHERE id = :plan"
_MARK = "SELECT coalesce(charged_attempt, 0), applied_at, arguments FROM intervention WHERE id = :plan"
_AT_WORK = (
    "SELECT 1 FROM runner WHERE workflow_id = :id AND is_active UNION ALL "
    "SELECT 1 FROM allocation WHERE workflow_id = :id AND state <> 'ended' LIMIT 1"
)
_UNCHARGE = "UPDATE workflow SET charged_to = NULL WHERE id = :id"
_LAST_EVENT = "SELECT 1 FROM event WHERE workflow_id = :id AND type = 'budget_spent' AND id > :after LIMIT 1"
_RUN_EVENT = "SELECT coalesce(max(id), 0) FROM event WHERE workflow_id = :id AND type = 'run_started'"


class BudgetUse(NamedTuple):
    """What was spent, what is spoken for beside it, and what may be spent at most (None: no limit is known)."""

    node_seconds: float
    num_retries: int
    reserved_seconds: float
    limit_seconds: float | None


def spent(tx: Tx, *, but: int | None = None) -> BudgetUse:
    """Sum up; `but`: a workflow whose plans are left out of what is spoken for."""
    found = tx.db.execute(_READ, {"name": NAME}).first()
    used, retries, limit = found or (0.0, 0, None)
    return BudgetUse(used, retries, _reserved(tx, but), limit)


def lock(tx: Tx) -> None:
    """Let nobody else spend until the transaction ends."""
    tx.db.execute(_MAKE, {"name": NAME})
    tx.db.execute(_LOCK, {"name": NAME})


def charge_retries(tx: Tx, number: int, limit_seconds: float | None) -> None:
    """Count retries, and note what the deployment allows."""
    query = "UPDATE spending SET num_retries = num_retries + :number, limit_seconds = :limit WHERE name = :name"
    tx.db.execute(text(query), {"number": number, "limit": limit_seconds, "name": NAME})


def start_anew(tx: Tx) -> None:
    """Forget what was spent: for people alone."""
    lock(tx)
    tx.db.execute(text("UPDATE spending SET node_seconds = 0, num_retries = 0 WHERE name = :name"), {"name": NAME})


def _reserved(tx: Tx, but: int | None) -> float:
    """Sum up what plans that were applied may still take: their estimates, or what runners hold if that is more."""
    total = 0.0
    for workflow_id, _, applied_at, reserved, used in tx.dialect.fetch(tx.db, _CHARGED, {}):
        if workflow_id == but:
            continue
        if is_at_work(tx, workflow_id) or tx.now - applied_at < _PATIENCE_SECONDS:
            total += max(reserved - used, held_seconds(tx, workflow_id))
    return total


def held_seconds(tx: Tx, workflow_id: int) -> float:
    """Return the node-seconds of what the runners of a workflow hold, if all of it ran to its limits."""
    rows = tx.dialect.fetch(tx.db, _HELD, {"id": workflow_id})
    return sum((count * _price(capacity, request, request[4]) for capacity, *request, count in rows), 0.0)


def _price(capacity: object, request: Sequence[int], seconds: float) -> float:
    fields = loads(capacity, {})
    node = Capacity(fields["num_cpus"], fields["memory_bytes"], fields.get("num_gpus", 0)) if fields else None
    cpus, gpus, nodes, memory, runtime = request
    return node_seconds(ResourceRequest(cpus, gpus, nodes, memory, runtime), seconds, node)


def is_at_work(tx: Tx, workflow_id: int) -> bool:
    """Return whether runners work on a workflow, or allocations wait or run for it."""
    return bool(tx.dialect.fetch(tx.db, _AT_WORK, {"id": workflow_id}))


def settle(tx: Tx, workflow_id: int, plan: int) -> None:
    """Charge the attempts that have ended since the last time, each once, with the time that they took."""
    found = tx.dialect.fetch(tx.db, _MARK, {"plan": plan})
    if not found:
        return
    rows = tx.dialect.fetch(tx.db, _SINCE, {"id": workflow_id, "after": found[0][0]})
    if not rows:
        return
    seconds = sum(_price(row[2], row[3:], row[1]) for row in rows)
    tx.db.execute(_MAKE, {"name": NAME})
    tx.dialect.run(tx.db, _ADD, {"seconds": seconds})
    tx.dialect.run(tx.db, _USE, {"seconds": seconds, "attempt": rows[-1][0], "plan": plan})


def end_charge(tx: Tx, workflow: RowMapping, *, run_is_over: bool = False) -> None:
    """Settle what a workflow is charged to, and stop charging it when what the plan began is over."""
    plan = workflow["charged_to"]
    settle(tx, workflow["id"], plan)
    found = tx.dialect.fetch(tx.db, _MARK, {"plan": plan})
    submits = bool(found) and loads(found[0][2], {}).get("starts") == "submit"
    waits = (
        submits and not run_is_over and tx.now - found[0][1] < 30 * 86_400.0
    )  # the next allocation may be asked for later
    if not waits and not is_at_work(tx, workflow["id"]):
        tx.dialect.run(tx.db, _UNCHARGE, {"id": workflow["id"]})


def forget_old_charge(tx: Tx, workflow: RowMapping) -> None:
    """Stop charging a workflow to a plan that never began anything."""
    found = tx.dialect.fetch(tx.db, _MARK, {"plan": workflow["charged_to"]})
    if not found or tx.now - found[0][1] >= _PATIENCE_SECONDS:
        end_charge(tx, workflow, run_is_over=True)


def within_budget(
    tx: Tx, workflow: RowMapping, chosen: Sequence[Candidate], capacity: Capacity | None
) -> list[Candidate]:
    """Leave of the jobs that a runner would get those that fit the budget if they run to their limits."""
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
    """Say once a run that the budget holds jobs back."""
    begun = tx.dialect.fetch(tx.db, _RUN_EVENT, {"id": workflow_id})[0][0]
    if not tx.dialect.fetch(tx.db, _LAST_EVENT, {"id": workflow_id, "after": begun}):
        tx.event(workflow_id, "budget_spent", node_hours_left=round(max(0.0, room) / _HOUR, 3))
