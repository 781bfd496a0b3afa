"""Rows of `workflow`, and what is counted of its jobs and runners."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from torc.store.dialect import Dialect
from torc.workflow.states import State

#: the condition on a row that its workflow is stored whole: of one that is not yet, nothing is returned
IN_WORKFLOW = "EXISTS (SELECT 1 FROM workflow WHERE workflow.id = {}.workflow_id)"
_GET = text("SELECT * FROM workflow WHERE id = :id")
_INCREMENT_VERSION = text("UPDATE workflow SET version = version + 1, updated_at = :now WHERE id = :id")
_IDS = "SELECT min(id), max(id) FROM {} WHERE workflow_id = :id"


def get(db: Connection, workflow_id: int) -> RowMapping | None:
    """Return the row of a workflow."""
    return db.execute(_GET, {"id": workflow_id}).mappings().first()


def increment_version(db: Connection, workflow_id: int, now: float) -> None:
    """Note that somebody changed a workflow: what was proposed for an earlier version of it is stale."""
    db.execute(_INCREMENT_VERSION, {"now": now, "id": workflow_id})


def update(db: Connection, workflow_id: int, values: Mapping[str, Any]) -> None:
    """Change columns of a workflow."""
    assignments = ", ".join(f"{column} = :{column}" for column in values)
    db.execute(text(f"UPDATE workflow SET {assignments} WHERE id = :id"), {**values, "id": workflow_id})


def job_counts(db: Connection, dialect: Dialect, workflow_ids: Collection[int]) -> dict[int, dict[State, int]]:
    """Return how many jobs of some workflows are in which states; states without a job are absent."""
    found: dict[int, dict[State, int]] = {number: {} for number in workflow_ids}
    query = f"SELECT workflow_id, state, count FROM job_count WHERE count > 0 AND workflow_id IN {dialect.id_list}"
    for workflow_id, state, count in dialect.fetch(db, query, {"ids": dialect.ids(workflow_ids)}):
        found[workflow_id][State(state)] = count
    return found


def with_active_runners(db: Connection, dialect: Dialect, workflow_ids: Collection[int]) -> set[int]:
    """Return those of some workflows that runners work on."""
    query = f"SELECT DISTINCT workflow_id FROM runner WHERE is_active AND workflow_id IN {dialect.id_list}"
    return {row[0] for row in dialect.fetch(db, query, {"ids": dialect.ids(workflow_ids)})}


def id_range(db: Connection, dialect: Dialect, table: str, workflow_id: int) -> tuple[int, int]:
    """Return the ids (above the first, up to the second) of a workflow's rows of a table.

    Ids of one workflow lie close together: reading pages by range spares sorting all of them for each page.
    """
    first, last = dialect.fetch(db, _IDS.format(table), {"id": workflow_id})[0]
    return (0, 0) if first is None else (first - 1, last)
