"""Requirement classes of workflows."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids
from torc.workflow.resources import ResourceRequest

#: of the columns of a requirement class, those of what its jobs ask for
REQUEST_COLUMNS = ", ".join(ResourceRequest._fields)
_OF_WORKFLOW = f"SELECT id, name, {REQUEST_COLUMNS} FROM requirement WHERE workflow_id = :id ORDER BY id"
_OF_JOB = (
    f"SELECT r.id, r.name, {', '.join(f'r.{column}' for column in ResourceRequest._fields)} FROM job j "
    "JOIN requirement r ON r.id = j.requirement_id WHERE j.id = :id"
)
_EQUAL = (
    "SELECT id, name FROM requirement WHERE workflow_id = :workflow_id "
    f"AND {' AND '.join(f'{column} = :{column}' for column in ResourceRequest._fields)} ORDER BY id LIMIT 1"
)
_LOWER = "UPDATE requirement SET memory_bytes = :memory_bytes, runtime_seconds = :runtime_seconds WHERE id = :id"
_NUM_JOBS = "SELECT count(*) FROM job WHERE workflow_id = :workflow_id AND requirement_id = :id"
_INSERT = (
    f"INSERT INTO requirement (id, workflow_id, name, {REQUEST_COLUMNS}) "
    f"VALUES (:id, :workflow_id, :name, {', '.join(f':{column}' for column in ResourceRequest._fields)})"
)


class StoredClass(NamedTuple):
    """A requirement class of a workflow."""

    id: int
    name: str
    request: ResourceRequest


def classes_of(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, StoredClass]:
    """Return the requirement classes of a workflow by id, in order."""
    rows = dialect.fetch(db, _OF_WORKFLOW, {"id": workflow_id})
    return {number: StoredClass(number, name, ResourceRequest(*asked)) for number, name, *asked in rows}


def insert(db: Connection, dialect: Dialect, workflow_id: int, name: str, request: ResourceRequest) -> int:
    """Add a requirement class and return its id."""
    number = take_ids(db, "requirement")
    dialect.run(db, _INSERT, {"id": number, "workflow_id": workflow_id, "name": name, **request._asdict()})
    return number


def of_job(db: Connection, dialect: Dialect, job_id: int) -> StoredClass:
    """Return the requirement class of a job."""
    number, name, *asked = dialect.fetch(db, _OF_JOB, {"id": job_id})[0]
    return StoredClass(number, name, ResourceRequest(*asked))


def find(db: Connection, dialect: Dialect, workflow_id: int, request: ResourceRequest) -> StoredClass | None:
    """Return the first requirement class of a workflow with just this request."""
    found = dialect.fetch(db, _EQUAL, {**request._asdict(), "workflow_id": workflow_id})
    return StoredClass(found[0][0], found[0][1], request) if found else None


def num_jobs(db: Connection, dialect: Dialect, workflow_id: int, requirement_id: int) -> int:
    """Return how many jobs have a requirement class."""
    return int(dialect.fetch(db, _NUM_JOBS, {"workflow_id": workflow_id, "id": requirement_id})[0][0])


def set_memory_and_runtime(db: Connection, dialect: Dialect, requirement_id: int, request: ResourceRequest) -> None:
    """Change how much memory and time a requirement class asks for."""
    dialect.run(db, _LOWER, {**request._asdict(), "id": requirement_id})
