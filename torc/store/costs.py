"""What attempts of a workflow took, summed by what their jobs ask for."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect

_TAKEN = (
    "SELECT j.requirement_id, a.runner_id, sum(a.wall_seconds) FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.run_id > :run GROUP BY j.requirement_id, a.runner_id"
)
_COMPLETED = (
    "SELECT j.requirement_id, count(*), max(a.wall_seconds) FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.is_current AND a.state = 'completed' GROUP BY j.requirement_id"
)
_LAST_ATTEMPT = "SELECT coalesce(max(id), 0) FROM attempt WHERE workflow_id = :id"


class TimeTaken(NamedTuple):
    """The time of all attempts of a requirement class on a runner."""

    requirement_id: int
    runner_id: int | None
    wall_seconds: float


class CompletedAttempts(NamedTuple):
    """How many current attempts of a requirement class have completed, and the time of the longest."""

    requirement_id: int
    number: int
    longest_seconds: float


def time_taken(db: Connection, dialect: Dialect, workflow_id: int, *, after_run: int) -> list[TimeTaken]:
    """Return what attempts in the runs after one have taken."""
    return list(map(TimeTaken._make, dialect.fetch(db, _TAKEN, {"id": workflow_id, "run": after_run})))


def completed(db: Connection, dialect: Dialect, workflow_id: int) -> list[CompletedAttempts]:
    """Return how long jobs take that completed."""
    return list(map(CompletedAttempts._make, dialect.fetch(db, _COMPLETED, {"id": workflow_id})))


def last_attempt(db: Connection, dialect: Dialect, workflow_id: int) -> int:
    """Return the id of the last attempt that ended; 0: there is none."""
    return int(dialect.fetch(db, _LAST_ATTEMPT, {"id": workflow_id})[0][0])
