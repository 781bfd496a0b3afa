"""The cost of everything that assistants started in this store (one row of `spending`), and what their plans may still cost.

A workflow is charged to a plan until what the plan started is over (`workflow.charged_to`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from torc.store.dialect import Dialect
from torc.store.json_columns import loads
from torc.workflow.resources import Capacity, ResourceRequest

_NAME = "assistants"
_MAKE = text(
    "INSERT INTO spending (name, node_seconds, num_retries) VALUES (:name, 0, 0) ON CONFLICT (name) DO NOTHING"
)
_LOCK = text("UPDATE spending SET num_retries = num_retries + 0 WHERE name = :name")
_READ = "SELECT node_seconds, num_retries, limit_seconds FROM spending WHERE name = :name"
_ADD_SECONDS = "UPDATE spending SET node_seconds = node_seconds + :seconds WHERE name = :name"
_ADD_RETRIES = text(
    "UPDATE spending SET num_retries = num_retries + :number, limit_seconds = :limit WHERE name = :name"
)
_RESET = text("UPDATE spending SET node_seconds = 0, num_retries = 0 WHERE name = :name")
_CHARGED = (
    "SELECT w.id, i.id, i.applied_at, coalesce(i.reserved_seconds, 0), coalesce(i.used_seconds, 0) FROM workflow w "
    "JOIN intervention i ON i.id = w.charged_to WHERE w.charged_to IS NOT NULL"
)
_REQUEST = "q.num_cpus, q.num_gpus, q.num_nodes, q.memory_bytes, q.runtime_seconds"
_HELD = (
    f"SELECT count(*), r.capacity, {_REQUEST} FROM runner r "
    "JOIN job j ON j.runner_id = r.id JOIN requirement q ON q.id = j.requirement_id WHERE r.workflow_id = :id AND r.is_active "
    "AND j.state IN ('pending', 'running') GROUP BY r.id, q.id"
)
_ATTEMPTS = (
    f"SELECT a.id, a.wall_seconds, r.capacity, {_REQUEST} FROM attempt a "
    "JOIN job j ON j.id = a.job_id JOIN requirement q ON q.id = coalesce(a.requirement_id, j.requirement_id) "
    "LEFT JOIN runner r ON r.id = a.runner_id WHERE a.workflow_id = :id AND a.id > :after ORDER BY a.id"
)
_USE = (
    "UPDATE intervention SET used_seconds = coalesce(used_seconds, 0) + :seconds, charged_attempt = :attempt "
    "WHERE id = :plan"
)
_CHARGE = "SELECT coalesce(charged_attempt, 0), applied_at, arguments FROM intervention WHERE id = :plan"
_AT_WORK = (
    "SELECT 1 FROM runner WHERE workflow_id = :id AND is_active UNION ALL "
    "SELECT 1 FROM allocation WHERE workflow_id = :id AND state <> 'ended' LIMIT 1"
)
_CHARGE_TO = "UPDATE workflow SET charged_to = :plan WHERE id = :id"


class SpendingTotals(NamedTuple):
    """What was spent, and what may be spent at most (None: no limit is known)."""

    node_seconds: float = 0.0
    num_retries: int = 0
    limit_seconds: float | None = None


class ChargedWorkflow(NamedTuple):
    """A workflow and the plan that it is charged to."""

    workflow_id: int
    plan_id: int
    applied_at: float
    reserved_seconds: float
    used_seconds: float


class HeldJobs(NamedTuple):
    """How many jobs with a request a runner holds on its node."""

    number: int
    node: Capacity
    request: ResourceRequest


class EndedAttempt(NamedTuple):
    """An attempt that has ended, with what its job asked for. `node`: where it ran, if that is known."""

    id: int
    wall_seconds: float
    node: Capacity | None
    request: ResourceRequest


class PlanCharge(NamedTuple):
    """The last attempt that was charged to a plan, when it was applied, and what it does."""

    charged_attempt: int
    applied_at: float
    arguments: Mapping[str, Any]


def totals(db: Connection, dialect: Dialect) -> SpendingTotals:
    """Return what was spent."""
    found = dialect.fetch(db, _READ, {"name": _NAME})
    return SpendingTotals(*found[0]) if found else SpendingTotals()


def lock(db: Connection) -> None:
    """Keep others from spending until the transaction ends."""
    for statement in (_MAKE, _LOCK):
        db.execute(statement, {"name": _NAME})


def add_seconds(db: Connection, dialect: Dialect, node_seconds: float) -> None:
    """Count node-seconds."""
    db.execute(_MAKE, {"name": _NAME})
    dialect.run(db, _ADD_SECONDS, {"seconds": node_seconds, "name": _NAME})


def add_retries(db: Connection, number: int, limit_seconds: float | None) -> None:
    """Count retries, and record the limit."""
    db.execute(_ADD_RETRIES, {"number": number, "limit": limit_seconds, "name": _NAME})


def reset(db: Connection) -> None:
    """Reset what was spent."""
    db.execute(_RESET, {"name": _NAME})


def charged_workflows(db: Connection, dialect: Dialect) -> list[ChargedWorkflow]:
    """Return the workflows that are charged to plans."""
    return [ChargedWorkflow(*row) for row in dialect.fetch(db, _CHARGED, {})]


def held_jobs(db: Connection, dialect: Dialect, workflow_id: int) -> list[HeldJobs]:
    """Return what the runners of a workflow hold."""
    rows = dialect.fetch(db, _HELD, {"id": workflow_id})
    return [HeldJobs(row[0], Capacity.of_node(loads(row[1])), ResourceRequest(*row[2:])) for row in rows]


def ended_attempts(db: Connection, dialect: Dialect, workflow_id: int, after: int) -> list[EndedAttempt]:
    """Return the attempts of a workflow behind one, in the order of their ids."""
    rows = dialect.fetch(db, _ATTEMPTS, {"id": workflow_id, "after": after})
    return [EndedAttempt(row[0], row[1], _node(row[2]), ResourceRequest(*row[3:])) for row in rows]


def _node(capacity: Any) -> Capacity | None:
    return None if capacity is None else Capacity.of_node(loads(capacity))


def charge(db: Connection, dialect: Dialect, plan_id: int) -> PlanCharge | None:
    """Return how far a plan was charged."""
    found = dialect.fetch(db, _CHARGE, {"plan": plan_id})
    return PlanCharge(found[0][0], found[0][1], loads(found[0][2], {})) if found else None


def note_use(db: Connection, dialect: Dialect, plan_id: int, node_seconds: float, last_attempt: int) -> None:
    """Charge node-seconds to a plan, and note up to which attempt."""
    dialect.run(db, _USE, {"seconds": node_seconds, "attempt": last_attempt, "plan": plan_id})


def is_at_work(db: Connection, dialect: Dialect, workflow_id: int) -> bool:
    """Return whether runners work on a workflow, or allocations wait or run for it."""
    return bool(dialect.fetch(db, _AT_WORK, {"id": workflow_id}))


def charge_to(db: Connection, dialect: Dialect, workflow_id: int, plan_id: int | None) -> None:
    """Charge what a workflow runs to a plan, or to none."""
    dialect.run(db, _CHARGE_TO, {"plan": plan_id, "id": workflow_id})
