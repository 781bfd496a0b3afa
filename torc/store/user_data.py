"""Rows of `user_data`."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect

_EPHEMERAL = "SELECT id FROM user_data WHERE workflow_id = :id AND is_ephemeral AND data IS NOT NULL"
_NAMES = "SELECT id, name FROM user_data WHERE workflow_id = :id"
#: what no job writes is the same until somebody changes it
_MENTIONED = (
    "SELECT DISTINCT m.job_id, u.name, u.data FROM mention m JOIN user_data u ON u.id = m.user_data_id "
    "WHERE u.workflow_id = :id AND u.producer_job_id IS NULL AND u.data IS NOT NULL"
)


class MentionedData(NamedTuple):
    """User data that a command mentions: what it holds as JSON text."""

    job_id: int
    name: str
    data: str


def names(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, str]:
    """Return the names of user data by id."""
    return dict(dialect.fetch(db, _NAMES, {"id": workflow_id}))


def mentioned(db: Connection, dialect: Dialect, workflow_id: int) -> list[MentionedData]:
    """Return the user data that commands mention, that holds something and that no job writes."""
    return list(map(MentionedData._make, dialect.fetch(db, _MENTIONED, {"id": workflow_id})))


def is_written(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> dict[int, bool]:
    """Return of those of some jobs that write user data whether all of it is there."""
    if not job_ids:
        return {}
    query = (
        "SELECT producer_job_id, min(CASE WHEN data IS NULL THEN 0 ELSE 1 END) FROM user_data "
        f"WHERE producer_job_id IN {dialect.id_list} GROUP BY producer_job_id"
    )
    return {job: bool(is_there) for job, is_there in dialect.fetch(db, query, {"ids": dialect.ids(job_ids)})}


def ephemeral(db: Connection, dialect: Dialect, workflow_id: int, writers: Collection[int] | None) -> list[int]:
    """Return the ephemeral user data that holds something; `writers`: only what these jobs write."""
    query, values = _EPHEMERAL, {"id": workflow_id}
    if writers is not None:
        query += f" AND producer_job_id IN {dialect.id_list}"
        values["ids"] = dialect.ids(writers)
    return [row[0] for row in dialect.fetch(db, query, values)]


def clear(db: Connection, dialect: Dialect, ids: Collection[int]) -> None:
    """Clear some user data."""
    if ids:
        dialect.run(db, f"UPDATE user_data SET data = NULL WHERE id IN {dialect.id_list}", {"ids": dialect.ids(ids)})
