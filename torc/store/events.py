"""The append-only log. Moves of jobs that happened together are one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

_INSERT = text(
    "INSERT INTO event (workflow_id, time, type, actor, job_id, data) "
    "VALUES (:workflow_id, :time, :type, :actor, :job_id, :data)"
)
#: jobs named in one row
_CHUNK = 1000


def add_event(
    db: Connection,
    workflow_id: int,
    now: float,
    actor: str,
    kind: str,
    data: Mapping[str, Any] | None = None,
    *,
    job_id: int | None = None,
) -> None:
    """Append an event."""
    db.execute(
        _INSERT,
        {
            "workflow_id": workflow_id,
            "time": now,
            "type": kind,
            "actor": actor,
            "job_id": job_id,
            "data": json.dumps(dict(data or {})),
        },
    )


def add_job_events(
    db: Connection, workflow_id: int, now: float, actor: str, moved: Sequence[tuple[str, Sequence[int]]]
) -> None:
    """Append what happened to sets of jobs: (type, job ids)."""
    rows = [
        {
            "workflow_id": workflow_id,
            "time": now,
            "type": kind,
            "actor": actor,
            "job_id": ids[0] if len(ids) == 1 else None,
            "data": json.dumps({"job_ids": list(ids[start : start + _CHUNK])}),
        }
        for kind, ids in moved
        for start in range(0, len(ids), _CHUNK)
    ]
    if rows:
        db.execute(_INSERT, rows)
