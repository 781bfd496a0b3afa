"""The graph of a stored workflow: whole, by stages, and by groups of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.workflow.states import FINISHED

_GATES = "SELECT id FROM gate WHERE workflow_id = :id ORDER BY id"
_GATE_OF = "SELECT id, gate_id FROM job WHERE workflow_id = :id ORDER BY id"
_SET_STAGE = "UPDATE gate SET stage = :stage WHERE id = :gate"
_LEFT = f"j.state NOT IN ({', '.join(repr(state.value) for state in sorted(FINISHED))})"
_STAGE = "CASE WHEN j.gate_id IS NULL THEN 0 ELSE coalesce(g.stage, -1) END"
_CELLS = (
    f"SELECT {_STAGE} AS stage, j.requirement_id, count(*), min(j.id) FROM job j LEFT JOIN gate g ON g.id = j.gate_id "
    f"WHERE j.workflow_id = :id AND {_LEFT} GROUP BY 1, 2 ORDER BY 1, 2"
)
_ON_PATH = (
    "SELECT j.id, j.name, r.runtime_seconds, j.gate_id FROM job j JOIN requirement r ON r.id = j.requirement_id "
    "WHERE j.id = :id"
)
#: of what a gate waits for, the job that is furthest from the beginning
_BEFORE = (
    "SELECT j.id, j.name, r.runtime_seconds, j.gate_id FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
    "JOIN requirement r ON r.id = j.requirement_id LEFT JOIN gate g ON g.id = j.gate_id "
    f"WHERE p.gate_id = :gate AND {_LEFT} ORDER BY {_STAGE} DESC, r.runtime_seconds DESC, j.id LIMIT 1"
)
#: what jobs are counted by: how their names begin; their class; nothing
GroupBy = Literal["name", "class", "workflow"]
_KEYS: Mapping[GroupBy, str] = {
    "name": "rtrim(j.name, '0123456789._-')",
    "class": "(SELECT r.name FROM requirement r WHERE r.id = j.requirement_id)",
    "workflow": "'*'",
}


class JobNode(NamedTuple):
    """A job of a graph."""

    id: int
    name: str
    state: str
    gate_id: int | None
    requirement_id: int
    priority: int
    cancel_on_blocking_job_failure: bool


class StageSum(NamedTuple):
    """How many jobs of a stage and a class have not finished. The stage is -1 where it is not known."""

    stage: int
    requirement_id: int
    num_jobs: int
    first_job_id: int


class JobOnPath(NamedTuple):
    """A job of a chain, and the gate before it."""

    id: int
    name: str
    runtime_seconds: int
    gate_id: int | None


class GroupInState(NamedTuple):
    """Jobs of a group that are in a state: how many there are, and the ends of their ids."""

    key: str
    state: str
    number: int
    first: int
    last: int


class JobAtEnd(NamedTuple):
    """A job that stands for its group."""

    id: int
    name: str
    gate_id: int | None


class GroupBefore(NamedTuple):
    """A group of jobs that hold a gate shut."""

    gate_id: int
    key: str


_JOBS = f"SELECT {', '.join(JobNode._fields)} FROM job WHERE workflow_id = :id ORDER BY id"


def jobs(db: Connection, dialect: Dialect, workflow_id: int) -> list[JobNode]:
    """Return the jobs of a workflow in order of id."""
    return list(map(JobNode._make, dialect.fetch(db, _JOBS, {"id": workflow_id})))


def gates(db: Connection, dialect: Dialect, workflow_id: int) -> list[int]:
    """Return the gates of a workflow in order of id."""
    return [row[0] for row in dialect.fetch(db, _GATES, {"id": workflow_id})]


def gate_of_jobs(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, int | None]:
    """Return the gate that each job stands behind, in order of jobs."""
    return dict(dialect.fetch(db, _GATE_OF, {"id": workflow_id}))


# -- stages -----------------------------------------------------------------------------------------------------


def set_stages(db: Connection, dialect: Dialect, stages: Mapping[int, int | None]) -> None:
    """Keep the stage of each of some gates."""
    if stages:
        dialect.run_many(db, _SET_STAGE, [{"gate": gate, "stage": stage} for gate, stage in stages.items()])


def stage_sums(db: Connection, dialect: Dialect, workflow_id: int) -> list[StageSum]:
    """Return what has not finished, by stage and class."""
    return list(map(StageSum._make, dialect.fetch(db, _CELLS, {"id": workflow_id})))


def job_on_path(db: Connection, dialect: Dialect, job_id: int) -> JobOnPath:
    """Return a job as the end of a chain."""
    return JobOnPath(*dialect.fetch(db, _ON_PATH, {"id": job_id})[0])


def before_gate(db: Connection, dialect: Dialect, gate_id: int) -> JobOnPath | None:
    """Return what a gate waits for that has not finished: the job that is furthest from the beginning."""
    found = dialect.fetch(db, _BEFORE, {"gate": gate_id})
    return JobOnPath(*found[0]) if found else None


# -- groups -----------------------------------------------------------------------------------------------------


def groups(db: Connection, dialect: Dialect, workflow_id: int, by: GroupBy) -> list[GroupInState]:
    """Count the jobs of a workflow by group and state."""
    query = (
        f"SELECT {_KEYS[by]} AS kind, j.state, count(*), min(j.id), max(j.id) FROM job j "
        "WHERE j.workflow_id = :id GROUP BY 1, 2"
    )
    return list(map(GroupInState._make, dialect.fetch(db, query, {"id": workflow_id})))


def jobs_at_ends(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> list[JobAtEnd]:
    """Return the names and gates of some jobs."""
    query = f"SELECT id, name, gate_id FROM job WHERE id IN {dialect.id_list}"
    return list(map(JobAtEnd._make, dialect.fetch(db, query, {"ids": dialect.ids(job_ids)})))


def groups_before(db: Connection, dialect: Dialect, gate_ids: Collection[int], by: GroupBy) -> list[GroupBefore]:
    """Return the groups of the jobs that hold some gates shut."""
    if not gate_ids:
        return []
    query = (
        f"SELECT DISTINCT p.gate_id, {_KEYS[by]} FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
        f"WHERE p.gate_id IN {dialect.id_list}"
    )
    return list(map(GroupBefore._make, dialect.fetch(db, query, {"ids": dialect.ids(gate_ids)})))
