"""Rows of `file`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.workflow.staleness import FileObservation

_OBSERVED = (
    "SELECT f.id, f.path, f.size_bytes, f.mtime_ns, f.sha256, f.producer_job_id, "
    "f.producer_job_id IS NULL OR p.state = 'completed' "
    "FROM file f LEFT JOIN job p ON p.id = f.producer_job_id WHERE f.workflow_id = :id ORDER BY f.id"
)
_READ_BEFORE = (
    "SELECT DISTINCT file_id FROM input_file WHERE input_set_id IN (SELECT input_set_id FROM job "
    "WHERE workflow_id = :id AND state = 'completed' AND input_set_id IS NOT NULL AND started_at < :since)"
)
_RECORD = "UPDATE file SET size_bytes = :size_bytes, mtime_ns = :mtime_ns, sha256 = :sha256 WHERE id = :id"
_USED = (
    "SELECT id, path, producer_job_id, EXISTS (SELECT 1 FROM input_file i WHERE i.file_id = file.id) FROM file "
    "WHERE workflow_id = :id ORDER BY id"
)
_WRITTEN = "SELECT path FROM file WHERE workflow_id = :id AND producer_job_id IS NOT NULL"
_GIVEN = "SELECT path, size_bytes, sha256 FROM file WHERE workflow_id = :id AND producer_job_id IS NULL ORDER BY path"
_READ = "EXISTS (SELECT 1 FROM input_file i WHERE i.file_id = t.id)"


class ObservedFile(NamedTuple):
    """A file, as it was when somebody last looked. `is_written`: no job has still to write it."""

    id: int
    path: str
    observation: FileObservation | None
    producer_job_id: int | None
    is_written: bool


class UsedFile(NamedTuple):
    """A file: which job writes it, and whether jobs read it."""

    id: int
    path: str
    producer_job_id: int | None
    is_read: bool


class GivenFile(NamedTuple):
    """A file that no job writes, with what is known of its content."""

    path: str
    size_bytes: int | None
    sha256: str | None


class ReadPath(NamedTuple):
    """A path that a job reads."""

    job_id: int
    path: str


def written_by(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> dict[int, list[str]]:
    """Return the paths that jobs write, by job."""
    found: dict[int, list[str]] = defaultdict(list)
    if job_ids:
        query = f"SELECT producer_job_id, path FROM file WHERE producer_job_id IN {dialect.id_list} ORDER BY id"
        for job_id, path in dialect.fetch(db, query, {"ids": dialect.ids(job_ids)}):
            found[job_id].append(path)
    return found


def written_for(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> list[ReadPath]:
    """Return the paths that some jobs read and other jobs write."""
    query = (
        "SELECT j.id, f.path FROM job j JOIN input_file i ON i.input_set_id = j.input_set_id JOIN file f ON f.id = i.file_id "
        f"WHERE f.producer_job_id IS NOT NULL AND j.id IN {dialect.id_list}"
    )
    return list(map(ReadPath._make, dialect.fetch(db, query, {"ids": dialect.ids(job_ids)})))


def conditions(*, required_existing: bool = False, read: bool = False, written: bool = False) -> Conditions:
    """Return the conditions on rows `t` of files. `required_existing`: jobs read them and none writes them."""
    where = Conditions()
    if required_existing:
        where.add("t.producer_job_id IS NULL")
    if required_existing or read:
        where.add(_READ)
    if written:
        where.add("t.producer_job_id IS NOT NULL")
    return where


def observed(db: Connection, dialect: Dialect, workflow_id: int) -> list[ObservedFile]:
    """Return the files of a workflow, as they were last seen, in order of id."""
    return [
        ObservedFile(
            number,
            path,
            None if size is None else FileObservation(True, size, mtime, digest),
            producer,
            bool(is_written),
        )
        for number, path, size, mtime, digest, producer, is_written in dialect.fetch(db, _OBSERVED, {"id": workflow_id})
    ]


def read_before(db: Connection, dialect: Dialect, workflow_id: int, since: float) -> set[int]:
    """Return the files that jobs have read which have completed and started before a time."""
    return {row[0] for row in dialect.fetch(db, _READ_BEFORE, {"id": workflow_id, "since": since})}


def record(db: Connection, dialect: Dialect, observations: Mapping[int, FileObservation]) -> None:
    """Record how files look, by id."""
    rows = [
        {"id": number, "size_bytes": seen.size_bytes, "mtime_ns": seen.mtime_ns, "sha256": seen.sha256}
        for number, seen in observations.items()
    ]
    if rows:
        dialect.run_many(db, _RECORD, rows)


def used(db: Connection, dialect: Dialect, workflow_id: int) -> list[UsedFile]:
    """Return the files of a workflow with who uses them, in order of id."""
    rows = dialect.fetch(db, _USED, {"id": workflow_id})
    return [UsedFile(number, path, producer, bool(is_read)) for number, path, producer, is_read in rows]


def written_paths(db: Connection, dialect: Dialect, workflow_id: int) -> list[str]:
    """Return the paths that jobs of a workflow write."""
    return [row[0] for row in dialect.fetch(db, _WRITTEN, {"id": workflow_id})]


def given(db: Connection, dialect: Dialect, workflow_id: int) -> list[GivenFile]:
    """Return the files that no job writes, in order of their paths."""
    return list(map(GivenFile._make, dialect.fetch(db, _GIVEN, {"id": workflow_id})))
