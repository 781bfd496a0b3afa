"""Rows of the record of who did what from where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.rows import insert

_NEWEST = 2**62


class AuditFilter(NamedTuple):
    """Which records a list is of. `actor` and `action` may hold `*` and `?`."""

    actor: str | None = None
    action: str | None = None
    workflow_id: int | None = None


def add(db: Connection, values: Mapping[str, Any]) -> None:
    """Add a record: all columns but the id, with `data` as a mapping."""
    insert(db, "audit", {**values, "data": json.dumps(values["data"])})


def newest(
    db: Connection, dialect: Dialect, wanted: AuditFilter, *, before: int | None, limit: int
) -> Sequence[RowMapping]:
    """Return records, newest first."""
    where = Conditions("id < :before", before=_NEWEST if before is None else before, n=limit)
    if wanted.actor is not None:
        where.add_name(dialect, "actor", wanted.actor)
    if wanted.action is not None:
        where.add_name(dialect, "action", wanted.action)
    if wanted.workflow_id is not None:
        where.add("workflow_id = :workflow_id", workflow_id=wanted.workflow_id)
    return (
        db.execute(text(f"SELECT * FROM audit WHERE {where} ORDER BY id DESC LIMIT :n"), where.values).mappings().all()
    )
