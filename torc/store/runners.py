"""Rows of runners, and what they hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.dialect import Dialect
from torc.store.json_columns import loads

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
_RELEASE = text("UPDATE job SET runner_id = NULL WHERE runner_id = :id")
_RENEW = "UPDATE runner SET lease_expires_at = :lease WHERE is_active AND lease_expires_at < :lease"


def get(db: Connection, runner_id: int) -> RowMapping | None:
    """Return the row of a runner."""
    return rows.get(db, "runner", runner_id)


def insert(db: Connection, values: Mapping[str, Any]) -> None:
    """Add a runner that is at work."""
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
    """Prolong the leases of the runners that work on one workflow, or on any."""
    values: dict[str, Any] = {"lease": lease_expires_at}
    if workflow_id is None:
        db.execute(text(_RENEW), values)
    else:
        db.execute(text(f"{_RENEW} AND workflow_id = :id"), {**values, "id": workflow_id})


def capacities(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, Mapping[str, Any]]:
    """Return what the nodes of all runners of a workflow hold, by runner."""
    found = dialect.fetch(db, "SELECT id, capacity FROM runner WHERE workflow_id = :id", {"id": workflow_id})
    return {number: loads(capacity, {}) for number, capacity in found}


def end(db: Connection, runner_id: int, now: float, reason: str) -> None:
    """Note that a runner has ended; it holds nothing any more."""
    db.execute(_RELEASE, {"id": runner_id})
    rows.update(db, "runner", runner_id, {"is_active": False, "ended_at": now, "end_reason": reason})


def held_jobs(db: Connection, runner_id: int) -> list[int]:
    """Return the ids of the jobs that a runner holds."""
    return list(db.execute(_HELD, {"id": runner_id}).scalars())


def holding(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> set[int]:
    """Return the ids of the runners that hold any of some jobs."""
    query = f"SELECT DISTINCT runner_id FROM job WHERE runner_id IS NOT NULL AND id IN {dialect.id_list}"
    return set(db.execute(text(query), {"ids": dialect.ids(job_ids)}).scalars())


def job_token_hash(db: Connection, dialect: Dialect, runner_id: int) -> str | None:
    """Return the hash of the token that a runner gives to its jobs."""
    found = dialect.fetch(db, "SELECT job_token_hash FROM runner WHERE id = :id", {"id": runner_id})
    return found[0][0] if found else None


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
