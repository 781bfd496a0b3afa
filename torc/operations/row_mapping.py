"""Rows into the values of the contract, and the row that a request names or an error that helps."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from torc.api.runs import NodeCapacity
from torc.api.workflows import Counts, Workflow, WorkflowState
from torc.errors import Invalid, NotFound
from torc.operations.dispatch import Tx
from torc.store import requirements, workflows
from torc.store.json_columns import loads
from torc.store.requirements import StoredClass
from torc.workflow.resources import Capacity, Pool, ResourceRequest
from torc.workflow.states import SATISFIED, UNSUCCESSFUL, State


def workflow_row(tx: Tx, workflow_id: int, *, lock: bool = False) -> RowMapping:
    """Return the row of a workflow, locked against other changes when asked. Raises NotFound."""
    if lock:
        tx.dialect.lock_workflow(tx.db, workflow_id)
    row = workflows.get(tx.db, workflow_id)
    if row is None:
        raise NotFound(f"there is no workflow {workflow_id}", hint="`torc workflows list` shows what there is")
    return row


def grow_version(tx: Tx, workflow_id: int) -> None:
    """Record that somebody changed a workflow, which invalidates proposals for earlier versions."""
    workflows.increment_version(tx.db, workflow_id, tx.now)


def workflow_of(tx: Tx, row: RowMapping) -> Workflow:
    """Make the value of a workflow."""
    return workflows_of(tx, [row])[0]


def workflows_of(tx: Tx, rows: Sequence[RowMapping]) -> list[Workflow]:
    """Make the values of workflows, with two queries for all of them."""
    ids = [row["id"] for row in rows]
    counts = workflows.job_counts(tx.db, tx.dialect, ids)
    active = workflows.with_active_runners(tx.db, tx.dialect, ids)
    return [_workflow(row, counts[row["id"]], row["id"] in active) for row in rows]


def _workflow(row: RowMapping, counts: dict[State, int], active: bool) -> Workflow:
    return Workflow(
        id=row["id"],
        name=row["name"],
        state=_state(row, counts, active),
        user=row["user"],
        description=row["description"],
        project=row["project"],
        metadata=loads(row["meta"], {}),
        env=loads(row["env"], {}),
        settings=loads(row["settings"], {}),
        directory=row["directory"],
        run_id=row["run_id"],
        version=row["version"],
        is_archived=bool(row["is_archived"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        counts=Counts(by_state=counts),
    )


def _state(row: RowMapping, counts: dict[State, int], active: bool) -> WorkflowState:
    if active and row["ended_at"] is None:  # after the end, runners may still be about to leave
        return "running"
    if row["is_canceled"]:
        return "canceled"
    if counts and all(state in SATISFIED for state in counts):
        return "completed"
    if row["ended_at"] is not None and any(state in counts for state in UNSUCCESSFUL):
        return "failed"
    return "interrupted" if row["is_begun"] else "idle"


def encode_cursor(*key: Any) -> str:
    """Return the opaque text of a key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, length: int = 1) -> Sequence[Any] | None:
    """Return the key of a cursor. Raises Invalid for one that was not given by the same request."""
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        key = None
    if not isinstance(key, list) or len(key) != length or not all(isinstance(part, int) for part in key):
        raise Invalid("this cursor is invalid", hint="use a cursor from a reply to the same request")
    return key


def id_range(tx: Tx, table: str, workflow_id: int, cursor: str | None) -> tuple[int, int]:
    """Return the ids (above the first, up to the second) among which the next page of a list of a workflow's things lies."""
    key = decode_cursor(cursor, 2)
    if key is not None:
        return key[0], key[1]
    return workflows.id_range(tx.db, tx.dialect, table, workflow_id)


def request_of(row: RowMapping) -> ResourceRequest:
    """Return what a row asks for that has the columns of a requirement among others."""
    return ResourceRequest(*(row[field] for field in ResourceRequest._fields))


def capacity_of(node: NodeCapacity) -> Capacity | Pool:
    """Return what a runner says that it has, or has free, as what packing takes."""
    first = Capacity(node.num_cpus, node.memory_bytes, node.num_gpus, node.runtime_seconds)
    if not node.others:
        return first
    others = (Capacity(at.num_cpus, at.memory_bytes, at.num_gpus, at.runtime_seconds) for at in node.others)
    return Pool((first, *others))


def classes_of(tx: Tx, workflow_id: int) -> dict[int, StoredClass]:
    """Return the requirement classes of a workflow by id, in order."""
    return requirements.classes_of(tx.db, tx.dialect, workflow_id)
