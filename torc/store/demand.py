"""The remaining work of a workflow, by request."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store.dialect import Dialect
from torc.workflow.states import FINISHED

_JOBS = "SELECT id, gate_id, requirement_id, counted, state FROM job WHERE workflow_id = :id ORDER BY id"
_READY = text(
    "SELECT n.name AS scheduler, r.name AS requirement, j.supports_termination, count(*) AS num_jobs, r.num_cpus, r.num_gpus, "
    "r.num_nodes, r.memory_bytes, r.runtime_seconds FROM job j JOIN requirement r ON r.id = j.requirement_id "
    "LEFT JOIN named n ON n.id = j.scheduler_id WHERE j.workflow_id = :id AND j.state = 'ready' "
    "GROUP BY n.name, r.id, r.name, j.supports_termination, r.num_cpus, r.num_gpus, r.num_nodes, r.memory_bytes, r.runtime_seconds "
    "ORDER BY n.name, r.id, j.supports_termination"
)
_COUNT = "SELECT requirement_id, count(*) FROM job WHERE {which} GROUP BY requirement_id"
_UNFINISHED = _COUNT.format(
    which=f"workflow_id = :id AND state NOT IN ({', '.join(repr(state.value) for state in sorted(FINISHED))})"
)


class JobDemand(NamedTuple):
    """A job of a workflow, as far as it says what is left to do."""

    id: int
    gate_id: int | None
    requirement_id: int
    counted: bool
    state: str


def jobs(db: Connection, dialect: Dialect, workflow_id: int) -> list[JobDemand]:
    """Return all jobs of a workflow in the order of their ids."""
    return list(map(JobDemand._make, dialect.fetch(db, _JOBS, {"id": workflow_id})))


def ready_jobs(db: Connection, workflow_id: int) -> Sequence[RowMapping]:
    """Return how many jobs are ready (`num_jobs`), by the scheduler that they are bound to, what they ask for, and
    `supports_termination`.
    """
    return db.execute(_READY, {"id": workflow_id}).mappings().all()


def num_unfinished(db: Connection, dialect: Dialect, workflow_id: int) -> Mapping[int, int]:
    """Return how many jobs of a workflow have not finished, by requirement class."""
    return dict(dialect.fetch(db, _UNFINISHED, {"id": workflow_id}))


def num_by_requirement(
    db: Connection, dialect: Dialect, workflow_id: int, job_ids: Collection[int]
) -> Mapping[int, int]:
    """Return how many of some jobs belong to a workflow, by requirement class."""
    # the plus keeps databases from reading all jobs of the workflow
    query = _COUNT.format(which=f"+workflow_id = :id AND id IN {dialect.id_list}")
    return dict(dialect.fetch(db, query, {"id": workflow_id, "ids": dialect.ids(job_ids)}))
