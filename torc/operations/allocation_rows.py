"""Allocations as values, and entered by the runners that live in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from torc.api.allocations import Allocation
from torc.errors import Conflict, NotFound
from torc.operations.dispatch import Tx
from torc.planning.allocations import AllocationState, began
from torc.store import allocations as stored_allocations
from torc.store import runners as runner_rows
from torc.store.json_columns import loads

_LEFT_OUT = frozenset({"failed_nodes"})


def allocation_row(tx: Tx, allocation_id: int, workflow_id: int | None = None) -> RowMapping:
    """Return the row of an allocation. Raises NotFound."""
    row = stored_allocations.get(tx.db, allocation_id)
    if row is None or workflow_id not in {None, row["workflow_id"]}:
        raise NotFound(f"there is no allocation {allocation_id}", hint="`torc slurm list` shows what there is")
    return row


def allocations_of(tx: Tx, rows: Sequence[RowMapping]) -> list[Allocation]:
    """Make the values of allocations, with one further query for all of them."""
    runners = runner_rows.numbers_in_allocations(tx.db, tx.dialect, [row["id"] for row in rows]) if rows else {}
    made = []
    for row in rows:
        fields: dict[str, Any] = {key: row[key] for key in row if key not in _LEFT_OUT}
        fields |= {"request": loads(row["request"], {}), "nodes": loads(row["nodes"], [])}
        made.append(Allocation(**fields, num_runners=runners.get(row["id"], 0)))
    return made


def enter_allocation(tx: Tx, workflow_id: int, allocation_id: int, node: str | None) -> None:
    """Record that a runner is in an allocation. Raises Conflict for one that has ended or is being cancelled."""
    row = allocation_row(tx, allocation_id, workflow_id)
    standing = stored_allocations.status(row)
    if standing.state is AllocationState.ENDED or row["cancel_requested_at"] is not None:
        what = "has ended" if standing.state is AllocationState.ENDED else "is being cancelled"
        raise Conflict(f"allocation {allocation_id} {what}", hint="run nothing in it")
    if standing.state is not AllocationState.RUNNING:
        stored_allocations.write_status(tx.db, row["id"], began(standing, node, tx.now), seen_at=tx.now)
        tx.event(workflow_id, "allocation_running", allocation_id=allocation_id, node=node)
