"""The append-only log. Moves of jobs that happened together are one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect

_INSERT = (
    "INSERT INTO event (workflow_id, time, type, actor, job_id, data) "
    "VALUES (:workflow_id, :time, :type, :actor, :job_id, :data)"
)
#: jobs named in one row
_CHUNK = 1000


class EventRecord(NamedTuple):
    """One row of the log, but for where, when and by whom."""

    type: str
    data: Mapping[str, Any]
    job_id: int | None = None


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
