"""Who reads and writes files and user data. What jobs read is kept in sets, which jobs share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from sqlalchemy import Connection, text

from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids

Table = Literal["file", "user_data"]
_NEW_SET = text("INSERT INTO input_set (id, workflow_id) VALUES (:id, :workflow_id)")


class WrittenObject(NamedTuple):
    """A file or user data: its name, the job that writes it, and whether jobs read it."""

    name: str
    producer_job_id: int | None
    is_read: bool


def add_set(db: Connection, workflow_id: int, files: Collection[int], user_data: Collection[int]) -> int | None:
    """Add a set of inputs; None where there is nothing to read."""
    if not files and not user_data:
        return None
    number = take_ids(db, "input_set")
    db.execute(_NEW_SET, {"id": number, "workflow_id": workflow_id})
    for table, ids in (("file", files), ("user_data", user_data)):
        if ids:
            db.execute(
                text(f"INSERT INTO input_{table} (input_set_id, {table}_id) VALUES (:set, :id)"),
                [{"set": number, "id": item} for item in sorted(set(ids))],
            )
    return number


def written(db: Connection, table: Table, number: int) -> WrittenObject:
    """Return who writes and reads a file or user data."""
    query = (
        f"SELECT name, producer_job_id, EXISTS (SELECT 1 FROM input_{table} WHERE {table}_id = :id) AS is_read "
        f"FROM {table} WHERE id = :id"
    )
    row = db.execute(text(query), {"id": number}).mappings().one()
    return WrittenObject(row["name"], row["producer_job_id"], bool(row["is_read"]))


def set_producer(db: Connection, table: Table, number: int, job_id: int) -> None:
    """Say which job writes a file or user data."""
    db.execute(text(f"UPDATE {table} SET producer_job_id = :job WHERE id = :id"), {"job": job_id, "id": number})


def producers(db: Connection, dialect: Dialect, table: Table, ids: Sequence[int]) -> set[int]:
    """Return the jobs that write some files or user data."""
    if not ids:
        return set()
    query = f"SELECT producer_job_id FROM {table} WHERE producer_job_id IS NOT NULL AND id IN {dialect.id_list}"
    return {int(row[0]) for row in dialect.fetch(db, query, {"ids": dialect.ids(ids)})}


def num_readers(db: Connection, dialect: Dialect, table: Table, number: int) -> int:
    """Return how many jobs read a file or user data."""
    sets = f"SELECT input_set_id FROM input_{table} WHERE {table}_id = :id"
    return int(dialect.fetch(db, f"SELECT count(*) FROM job WHERE input_set_id IN ({sets})", {"id": number})[0][0])


def first_user(db: Connection, dialect: Dialect, table: Table, number: int) -> str | None:
    """Return the name of a job that writes or reads a file or user data."""
    writes = f"SELECT name FROM job WHERE id = (SELECT producer_job_id FROM {table} WHERE id = :id) LIMIT 1"
    sets = f"SELECT input_set_id FROM input_{table} WHERE {table}_id = :id"
    reads = f"SELECT name FROM job WHERE input_set_id IN ({sets}) LIMIT 1"
    for query in (writes, reads):
        if found := dialect.fetch(db, query, {"id": number}):
            return str(found[0][0])
    return None


_SETS_OF_COMPLETED = (
    "SELECT id, input_set_id FROM job WHERE workflow_id = :id AND state = 'completed' AND input_set_id IS NOT NULL"
)


def sets_of_completed_jobs(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, int]:
    """Return the input set of each completed job that has one."""
    return dict(dialect.fetch(db, _SETS_OF_COMPLETED, {"id": workflow_id}))


class Reader(NamedTuple):
    """A job that reads a file or user data."""

    job_id: int
    number: int


def readers(db: Connection, dialect: Dialect, table: Table, ids: Collection[int]) -> list[Reader]:
    """Return the jobs that read some files or user data, in order of those."""
    if not ids:
        return []
    query = (
        f"SELECT j.id, i.{table}_id FROM input_{table} i JOIN job j ON j.input_set_id = i.input_set_id "
        f"WHERE i.{table}_id IN {dialect.id_list} ORDER BY i.{table}_id, j.id"
    )
    return list(map(Reader._make, dialect.fetch(db, query, {"ids": dialect.ids(ids)})))
