"""Rows of the plans of assistants (`intervention`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.access import among_visible
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.workflow.access import Rights

_NEWEST = 2**62
_OF_TOKEN = text("SELECT * FROM intervention WHERE workflow_id = :id AND token_hash = :hash")
_OF_ID = text("SELECT * FROM intervention WHERE workflow_id = :id AND id = :number")
_IS_OPEN = "applied_at IS NULL AND declined_at IS NULL AND expires_at > :now"
_FORGET = text("DELETE FROM intervention WHERE workflow_id = :id AND applied_at IS NULL AND expires_at < :before")
_HAS_BEGUN = (
    "SELECT 1 FROM runner WHERE workflow_id = :id AND started_at >= :at UNION ALL "
    "SELECT 1 FROM allocation WHERE workflow_id = :id AND created_at >= :at LIMIT 1"
)
_RESERVE = "UPDATE intervention SET reserved_seconds = coalesce(reserved_seconds, 0) + :more WHERE id = :plan"
_TAKE_OVER = (
    "UPDATE intervention SET reserved_seconds = reserved_seconds + (SELECT CASE WHEN o.reserved_seconds > o.used_seconds "
    "THEN o.reserved_seconds - o.used_seconds ELSE 0 END FROM intervention o WHERE o.id = :old) WHERE id = :plan"
)


class PlanFilter(NamedTuple):
    """Which plans of a workflow to list. `open_at`: those that could be applied at that time."""

    applied_only: bool = False
    open_at: float | None = None


@contextmanager
def undone(db: Connection) -> Iterator[None]:
    """Undo what is written in the block, and continue the transaction."""
    db.execute(text("SAVEPOINT proposed"))
    yield
    db.execute(text("ROLLBACK TO SAVEPOINT proposed"))
    db.execute(text("RELEASE SAVEPOINT proposed"))


def insert(db: Connection, values: Mapping[str, Any]) -> None:
    """Store a plan. Values that are mappings are stored as JSON."""
    plain = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
    rows.insert(db, "intervention", {"num_retries": 0, "node_hours": 0.0, "pages_read": 0, **plain})


def update(db: Connection, plan_id: int, **values: Any) -> None:
    """Change columns. Values that are mappings are stored as JSON."""
    plain = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
    rows.update(db, "intervention", plan_id, plain)


def of_token(db: Connection, workflow_id: int, token_hash: str) -> RowMapping | None:
    """Return the plan of a workflow whose token has a hash."""
    return db.execute(_OF_TOKEN, {"id": workflow_id, "hash": token_hash}).mappings().first()


def get(db: Connection, workflow_id: int, plan_id: int) -> RowMapping | None:
    """Return a plan of a workflow."""
    return db.execute(_OF_ID, {"id": workflow_id, "number": plan_id}).mappings().first()


def newest(
    db: Connection, workflow_id: int, wanted: PlanFilter, *, before: int | None, limit: int
) -> Sequence[RowMapping]:
    """Return plans of a workflow, newest first."""
    where = Conditions("workflow_id = :workflow_id", "id < :before", workflow_id=workflow_id, n=limit)
    where.values["before"] = _NEWEST if before is None else before
    if wanted.applied_only:
        where.add("applied_at IS NOT NULL")
    if wanted.open_at is not None:
        where.add(_IS_OPEN, now=wanted.open_at)
    return _newest(db, where)


def open_of_all(db: Connection, rights: Rights | None, now: float, limit: int) -> Sequence[RowMapping]:
    """Return open plans of workflows that a caller may see, newest first."""
    where = among_visible(rights, "workflow_id")
    where.add(_IS_OPEN, now=now, n=limit)
    return _newest(db, where)


def find(db: Connection, rights: Rights | None, plan_id: int, token_hash: str) -> Sequence[RowMapping]:
    """Return the plan with an id or a token, of a workflow that a caller may see; none, or the newest of two."""
    where = among_visible(rights, "workflow_id")
    where.add("(id = :number OR token_hash = :hash)", number=plan_id, hash=token_hash, n=1)
    return _newest(db, where)


def _newest(db: Connection, where: Conditions) -> Sequence[RowMapping]:
    query = text(f"SELECT * FROM intervention WHERE {where} ORDER BY id DESC LIMIT :n")
    return db.execute(query, where.values).mappings().all()


def forget_unapplied(db: Connection, workflow_id: int, before: float) -> None:
    """Remove plans of a workflow that expired before a time and were never applied."""
    db.execute(_FORGET, {"id": workflow_id, "before": before})


def has_begun(db: Connection, dialect: Dialect, workflow_id: int, since: float) -> bool:
    """Return whether a runner or an allocation of a workflow has started since a time."""
    return bool(dialect.fetch(db, _HAS_BEGUN, {"id": workflow_id, "at": since}))


def reserve(db: Connection, dialect: Dialect, plan_id: int, node_seconds: float) -> None:
    """Reserve more node-seconds for a plan, or fewer."""
    dialect.run(db, _RESERVE, {"more": node_seconds, "plan": plan_id})


def take_over(db: Connection, dialect: Dialect, plan_id: int, earlier: int) -> None:
    """Reserve for a plan what is left of what an earlier one has reserved."""
    dialect.run(db, _TAKE_OVER, {"old": earlier, "plan": plan_id})
