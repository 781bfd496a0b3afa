"""Rows of runners, and what they hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.dialect import Dialect
from torc.store.json_columns import loads
from torc.workflow.resources import Capacity

_NEWEST = 2**62
_ACTIVE = text("SELECT * FROM runner WHERE workflow_id = :id AND is_active ORDER BY id")
_EXPIRED = text("SELECT * FROM runner WHERE workflow_id = :id AND is_active AND lease_expires_at < :now ORDER BY id")
_NUM_ACTIVE = text("SELECT count(*) FROM runner WHERE workflow_id = :id AND is_active")
_NUM = text("SELECT count(*) FROM runner WHERE workflow_id = :id")
_LIST = text(
    "SELECT * FROM runner WHERE workflow_id = :id AND id < :before AND (is_active OR NOT :active) "
    "ORDER BY id DESC LIMIT :n"
)
_IN_ALLOCATION = text("SELECT * FROM runner WHERE allocation_id = :id AND is_active ORDER BY id")
_NUM_IN_ALLOCATION = text("SELECT count(*) FROM runner WHERE allocation_id = :id")
_LAST_SPOKE = text(
    "SELECT node, max(lease_expires_at) AS lease_expires_at FROM runner WHERE allocation_id = :id AND node IS NOT NULL "
    "GROUP BY node ORDER BY 2"
)
_HELD = text("SELECT id FROM job WHERE runner_id = :id")
_HOLDER = text("SELECT r.* FROM job j JOIN runner r ON r.id = j.runner_id WHERE j.id = :id")
_RELEASE = text("UPDATE job SET runner_id = NULL WHERE runner_id = :id")
_RENEW = "UPDATE runner SET lease_expires_at = :lease WHERE is_active AND lease_expires_at < :lease"


class Reporter(NamedTuple):
    """A reporting runner, with the facts that decide how its reports are treated."""

    is_active: bool
    run_id: int
    kind: str
    labels: Any  # JSON
    allocation_id: int | None
    started_at: float
    lease_expires_at: float
    end_reason: str | None
    last_exchange: int


_REPORTER = f"SELECT {', '.join(Reporter._fields)} FROM runner WHERE id = :id AND workflow_id = :workflow_id"


def reporter(db: Connection, dialect: Dialect, runner_id: int, workflow_id: int) -> Reporter | None:
    """Return a runner of a workflow that reports."""
    found = dialect.fetch(db, _REPORTER, {"id": runner_id, "workflow_id": workflow_id})
    return Reporter(*found[0]) if found else None


def get(db: Connection, runner_id: int) -> RowMapping | None:
    """Return the row of a runner."""
    return rows.get(db, "runner", runner_id)


def insert(db: Connection, values: Mapping[str, Any]) -> None:
    """Add an active runner."""
    rows.insert(db, "runner", {"is_active": True, "num_completed": 0, "num_failed": 0, **values})


def newest(
    db: Connection, workflow_id: int, *, active_only: bool, before: int | None, limit: int
) -> Sequence[RowMapping]:
    """Return rows of the runners of a workflow, newest first."""
    values = {
        "id": workflow_id,
        "before": _NEWEST if before is None else before,
        "active": active_only,
        "n": limit,
    }
    return db.execute(_LIST, values).mappings().all()


def active(db: Connection, workflow_id: int) -> Sequence[RowMapping]:
    """Return rows of the runners that work on a workflow."""
    return db.execute(_ACTIVE, {"id": workflow_id}).mappings().all()


def num_active(db: Connection, workflow_id: int) -> int:
    """Return how many runners work on a workflow."""
    return int(db.execute(_NUM_ACTIVE, {"id": workflow_id}).scalar_one())


def number(db: Connection, workflow_id: int) -> int:
    """Return how many runners a workflow has had."""
    return int(db.execute(_NUM, {"id": workflow_id}).scalar_one())


def expired(db: Connection, workflow_id: int, now: float) -> Sequence[RowMapping]:
    """Return rows of the runners that did not renew their leases in time."""
    return db.execute(_EXPIRED, {"id": workflow_id, "now": now}).mappings().all()


def renew_leases(db: Connection, lease_expires_at: float, workflow_id: int | None = None) -> None:
    """Extend the leases of the active runners of one workflow, or of all."""
    values: dict[str, Any] = {"lease": lease_expires_at}
    if workflow_id is None:
        db.execute(text(_RENEW), values)
    else:
        db.execute(text(f"{_RENEW} AND workflow_id = :id"), {**values, "id": workflow_id})


def capacities(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, Capacity]:
    """Return what the nodes of all runners of a workflow hold, by runner."""
    found = dialect.fetch(db, "SELECT id, capacity FROM runner WHERE workflow_id = :id", {"id": workflow_id})
    return {number: Capacity.of_node(loads(capacity)) for number, capacity in found}


def end(db: Connection, runner_id: int, now: float, reason: str) -> None:
    """Record that a runner has ended and holds nothing any more."""
    db.execute(_RELEASE, {"id": runner_id})
    rows.update(db, "runner", runner_id, {"is_active": False, "ended_at": now, "end_reason": reason})


def held_jobs(db: Connection, runner_id: int) -> list[int]:
    """Return the ids of the jobs that a runner holds."""
    return list(db.execute(_HELD, {"id": runner_id}).scalars())


def holder_of(db: Connection, job_id: int) -> RowMapping | None:
    """Return the row of the runner that holds a job."""
    return db.execute(_HOLDER, {"id": job_id}).mappings().first()


def holding(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> set[int]:
    """Return the ids of the runners that hold any of some jobs."""
    query = f"SELECT DISTINCT runner_id FROM job WHERE runner_id IS NOT NULL AND id IN {dialect.id_list}"
    return set(db.execute(text(query), {"ids": dialect.ids(job_ids)}).scalars())


def job_token_hash(db: Connection, dialect: Dialect, runner_id: int) -> str | None:
    """Return the hash of the token that a runner gives to its jobs."""
    found = dialect.fetch(db, "SELECT job_token_hash FROM runner WHERE id = :id", {"id": runner_id})
    return found[0][0] if found else None


# -- what every exchange asks -----------------------------------------------------------------------------------

#: ends of runners that have ended their jobs themselves
_ENDED_ALL = "('finished', 'stopped', 'failed', 'died')"
_GIVEN_UP = (
    "SELECT o.id, o.pid, o.process_started FROM runner o JOIN runner r ON r.host = o.host AND r.boot_id = o.boot_id "
    "WHERE r.id = :id AND o.workflow_id = r.workflow_id AND o.id <> r.id AND NOT o.is_active "
    f"AND coalesce(o.end_reason, '') NOT IN {_ENDED_ALL} ORDER BY o.id"
)
_RENEW_ONE = (
    "UPDATE runner SET lease_expires_at = :lease, num_completed = num_completed + :completed, "
    "num_failed = num_failed + :failed, last_exchange = :number WHERE id = :id"
)
_OTHERS_LATE = "SELECT 1 FROM runner WHERE workflow_id = :workflow_id AND is_active AND id <> :id AND lease_expires_at < :now LIMIT 1"
_BUSY = "SELECT 1 FROM job j JOIN runner r ON r.id = j.runner_id WHERE r.allocation_id = :id AND r.is_active LIMIT 1"
_GIVEN = "SELECT id, attempt, state FROM job WHERE runner_id = :id AND state IN ('pending', 'running')"
_CANCELED = "SELECT id, attempt, state FROM job WHERE runner_id = :id AND state = 'canceled'"


class HeldJob(NamedTuple):
    """A job that a runner holds."""

    id: int
    attempt: int
    state: str


class GivenUpRunner(NamedTuple):
    """A runner that was given up, and may have left processes."""

    id: int
    pid: int
    process_started: str


class Renewal(NamedTuple):
    """What an exchange changes of a runner: its lease, what it has done, and the number of the exchange."""

    id: int
    lease: float
    completed: int
    failed: int
    number: int


def renew(db: Connection, dialect: Dialect, renewal: Renewal) -> None:
    """Renew the lease of a runner after an exchange."""
    dialect.run(db, _RENEW_ONE, renewal._asdict())


def others_are_late(db: Connection, dialect: Dialect, workflow_id: int, runner_id: int, now: float) -> bool:
    """Return whether the lease of another runner of a workflow has expired."""
    return bool(dialect.fetch(db, _OTHERS_LATE, {"workflow_id": workflow_id, "id": runner_id, "now": now}))


def hold_jobs_in(db: Connection, dialect: Dialect, allocation_id: int) -> bool:
    """Return whether a runner in an allocation holds jobs."""
    return bool(dialect.fetch(db, _BUSY, {"id": allocation_id}))


def given_jobs(db: Connection, dialect: Dialect, runner_id: int) -> list[HeldJob]:
    """Return the jobs that a runner has been given and that nobody has canceled."""
    return list(map(HeldJob._make, dialect.fetch(db, _GIVEN, {"id": runner_id})))


def canceled_jobs(db: Connection, dialect: Dialect, runner_id: int) -> list[HeldJob]:
    """Return the canceled jobs that a runner has not stopped yet."""
    return list(map(HeldJob._make, dialect.fetch(db, _CANCELED, {"id": runner_id})))


def given_up_beside(db: Connection, dialect: Dialect, runner_id: int) -> list[GivenUpRunner]:
    """Return the runners of the same workflow that were given up on the host of a runner since it was started."""
    return list(map(GivenUpRunner._make, dialect.fetch(db, _GIVEN_UP, {"id": runner_id})))


# -- of an allocation -------------------------------------------------------------------------------------------


def active_in_allocation(db: Connection, allocation_id: int) -> Sequence[RowMapping]:
    """Return rows of the runners at work in an allocation."""
    return db.execute(_IN_ALLOCATION, {"id": allocation_id}).mappings().all()


def number_in_allocation(db: Connection, allocation_id: int) -> int:
    """Return how many runners an allocation has had."""
    return int(db.execute(_NUM_IN_ALLOCATION, {"id": allocation_id}).scalar_one())


def numbers_in_allocations(db: Connection, dialect: Dialect, allocation_ids: Collection[int]) -> Mapping[int, int]:
    """Return how many runners some allocations have had; those without any are left out."""
    query = (
        f"SELECT allocation_id, count(*) AS number FROM runner WHERE allocation_id IN {dialect.id_list} "
        "GROUP BY allocation_id"
    )
    found = db.execute(text(query), {"ids": dialect.ids(allocation_ids)}).mappings()
    return {row["allocation_id"]: row["number"] for row in found}


def last_leases(db: Connection, allocation_id: int) -> Sequence[RowMapping]:
    """Return the nodes of an allocation with when the last lease there expires (`node`, `lease_expires_at`), earliest first."""
    return db.execute(_LAST_SPOKE, {"id": allocation_id}).mappings().all()
