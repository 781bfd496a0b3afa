"""Rows of allocations, and what ran in them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.planning.allocations import AllocationState, AllocationStatus
from torc.store import rows
from torc.store.access import among_visible
from torc.store.conditions import Conditions
from torc.store.json_columns import loads
from torc.workflow.access import Rights

_NEWEST = 2**62
_STATUS = tuple(field.name for field in fields(AllocationStatus))
_BLOCK = text("SELECT * FROM allocation WHERE id >= :first AND id < :end ORDER BY id")
_NOT_ENDED = text("SELECT * FROM allocation WHERE workflow_id = :id AND state <> 'ended' ORDER BY id")
_WAITING = text(
    "SELECT a.*, (SELECT count(*) FROM runner r WHERE r.allocation_id = a.id) AS num_runners FROM allocation a "
    "WHERE a.workflow_id = :id AND a.state <> 'ended' ORDER BY a.expected_start_at IS NULL, a.expected_start_at, a.id"
)
_LAST_ENDED = text("SELECT * FROM allocation WHERE workflow_id = :id AND state = 'ended' ORDER BY id DESC LIMIT 1")
_REQUEST_CANCEL = text("UPDATE allocation SET cancel_requested_at = :now WHERE id = :id")
_FAILED_NODES = text(
    "SELECT failed_nodes, ended_at FROM allocation WHERE workflow_id = :id AND failed_nodes IS NOT NULL"
)
_ATTEMPTS = text(
    "SELECT a.runner_id, a.started_at, a.ended_at FROM attempt a JOIN runner r ON r.id = a.runner_id "
    "WHERE r.allocation_id = :id AND a.started_at IS NOT NULL"
)
_UNEXPLAINED = text(
    "SELECT a.id, a.reason, a.return_code FROM attempt a JOIN runner r ON r.id = a.runner_id "
    "WHERE r.allocation_id = :id AND a.slurm_state IS NULL AND a.state <> 'completed'"
)
_EXPLAIN = text("UPDATE attempt SET slurm_state = :word WHERE id = :id")
#: upper limit for the delay of the accounting
_SETTLES_SECONDS = 1800.0
_TO_FOLLOW = (
    "(a.state <> 'ended' OR (a.exit_code IS NULL AND a.cluster_job_id IS NOT NULL AND a.started_at IS NOT NULL "
    "AND a.ended_at > :lately))"
)
_USAGE = """SELECT w.id AS workflow_id, w.name, w."user", count(*) AS num_allocations,
    sum(CASE WHEN a.state = 'ended' THEN 0 ELSE 1 END) AS num_active, sum(a.node_seconds_used) AS node_seconds_used,
    sum(coalesce(a.node_seconds_wasted, 0)) AS node_seconds_wasted,
    sum(CASE WHEN a.gpus_per_node > 0 THEN a.node_seconds_used ELSE 0 END) AS gpu_node_seconds_used
    FROM allocation a JOIN workflow w ON w.id = a.workflow_id"""


class AllocationFilter(NamedTuple):
    """Which allocations to list. `followed_at`: those about which the cluster must be queried at that time."""

    workflow_id: int | None = None
    active_only: bool = False
    followed_at: float | None = None


def get(db: Connection, allocation_id: int) -> RowMapping | None:
    """Return the row of an allocation."""
    return rows.get(db, "allocation", allocation_id)


def insert(db: Connection, values: Mapping[str, Any]) -> None:
    """Add an allocation to be submitted."""
    begun = {"nodes": "[]", "state": AllocationState.SUBMITTING.value, "restarts": 0, "node_seconds_used": 0}
    rows.insert(db, "allocation", {**begun, **values})


def block(db: Connection, first: int, number: int) -> Sequence[RowMapping]:
    """Return the rows with consecutive ids."""
    return db.execute(_BLOCK, {"first": first, "end": first + number}).mappings().all()


def not_ended(db: Connection, workflow_id: int) -> Sequence[RowMapping]:
    """Return the allocations of a workflow that have not ended."""
    return db.execute(_NOT_ENDED, {"id": workflow_id}).mappings().all()


def waiting(db: Connection, workflow_id: int) -> Sequence[RowMapping]:
    """Like `not_ended`, with `num_runners`, ordered by expected start."""
    return db.execute(_WAITING, {"id": workflow_id}).mappings().all()


def last_ended(db: Connection, workflow_id: int) -> RowMapping | None:
    """Return the newest allocation of a workflow that has ended."""
    return db.execute(_LAST_ENDED, {"id": workflow_id}).mappings().first()


def newest(
    db: Connection, rights: Rights | None, wanted: AllocationFilter, *, before: int | None, limit: int
) -> Sequence[RowMapping]:
    """Return allocations of workflows that a caller may see, newest first."""
    where = among_visible(rights, "a.workflow_id")
    where.add("a.id < :before", before=_NEWEST if before is None else before)
    if wanted.workflow_id is not None:
        where.add("a.workflow_id = :workflow_id", workflow_id=wanted.workflow_id)
    if wanted.active_only:
        where.add("a.state <> 'ended'")
    if wanted.followed_at is not None:
        where.add(_TO_FOLLOW, lately=wanted.followed_at - _SETTLES_SECONDS)
    query = text(f"SELECT a.* FROM allocation a WHERE {where} ORDER BY a.id DESC LIMIT :n")
    return db.execute(query, {**where.values, "n": limit}).mappings().all()


def update(db: Connection, allocation_id: int, values: Mapping[str, Any]) -> None:
    """Change columns."""
    rows.update(db, "allocation", allocation_id, values)


def status(row: RowMapping) -> AllocationStatus:
    """Return what is known of an allocation."""
    known: dict[str, Any] = {name: row[name] for name in _STATUS}
    known |= {"state": AllocationState(row["state"]), "nodes": tuple(loads(row["nodes"], []))}
    return AllocationStatus(**known)


def write_status(db: Connection, allocation_id: int, known: AllocationStatus, **more: Any) -> None:
    """Write what is known of an allocation, and further columns."""
    values: dict[str, Any] = {name: getattr(known, name) for name in _STATUS}
    values |= {"state": known.state.value, "nodes": json.dumps(list(known.nodes)), **more}
    update(db, allocation_id, values)


def request_cancel(db: Connection, ids: Collection[int], now: float) -> None:
    """Mark allocations to be cancelled."""
    if ids:
        db.execute(_REQUEST_CANCEL, [{"now": now, "id": number} for number in ids])


def failed_nodes(db: Connection, workflow_id: int) -> list[tuple[str, float]]:
    """Return the nodes that failed under allocations of a workflow, with when those ended."""
    found = db.execute(_FAILED_NODES, {"id": workflow_id}).mappings()
    return [(node, float(row["ended_at"])) for row in found for node in loads(row["failed_nodes"], [])]


def attempts(db: Connection, allocation_id: int) -> Sequence[RowMapping]:
    """Return when attempts in an allocation began and ended (`runner_id`, `started_at`, `ended_at`)."""
    return db.execute(_ATTEMPTS, {"id": allocation_id}).mappings().all()


def unexplained_attempts(db: Connection, allocation_id: int) -> Sequence[RowMapping]:
    """Return the unsuccessful attempts in an allocation of which the cluster has said nothing (`id`, `reason`, `return_code`)."""
    return db.execute(_UNEXPLAINED, {"id": allocation_id}).mappings().all()


def explain_attempts(db: Connection, ids: Collection[int], cluster_state: str) -> None:
    """Record what the cluster says about attempts."""
    if ids:
        db.execute(_EXPLAIN, [{"word": cluster_state, "id": number} for number in ids])


def usage(
    db: Connection, rights: Rights | None, *, workflow_id: int | None, since: float | None
) -> Sequence[RowMapping]:
    """Return sums over the allocations of each workflow that a caller may see, the most node-seconds first."""
    where: Conditions = among_visible(rights, "w.id")
    if workflow_id is not None:
        where.add("w.id = :workflow_id", workflow_id=workflow_id)
    if since is not None:
        where.add("a.created_at >= :since", since=since)
    query = f'{_USAGE} WHERE {where} GROUP BY w.id, w.name, w."user" ORDER BY 6 DESC, w.id'
    return db.execute(text(query), where.values).mappings().all()
