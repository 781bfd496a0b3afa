"""The append-only event log. State changes of several jobs at once are one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.json_columns import loads
from torc.store.workflows import IN_WORKFLOW

_GET = text(f"SELECT * FROM event WHERE id = :id AND {IN_WORKFLOW.format('event')}")
_AFTER = text("SELECT type, actor FROM event WHERE workflow_id = :id AND id > :after ORDER BY id LIMIT :n")
_LAST_ID = "SELECT coalesce(max(id), 0) FROM event WHERE workflow_id = :id"
_INSERT = (
    "INSERT INTO event (workflow_id, time, type, actor, job_id, data) "
    "VALUES (:workflow_id, :time, :type, :actor, :job_id, :data)"
)
#: maximum number of jobs listed in one row
_CHUNK = 1000


class EventRecord(NamedTuple):
    """One row of the log, without workflow, time and actor."""

    type: str
    data: Mapping[str, Any]
    job_id: int | None = None


class EventFilter(NamedTuple):
    """Which events a list is of: with ids above `after` and below `before`, in the order of their ids unless `newest_first`."""

    type: str | None = None
    job_id: int | None = None
    after: int = 0
    before: int | None = None
    newest_first: bool = False


def get(db: Connection, event_id: int) -> RowMapping | None:
    """Return an event."""
    return db.execute(_GET, {"id": event_id}).mappings().first()


def page(db: Connection, dialect: Dialect, workflow_id: int, wanted: EventFilter, limit: int) -> Sequence[RowMapping]:
    """Return events of a workflow."""
    where = Conditions("workflow_id = :workflow_id", "id > :after", workflow_id=workflow_id, after=wanted.after)
    if wanted.before is not None:
        where.add("id < :before", before=wanted.before)
    if wanted.type is not None:
        where.add("type = :type", type=wanted.type)
    if wanted.job_id is not None:
        where.add(f"(job_id = :job_id OR (job_id IS NULL AND {dialect.names_job}))", job_id=wanted.job_id)
    order = "DESC" if wanted.newest_first else "ASC"
    query = text(f"SELECT * FROM event WHERE {where} ORDER BY id {order} LIMIT :n")
    return db.execute(query, {**where.values, "n": limit}).mappings().all()


class TypedEvent(NamedTuple):
    """What an event of a known type says."""

    id: int
    type: str
    data: Mapping[str, Any]


def of_types(
    db: Connection,
    dialect: Dialect,
    workflow_id: int,
    types: Sequence[str],
    *,
    after: int = 0,
    newest_first: bool = False,
) -> list[TypedEvent]:
    """Return the events of some types behind another event. The types are names of this project's."""
    query = (
        "SELECT id, type, data FROM event WHERE workflow_id = :id AND id > :after "
        f"AND type IN ({', '.join(map(repr, types))}) ORDER BY id {'DESC' if newest_first else 'ASC'}"
    )
    found = dialect.fetch(db, query, {"id": workflow_id, "after": after})
    return [TypedEvent(number, kind, loads(data, {})) for number, kind, data in found]


def after(db: Connection, workflow_id: int, event_id: int, limit: int) -> Sequence[RowMapping]:
    """Return the first events behind one (`type`, `actor`)."""
    return db.execute(_AFTER, {"id": workflow_id, "after": event_id, "n": limit}).mappings().all()


def last_id(db: Connection, dialect: Dialect, workflow_id: int) -> int:
    """Return the id of the last event of a workflow; 0: there is none."""
    return int(dialect.fetch(db, _LAST_ID, {"id": workflow_id})[0][0])


def last_id_of(db: Connection, dialect: Dialect, workflow_id: int, kind: str, *, after: int = 0) -> int:
    """Return the id of the last event of one type, behind another event; 0: there is none."""
    values = {"id": workflow_id, "type": kind, "after": after}
    return int(dialect.fetch(db, f"{_LAST_ID} AND type = :type AND id > :after", values)[0][0])


def add_events(
    db: Connection, dialect: Dialect, workflow_id: int, now: float, actor: str, happenings: Sequence[EventRecord]
) -> None:
    """Append what happened to a workflow. `now` is in seconds since the epoch."""
    if happenings:
        rows = [
            {
                "workflow_id": workflow_id,
                "time": now,
                "type": kind,
                "actor": actor,
                "job_id": job_id,
                "data": json.dumps(dict(data)),
            }
            for kind, data, job_id in happenings
        ]
        dialect.run_many(db, _INSERT, rows)


def of_jobs(kind: str, ids: Sequence[int]) -> list[EventRecord]:
    """Return the rows that say that something happened to a set of jobs."""
    return [
        EventRecord(kind, {"job_ids": ids[start : start + _CHUNK]}, ids[0] if len(ids) == 1 else None)
        for start in range(0, len(ids), _CHUNK)
    ]
