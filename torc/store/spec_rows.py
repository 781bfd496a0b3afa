"""Everything of a stored workflow that a spec says, by table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection

from torc.spec.plan import JOB_FIELDS
from torc.store.dialect import Dialect
from torc.store.inputs import Table
from torc.store.job_fields import loaded
from torc.store.json_columns import loads

_REFERENCES = ("requirement_id", "gate_id", "input_set_id", "failure_handler_id", "scheduler_id")
_JOBS = (
    f"SELECT id, name, {', '.join((*_REFERENCES, *(field.name for field in JOB_FIELDS)))} FROM job "
    "WHERE workflow_id = :id ORDER BY id"
)
_GATES = (
    "SELECT p.gate_id, j.id, j.name FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
    "WHERE j.workflow_id = :id ORDER BY j.id"
)
_MENTIONS = (
    "SELECT m.job_id, m.field, m.at, m.user_data_id FROM mention m JOIN job j ON j.id = m.job_id "
    "WHERE j.workflow_id = :id ORDER BY m.job_id, m.field, m.at"
)
_NAMED = "SELECT id, kind, name, fields FROM named WHERE workflow_id = :id ORDER BY id"
_FILES = "SELECT id, name, path, producer_job_id FROM file WHERE workflow_id = :id ORDER BY id"
_USER_DATA = "SELECT id, name, data, is_ephemeral, producer_job_id FROM user_data WHERE workflow_id = :id ORDER BY id"
_ACTIONS = (
    "SELECT id, position, trigger_type, action_type, commands, settings, persistent FROM action "
    "WHERE workflow_id = :id ORDER BY position"
)
_ACTION_JOBS = (
    "SELECT w.action_id, j.id, j.name FROM action_job w JOIN job j ON j.id = w.job_id "
    "WHERE j.workflow_id = :id ORDER BY j.id"
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job with its fields by name, and the ids of what it refers to."""

    id: int
    name: str
    requirement_id: int
    gate_id: int | None
    input_set_id: int | None
    failure_handler_id: int | None
    scheduler_id: int | None
    fields: dict[str, Any]


class NamedJob(NamedTuple):
    """A job, and what people call it."""

    id: int
    name: str


class MentionRecord(NamedTuple):
    """A place where a command holds the id of user data."""

    at: int
    user_data_id: int


class NamedRecord(NamedTuple):
    """A failure handler, a Slurm scheduler or a machine for workers."""

    id: int
    kind: str
    name: str
    fields: dict[str, Any]


class FileRecord(NamedTuple):
    """A file."""

    id: int
    name: str
    path: str
    producer_job_id: int | None


class UserDataRecord(NamedTuple):
    """User data, with what it holds."""

    id: int
    name: str
    data: Any
    is_ephemeral: bool
    producer_job_id: int | None


class ActionRecord(NamedTuple):
    """An action, with the jobs that it waits for."""

    id: int
    position: int
    trigger_type: str
    action_type: str
    commands: list[str]
    settings: dict[str, Any]
    persistent: bool
    jobs: list[NamedJob]


def jobs(db: Connection, dialect: Dialect, workflow_id: int) -> list[JobRecord]:
    """Return the jobs in order of id."""
    return [
        JobRecord(
            number,
            name,
            requirement,
            gate,
            inputs,
            handler,
            scheduler,
            {field.name: loaded(field, value) for field, value in zip(JOB_FIELDS, values, strict=True)},
        )
        for number, name, requirement, gate, inputs, handler, scheduler, *values in dialect.fetch(
            db, _JOBS, {"id": workflow_id}
        )
    ]


def prerequisites(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, list[NamedJob]]:
    """Return the jobs that hold each gate shut, in order of id."""
    found: dict[int, list[NamedJob]] = defaultdict(list)
    for gate, number, name in dialect.fetch(db, _GATES, {"id": workflow_id}):
        found[gate].append(NamedJob(number, name))
    return found


def inputs(db: Connection, dialect: Dialect, workflow_id: int, table: Table) -> dict[int, list[int]]:
    """Return the files, or the user data, of each input set, in order of id."""
    query = (
        f"SELECT i.input_set_id, t.id FROM input_{table} i JOIN {table} t ON t.id = i.{table}_id "
        "WHERE t.workflow_id = :id ORDER BY t.id"
    )
    found: dict[int, list[int]] = defaultdict(list)
    for input_set, number in dialect.fetch(db, query, {"id": workflow_id}):
        found[input_set].append(number)
    return found


def mentions(db: Connection, dialect: Dialect, workflow_id: int) -> dict[tuple[int, str], list[MentionRecord]]:
    """Return where commands mention user data, by job and field, in order."""
    found: dict[tuple[int, str], list[MentionRecord]] = defaultdict(list)
    for job, field, at, number in dialect.fetch(db, _MENTIONS, {"id": workflow_id}):
        found[job, field].append(MentionRecord(at, number))
    return found


def named(db: Connection, dialect: Dialect, workflow_id: int) -> list[NamedRecord]:
    """Return failure handlers, Slurm schedulers and machines for workers, in order of id."""
    rows: Iterable[Sequence[Any]] = dialect.fetch(db, _NAMED, {"id": workflow_id})
    return [NamedRecord(number, kind, name, loads(fields, {})) for number, kind, name, fields in rows]


def files(db: Connection, dialect: Dialect, workflow_id: int) -> list[FileRecord]:
    """Return the files in order of id."""
    return [FileRecord(*row) for row in dialect.fetch(db, _FILES, {"id": workflow_id})]


def user_data(db: Connection, dialect: Dialect, workflow_id: int) -> list[UserDataRecord]:
    """Return the user data in order of id."""
    rows = dialect.fetch(db, _USER_DATA, {"id": workflow_id})
    return [
        UserDataRecord(number, name, loads(data), bool(is_ephemeral), producer)
        for number, name, data, is_ephemeral, producer in rows
    ]


def actions(db: Connection, dialect: Dialect, workflow_id: int) -> list[ActionRecord]:
    """Return the actions in their order."""
    jobs_of: dict[int, list[NamedJob]] = defaultdict(list)
    for action, number, name in dialect.fetch(db, _ACTION_JOBS, {"id": workflow_id}):
        jobs_of[action].append(NamedJob(number, name))
    rows = dialect.fetch(db, _ACTIONS, {"id": workflow_id})
    return [
        ActionRecord(
            number, at, trigger, kind, loads(commands, []), loads(settings, {}), bool(persistent), jobs_of[number]
        )
        for number, at, trigger, kind, commands, settings, persistent in rows
    ]
