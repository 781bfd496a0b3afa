"""The row of an allocation: read, written, made a value, and entered by the runners that live in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, text

from torc.api.allocations import Allocation
from torc.errors import Conflict, NotFound
from torc.operations.dispatch import Tx
from torc.planning.allocations import AllocationState, AllocationStatus, began
from torc.store.json_columns import loads

_ROW = text("SELECT * FROM allocation WHERE id = :id")
_STANDING = (
    "state",
    "cluster_state",
    "reason",
    "nodes",
    "started_at",
    "ended_at",
    "expected_start_at",
    "exit_code",
    "restarts",
)
_LEFT_OUT = frozenset({"failed_nodes"})


def allocation_row(tx: Tx, allocation_id: int, workflow_id: int | None = None) -> RowMapping:
    """Return the row of an allocation. Raises NotFound."""
    row = tx.db.execute(_ROW, {"id": allocation_id}).mappings().first()
    if row is None or workflow_id not in {None, row["workflow_id"]}:
        raise NotFound(f"there is no allocation {allocation_id}", hint="`torc slurm list` shows what there is")
    return row


def allocations_of(tx: Tx, rows: Sequence[RowMapping]) -> list[Allocation]:
    """Make the values of allocations, with one further query for all of them."""
    counted = (
        f"SELECT allocation_id, count(*) FROM runner WHERE allocation_id IN {tx.dialect.id_list} GROUP BY allocation_id"
    )
    among = {"ids": tx.dialect.ids(row["id"] for row in rows)}
    runners = {found[0]: found[1] for found in tx.db.execute(text(counted), among)} if rows else {}
    made = []
    for row in rows:
        fields: dict[str, Any] = {key: row[key] for key in row if key not in _LEFT_OUT}
        fields |= {"request": loads(row["request"], {}), "nodes": loads(row["nodes"], [])}
        made.append(Allocation(**fields, num_runners=runners.get(row["id"], 0)))
    return made


def standing_of(row: RowMapping) -> AllocationStatus:
    """Return what is known of an allocation."""
    fields: dict[str, Any] = {name: row[name] for name in _STANDING}
    fields |= {"state": AllocationState(row["state"]), "nodes": tuple(loads(row["nodes"], []))}
    return AllocationStatus(**fields)


def write_standing(tx: Tx, row: RowMapping, standing: AllocationStatus, **more: Any) -> None:
    """Write what is known of an allocation, and further columns."""
    values: dict[str, Any] = {name: getattr(standing, name) for name in _STANDING}
    values |= {"state": standing.state.value, "nodes": json.dumps(list(standing.nodes)), **more}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    tx.db.execute(text(f"UPDATE allocation SET {assignments} WHERE id = :id"), {**values, "id": row["id"]})


def enter_allocation(tx: Tx, workflow_id: int, allocation_id: int, node: str | None) -> None:
    """Take in that a runner lives in an allocation. Raises Conflict for one that is over, or is to be."""
    row = allocation_row(tx, allocation_id, workflow_id)
    standing = standing_of(row)
    if standing.state is AllocationState.ENDED or row["cancel_requested_at"] is not None:
        what = "has ended" if standing.state is AllocationState.ENDED else "is being cancelled"
        raise Conflict(f"allocation {allocation_id} {what}", hint="nothing is to be run in it: leave it")
    if standing.state is not AllocationState.RUNNING:
        write_standing(tx, row, began(standing, node, tx.now), seen_at=tx.now)
        tx.event(workflow_id, "allocation_running", allocation_id=allocation_id, node=node)
