"""Rows of `attempt`: how executions ended. (job, attempt) is recorded once, however often it is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.failures.retry import RUNNER_LOST
from torc.store import access
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.requirements import REQUEST_COLUMNS
from torc.store.workflows import IN_WORKFLOW
from torc.workflow.access import Rights
from torc.workflow.states import ENDED_BADLY, State

_RESULT = "SELECT a.*, j.name AS job_name FROM attempt a JOIN job j ON j.id = a.job_id "
_GET = text(f"{_RESULT} WHERE a.id = :id AND {IN_WORKFLOW.format('a')}")
_ENDED_BADLY = f"({', '.join(repr(state.value) for state in ENDED_BADLY)})"


# -- reading ----------------------------------------------------------------------------------------------------


class ResultFilter(NamedTuple):
    """Which results of a workflow to list."""

    run_id: int | None = None
    job_id: int | None = None
    state: State | None = None
    failed_only: bool = False
    latest_only: bool = False


def get(db: Connection, attempt_id: int) -> RowMapping | None:
    """Return the row of an attempt, with `job_name`."""
    return db.execute(_GET, {"id": attempt_id}).mappings().first()


def page(db: Connection, workflow_id: int, which: ResultFilter, *, after: int, limit: int) -> Sequence[RowMapping]:
    """Return rows as `get` does, oldest first."""
    where = Conditions("a.workflow_id = :workflow_id", workflow_id=workflow_id)
    where.add("a.id > :after", after=after)
    if which.run_id is not None:
        where.add("a.run_id = :run_id", run_id=which.run_id)
    if which.job_id is not None:
        where.add("a.job_id = :job_id", job_id=which.job_id)
    if which.state is not None:
        where.add("a.state = :state", state=which.state.value)
    if which.failed_only:
        where.add("a.state <> 'completed'")
    if which.latest_only:
        in_run = "" if which.run_id is None else " AND b.run_id = a.run_id"
        where.add(f"a.attempt = (SELECT max(b.attempt) FROM attempt b WHERE b.job_id = a.job_id{in_run})")
    query = text(f"{_RESULT} WHERE {where} ORDER BY a.id LIMIT :n")
    return db.execute(query, {**where.values, "n": limit}).mappings().all()


_LINES = (
    "SELECT a.id, a.job_id, j.name AS job_name, a.attempt, a.run_id, r.name AS requirement, a.state, a.return_code, "
    "coalesce(a.detail, a.reason) AS why, a.runner_id, a.started_at, a.ended_at, a.wall_seconds, "
    "a.user_cpu_seconds + a.system_cpu_seconds AS cpu_seconds, a.peak_memory_bytes "
    "FROM attempt a JOIN job j ON j.id = a.job_id JOIN requirement r ON r.id = coalesce(a.requirement_id, j.requirement_id) "
    "WHERE a.workflow_id = :workflow_id AND a.id > :after{run} ORDER BY a.id LIMIT :n"
)


class AttemptSummary(NamedTuple):
    """An attempt in short."""

    id: int
    job_id: int
    job_name: str
    attempt: int
    run_id: int
    requirement: str
    state: str
    return_code: int | None
    why: str | None  # the detail, where there is one, or the reason
    runner_id: int | None
    started_at: float | None
    ended_at: float
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int


def short_page(
    db: Connection, dialect: Dialect, workflow_id: int, run_id: int | None, *, after: int, limit: int
) -> list[AttemptSummary]:
    """Return attempts of a workflow, or of one of its runs, in short and oldest first."""
    values = {"workflow_id": workflow_id, "after": after, "n": limit}
    if run_id is not None:
        values["run_id"] = run_id
    query = _LINES.format(run="" if run_id is None else " AND a.run_id = :run_id")
    return list(map(AttemptSummary._make, dialect.fetch(db, query, values)))


# -- recording --------------------------------------------------------------------------------------------------

#: what is kept of an attempt that was given up with its runner and is reported after all: the rest is filled in
_STAYS = frozenset(
    {
        "workflow_id",
        "job_id",
        "run_id",
        "attempt",
        "runner_id",
        "state",
        "reason",
        "rule",
        "is_current",
        "requirement_id",
    }
)


@cache
def _record(columns: tuple[str, ...]) -> str:
    told = {
        "slurm_state": "coalesce(attempt.slurm_state, excluded.slurm_state)",
        "detail": "'reported ' || excluded.state || ' after its runner was given up'",
    }
    changes = (f"{column} = {told.get(column, f'excluded.{column}')}" for column in columns if column not in _STAYS)
    return (
        f"INSERT INTO attempt ({', '.join(columns)}) VALUES ({', '.join(f':{column}' for column in columns)}) "
        f"ON CONFLICT (job_id, attempt) DO UPDATE SET {', '.join(changes)} "
        f"WHERE attempt.reason = '{RUNNER_LOST}' AND attempt.detail IS NULL"
    )


def record(db: Connection, dialect: Dialect, reported: Sequence[Mapping[str, Any]]) -> None:
    """Record attempts, all with the same columns; existing records are kept, except of attempts that were given up."""
    if reported:
        dialect.run_many(db, _record(tuple(reported[0])), reported)


_RECORD_LOST = (
    "INSERT INTO attempt (workflow_id, job_id, run_id, attempt, runner_id, state, return_code, reason, detail, rule, is_current, "
    "started_at, ended_at, wall_seconds, user_cpu_seconds, system_cpu_seconds, peak_memory_bytes, slurm_state, requirement_id) "
    "SELECT workflow_id, id, :run_id, attempt, :runner_id, 'terminated', :return_code, :reason, :detail, :rule, true, started_at, "
    ":now, CASE WHEN started_at IS NULL OR started_at > :now THEN 0 ELSE :now - started_at END, 0, 0, 0, :slurm_state, :requirement_id "
    "FROM job WHERE id = :job_id ON CONFLICT (job_id, attempt) DO NOTHING"
)


class LostAttempt(NamedTuple):
    """An attempt that was given up with its runner."""

    job_id: int
    run_id: int
    runner_id: int
    now: float
    return_code: int | None
    reason: str
    detail: str | None
    rule: int | None
    slurm_state: str | None
    requirement_id: int


def record_lost(db: Connection, lost: LostAttempt) -> None:
    """Record the current attempt of a job as terminated, from when the job says that it started."""
    db.execute(text(_RECORD_LOST), lost._asdict())


_RECORDED = f"SELECT job_id, attempt, reason = '{RUNNER_LOST}' AND detail IS NULL FROM attempt WHERE job_id IN "
_FORGET_LOSS = f"DELETE FROM attempt WHERE job_id = :job_id AND attempt = :attempt AND reason = '{RUNNER_LOST}'"


def open_ones(db: Connection, dialect: Dialect, job_ids: Collection[int]) -> dict[tuple[int, int], bool]:
    """Return what is recorded of some jobs: (job, attempt) -> whether it was given up with its runner, and nothing is
    known of its end.
    """
    rows = dialect.fetch(db, _RECORDED + dialect.id_list, {"ids": dialect.ids(job_ids)})
    return {(job, attempt): bool(is_open) for job, attempt, is_open in rows}


def forget_losses(db: Connection, dialect: Dialect, attempts: Mapping[int, int]) -> None:
    """Remove the records of attempts (job -> attempt) that were given up with their runners."""
    dialect.run_many(db, _FORGET_LOSS, [{"job_id": job, "attempt": attempt} for job, attempt in attempts.items()])


def outdate(db: Connection, dialect: Dialect, run_id: int, job_ids: Collection[int]) -> None:
    """Mark the results of some jobs in a run as no longer current."""
    update = f"UPDATE attempt SET is_current = false WHERE run_id = :run_id AND job_id IN {dialect.id_list}"
    dialect.run(db, update, {"run_id": run_id, "ids": dialect.ids(job_ids)})


def forget_requirement(db: Connection, requirement_id: int) -> None:
    """Move attempts of a deleted class to their job's current class."""
    forget = text("UPDATE attempt SET requirement_id = NULL WHERE requirement_id = :id")
    db.execute(forget, {"id": requirement_id})


# -- counting ---------------------------------------------------------------------------------------------------

_RULES = (
    "SELECT rule, count(*) FROM attempt WHERE job_id = :job_id AND run_id = :run_id AND rule IS NOT NULL GROUP BY rule"
)
_SUMS = text(
    "SELECT coalesce(sum(user_cpu_seconds + system_cpu_seconds), 0) AS cpu_seconds, "
    "coalesce(max(peak_memory_bytes), 0) AS peak_memory_bytes, count(*) AS number, "
    "count(*) - count(DISTINCT job_id) AS retries FROM attempt WHERE workflow_id = :id AND run_id = :run"
)
_FAILED = text(
    f"{_RESULT} WHERE a.workflow_id = :id AND a.attempt = j.attempt AND j.state IN {_ENDED_BADLY} "
    "ORDER BY a.ended_at, a.id LIMIT :n"
)


def num_by_rule(db: Connection, dialect: Dialect, job_id: int, run_id: int) -> dict[int, int]:
    """Return how often each rule of its failure handler has retried a job in a run."""
    return dict(dialect.fetch(db, _RULES, {"job_id": job_id, "run_id": run_id}))


def num_losses(db: Connection, job_id: int, run_id: int, died: str, faultless: Collection[str]) -> int:
    """Return how many attempts of a job were lost with their runners in a run, but for runners that died as `died` says,
    and for those whose cluster state says that it was nobody's fault.
    """
    states = ", ".join(f"'{word}'" for word in sorted(faultless))
    query = text(
        "SELECT count(*) FROM attempt a JOIN runner r ON r.id = a.runner_id WHERE a.job_id = :job_id AND a.run_id = :run_id "
        f"AND a.reason = '{RUNNER_LOST}' AND a.is_current AND coalesce(r.end_reason, '') <> :died "
        f"AND coalesce(a.slurm_state, '') NOT IN ({states})"
    )
    return int(db.execute(query, {"job_id": job_id, "run_id": run_id, "died": died}).scalar_one())


def sums(db: Connection, workflow_id: int, run_id: int) -> RowMapping:
    """Return `cpu_seconds`, `peak_memory_bytes`, `number` and `retries` of the attempts of a run."""
    return db.execute(_SUMS, {"id": workflow_id, "run": run_id}).mappings().one()


def last_of_failed_jobs(db: Connection, workflow_id: int, limit: int) -> Sequence[RowMapping]:
    """Return the last attempts, as `get` does, of jobs that have ended badly, those that ended first before others."""
    return db.execute(_FAILED, {"id": workflow_id, "n": limit}).mappings().all()


# -- what was used ----------------------------------------------------------------------------------------------

_LATEST = (
    "SELECT j.command, a.peak_memory_bytes, a.wall_seconds FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.state = 'completed' AND a.is_current AND a.started_at IS NOT NULL AND {seen} ORDER BY a.id DESC LIMIT :n"
)
_USAGE = (
    "SELECT a.id, coalesce(a.requirement_id, j.requirement_id), a.peak_memory_bytes, a.wall_seconds, "
    "a.user_cpu_seconds + a.system_cpu_seconds, CASE WHEN a.reason = 'out_of_memory' THEN 1 ELSE 0 END "
    "FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.is_current AND a.started_at IS NOT NULL{run} ORDER BY a.id"
)
_NAMES = (
    "SELECT a.id, a.job_id, j.name, a.attempt, coalesce(a.requirement_id, j.requirement_id) "
    "FROM attempt a JOIN job j ON j.id = a.job_id"
)
_COMPLETED = (
    "SELECT j.requirement_id, a.peak_memory_bytes, a.wall_seconds FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.is_current AND a.state = 'completed'"
)


class CommandUsage(NamedTuple):
    """What a completed attempt used, and the command that it ran."""

    command: str
    peak_memory_bytes: int
    wall_seconds: float


class StoredUsage(NamedTuple):
    """What an attempt used, under the class that it ran with."""

    id: int
    requirement_id: int
    peak_memory_bytes: int
    wall_seconds: float
    cpu_seconds: float
    ran_out_of_memory: int


class AttemptName(NamedTuple):
    """An attempt, its job, and the class that it ran with."""

    id: int
    job_id: int
    job_name: str
    attempt: int
    requirement_id: int


class CompletedUsage(NamedTuple):
    """What a completed attempt used, under the class that its job has now."""

    requirement_id: int
    peak_memory_bytes: int
    wall_seconds: float


def latest_usage(db: Connection, dialect: Dialect, rights: Rights | None, limit: int) -> list[CommandUsage]:
    """Return what the latest completed attempts used, of all workflows that a caller may see, newest first."""
    seen = access.among_visible(rights, "a.workflow_id")
    rows = dialect.fetch(db, _LATEST.format(seen=seen), {**seen.values, "n": limit})
    return list(map(CommandUsage._make, rows))


def usage(db: Connection, dialect: Dialect, workflow_id: int, run_id: int | None) -> Iterator[StoredUsage]:
    """Return what current attempts of a workflow, or of one of its runs, used, oldest first."""
    values = {"id": workflow_id, **({} if run_id is None else {"run_id": run_id})}
    query = _USAGE.format(run="" if run_id is None else " AND a.run_id = :run_id")
    return map(StoredUsage._make, dialect.fetch(db, query, values))


def names(db: Connection, dialect: Dialect, attempt_ids: Collection[int]) -> list[AttemptName]:
    """Return whose attempts some are, oldest first."""
    if not attempt_ids:
        return []
    query = f"{_NAMES} WHERE a.id IN {dialect.id_list} ORDER BY a.id"
    return list(map(AttemptName._make, dialect.fetch(db, query, {"ids": dialect.ids(attempt_ids)})))


def completed_usage(db: Connection, dialect: Dialect, workflow_id: int) -> list[CompletedUsage]:
    """Return what current attempts used that have completed."""
    return list(map(CompletedUsage._make, dialect.fetch(db, _COMPLETED, {"id": workflow_id})))


# -- why jobs failed --------------------------------------------------------------------------------------------

_EXPLAINED = f"""SELECT j.id, j.name, j.command, j.state, j.counted, j.attempt, j.due_at,
    j.reason AS job_reason, a.state AS ending, a.reason, a.detail,
    a.return_code, a.wall_seconds, a.peak_memory_bytes, a.stderr_tail, a.stderr_line, a.stdout_tail, a.stdout_line,
    a.slurm_state, j.requirement_id, r.name AS requirement_name, {", ".join(f"r.{column}" for column in REQUEST_COLUMNS.split(", "))}
    FROM job j JOIN requirement r ON r.id = j.requirement_id
    LEFT JOIN attempt a ON a.job_id = j.id AND a.attempt = j.attempt"""
_EXPLAINED_JOB = text(f"{_EXPLAINED} WHERE j.id = :id")
#: interrupted jobs are terminated but not counted off: the next run resumes them
_FAILED_JOBS = text(
    f"{_EXPLAINED} WHERE j.workflow_id = :id AND j.state IN {_ENDED_BADLY} AND (j.counted OR j.state <> 'terminated') ORDER BY j.id"
)


def last_of_job(db: Connection, job_id: int) -> RowMapping:
    """Return a job with its last attempt, as far as there is one, and the columns of its requirement class.

    `ending`, `reason` and the rest of an attempt are NULL before the first; `job_reason` is that of the job.
    """
    return db.execute(_EXPLAINED_JOB, {"id": job_id}).mappings().one()


def failed_jobs(db: Connection, workflow_id: int) -> Iterator[RowMapping]:
    """Return rows as `last_of_job` does, of the jobs of a workflow that have failed, in order of id."""
    return iter(db.execute(_FAILED_JOBS, {"id": workflow_id}).mappings())
