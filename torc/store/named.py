"""Rows of `named`: failure handlers, remote workers, and schedulers, of a kind for each type of batch scheduler."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.planning.scheduler_types import ROW_KINDS, SchedulerType
from torc.store import rows
from torc.store.dialect import Dialect
from torc.store.json_columns import loads

_OF_KIND = text("SELECT * FROM named WHERE workflow_id = :id AND kind = :kind ORDER BY id")
#: the condition that a row is of a batch scheduler, after its column `kind`
OF_SCHEDULERS = "IN (" + ", ".join(f"'{kind}'" for kind in ROW_KINDS) + ")"
_SCHEDULERS = f"SELECT id, kind, name, fields FROM named WHERE workflow_id = :id AND kind {OF_SCHEDULERS} ORDER BY id"


class StoredScheduler(NamedTuple):
    """An allocation to ask for, as the spec of a workflow describes it."""

    id: int
    type: SchedulerType
    name: str
    fields: Mapping[str, Any]


def schedulers(db: Connection, dialect: Dialect, workflow_id: int) -> list[StoredScheduler]:
    """Return the schedulers of a workflow, of all types."""
    return [
        StoredScheduler(number, ROW_KINDS[kind], name, loads(fields, {}))
        for number, kind, name, fields in dialect.fetch(db, _SCHEDULERS, {"id": workflow_id})
    ]


def of_kind(db: Connection, workflow_id: int, kind: str) -> Sequence[RowMapping]:
    """Return all of one kind, in the order of their ids."""
    return db.execute(_OF_KIND, {"id": workflow_id, "kind": kind}).mappings().all()


def fields_of(db: Connection, dialect: Dialect, number: int) -> dict[str, Any]:
    """Return the fields of one, as its spec gave them."""
    found = dialect.fetch(db, "SELECT fields FROM named WHERE id = :id", {"id": number})
    fields: dict[str, Any] = loads(found[0][0], {})
    return fields


def insert_scheduler(
    db: Connection, number: int, workflow_id: int, of: SchedulerType, name: str, fields: Mapping[str, Any]
) -> None:
    """Add a scheduler under an id that was taken for it."""
    values = {
        "id": number,
        "workflow_id": workflow_id,
        "kind": of.row_kind,
        "name": name,
        "fields": json.dumps(fields),
    }
    rows.insert(db, "named", values)


def delete_schedulers(db: Connection, dialect: Dialect, workflow_id: int, ids: Collection[int]) -> None:
    """Remove schedulers; jobs that were bound to them are bound to none."""
    among = {"ids": dialect.ids(ids)}
    unbind = f"UPDATE job SET scheduler_id = NULL WHERE workflow_id = :id AND scheduler_id IN {dialect.id_list}"
    db.execute(text(unbind), {**among, "id": workflow_id})
    db.execute(text(f"DELETE FROM named WHERE id IN {dialect.id_list}"), among)


def bind_jobs(db: Connection, dialect: Dialect, job_ids: Collection[int], scheduler_id: int | None) -> None:
    """Bind jobs to a scheduler, or to none."""
    if not job_ids:
        return
    bound = " AND scheduler_id IS NOT NULL" if scheduler_id is None else ""
    query = text(f"UPDATE job SET scheduler_id = :scheduler WHERE id IN {dialect.id_list}{bound}")
    db.execute(query, {"scheduler": scheduler_id, "ids": dialect.ids(job_ids)})
