"""Rows of `job`: read, added, changed. Their states are moved by `torc.store.transitions` alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.spec_rows import NamedJob
from torc.store.workflows import IN_WORKFLOW, id_range
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import State

#: with the names of what they refer to
_WITH_NAMES = (
    "SELECT j.*, r.name AS requirement_name, h.name AS handler_name, s.name AS scheduler_name FROM job j "
    "JOIN requirement r ON r.id = j.requirement_id LEFT JOIN named h ON h.id = j.failure_handler_id "
    "LEFT JOIN named s ON s.id = j.scheduler_id "
)
_GET = text(f"{_WITH_NAMES} WHERE j.id = :id AND {IN_WORKFLOW.format('j')}")
_RELATIONS = {
    "depends_on": "SELECT j.name FROM gate_prerequisite p JOIN job j ON j.id = p.job_id WHERE p.gate_id = :gate_id ORDER BY j.id",
    "input_files": "SELECT f.name FROM input_file i JOIN file f ON f.id = i.file_id WHERE i.input_set_id = :input_set_id ORDER BY f.id",
    "output_files": "SELECT name FROM file WHERE producer_job_id = :id ORDER BY id",
    "input_user_data": "SELECT u.name FROM input_user_data i JOIN user_data u ON u.id = i.user_data_id "
    "WHERE i.input_set_id = :input_set_id ORDER BY u.id",
    "output_user_data": "SELECT name FROM user_data WHERE producer_job_id = :id ORDER BY id",
}
_FIRST_HELD = "SELECT id, name FROM job WHERE workflow_id = :id AND runner_id IS NOT NULL LIMIT 1"
#: the plus keeps databases from finding all jobs and sorting them: ids of a workflow's first jobs are close together
_FIRST_COMMANDS = (
    "SELECT requirement_id, command FROM job WHERE +workflow_id = :id AND id > :after AND id <= :last "
    "ORDER BY id LIMIT :n"
)
_BEHIND_NOTHING = (
    "SELECT j.id FROM job j LEFT JOIN gate g ON g.id = j.gate_id WHERE j.workflow_id = :id AND j.state = 'blocked' "
    "AND (g.id IS NULL OR g.remaining = 0)"
)
#: blocked jobs are counted by gate before the gates are joined: a barrier of M before N jobs costs M + N
_BLOCKING = (
    "SELECT q.name, sum(b.n) FROM (SELECT gate_id, count(*) AS n FROM job WHERE workflow_id = :id AND state = 'blocked' "
    "GROUP BY gate_id) b JOIN gate_prerequisite p ON p.gate_id = b.gate_id JOIN job q ON q.id = p.job_id "
    "WHERE NOT q.counted AND q.state <> 'blocked' GROUP BY q.id, q.name ORDER BY 2 DESC, q.id LIMIT 10"
)
_NEEDS = text(
    f"SELECT {', '.join(f'r.{column}' for column in ResourceRequest._fields)}, n.name AS scheduler, j.supports_termination "
    "FROM job j JOIN requirement r ON r.id = j.requirement_id LEFT JOIN named n ON n.id = j.scheduler_id WHERE j.id = :id"
)
_UPSTREAM = """WITH RECURSIVE up(id, gate_id) AS (
    SELECT id, gate_id FROM job WHERE id = :id
    UNION SELECT q.id, q.gate_id FROM up JOIN gate_prerequisite p ON p.gate_id = up.gate_id JOIN job q ON q.id = p.job_id
    WHERE {followed})
    SELECT j.id, j.name, j.state, j.reason FROM up JOIN job j ON j.id = up.id WHERE j.id <> :id AND {wanted} ORDER BY j.id"""
_FORGET_MENTIONS = text("DELETE FROM mention WHERE job_id = :id AND field = :field")
_COUNT = text(
    "INSERT INTO job_count (workflow_id, state, count) SELECT workflow_id, state, count(*) FROM job "
    "WHERE workflow_id = :id GROUP BY workflow_id, state"
)
_RELEASE_CANCELED = (
    "UPDATE job SET runner_id = NULL WHERE id = :id AND attempt = :attempt AND runner_id = :runner_id "
    "AND state = 'canceled'"
)
_NAME = text("SELECT name FROM job WHERE id = :id")


Reference = Literal["requirement_id", "failure_handler_id", "scheduler_id"]


class JobCommand(NamedTuple):
    """What a job runs, and its requirement class."""

    requirement_id: int
    command: str


class JobInState(NamedTuple):
    """A job, where it stands, and why."""

    id: int
    name: str
    state: str
    reason: str | None


class JobFilter(NamedTuple):
    """Which jobs of a workflow to list. A name may hold `*` and `?`."""

    state: State | None = None
    name: str | None = None
    requirement_id: int | None = None
    runner_id: int | None = None


# -- reading ----------------------------------------------------------------------------------------------------


def get(db: Connection, job_id: int) -> RowMapping | None:
    """Return the row of a job, with `requirement_name`, `handler_name` and `scheduler_name`."""
    return db.execute(_GET, {"id": job_id}).mappings().first()


def name_of(db: Connection, job_id: int) -> str:
    """Return the name of a job that is there."""
    return str(db.execute(_NAME, {"id": job_id}).scalar_one())


def names(db: Connection, dialect: Dialect, ids: Collection[int]) -> dict[int, str]:
    """Return the names of some jobs, by id."""
    query = f"SELECT id, name FROM job WHERE id IN {dialect.id_list}"
    return dict(dialect.fetch(db, query, {"ids": dialect.ids(ids)}))


def command_of(db: Connection, dialect: Dialect, job_id: int) -> str:
    """Return the command of a job."""
    return str(dialect.fetch(db, "SELECT command FROM job WHERE id = :id", {"id": job_id})[0][0])


def started_at(db: Connection, dialect: Dialect, job_id: int) -> float | None:
    """Return when the current or last attempt of a job started."""
    found: float | None = dialect.fetch(db, "SELECT started_at FROM job WHERE id = :id", {"id": job_id})[0][0]
    return found


def relations(db: Connection, dialect: Dialect, job: RowMapping) -> dict[str, list[str]]:
    """Return the names of what a job waits for, reads and writes."""
    values = {name: job[name] for name in ("id", "gate_id", "input_set_id")}
    return {what: [row[0] for row in dialect.fetch(db, query, values)] for what, query in _RELATIONS.items()}


def page(
    db: Connection, dialect: Dialect, workflow_id: int, ids: tuple[int, int], limit: int, which: JobFilter
) -> Sequence[RowMapping]:
    """Return rows as `get` does, of jobs with ids above the first of `ids` and up to the second, in order of id."""
    # by range of ids unless it is about one name: the plus keeps databases from finding all jobs and sorting them
    where = Conditions("+j.workflow_id = :workflow_id", "j.id > :after", "j.id <= :last")
    if which.state is not None:
        where.add("j.state = :state", state=which.state.value)
    if which.name is not None:
        where.add_name(dialect, "j.name", which.name)
        where.add("j.workflow_id = :workflow_id")
    if which.requirement_id is not None:
        where.add("j.requirement_id = :requirement_id", requirement_id=which.requirement_id)
    if which.runner_id is not None:
        where.add("j.runner_id = :runner_id", runner_id=which.runner_id)
    values = {**where.values, "workflow_id": workflow_id, "after": ids[0], "last": ids[1], "n": limit}
    return db.execute(text(f"{_WITH_NAMES} WHERE {where} ORDER BY j.id LIMIT :n"), values).mappings().all()


def first_commands(db: Connection, dialect: Dialect, workflow_id: int, limit: int) -> list[JobCommand]:
    """Return what the first jobs of a workflow run."""
    after, last = id_range(db, dialect, "job", workflow_id)
    values = {"id": workflow_id, "after": after, "last": last, "n": limit}
    return list(map(JobCommand._make, dialect.fetch(db, _FIRST_COMMANDS, values)))


def mentioning(db: Connection, dialect: Dialect, ids: Collection[int]) -> set[int]:
    """Return those of some jobs whose commands mention user data."""
    query = f"SELECT DISTINCT job_id FROM mention WHERE job_id IN {dialect.id_list}"
    return {row[0] for row in dialect.fetch(db, query, {"ids": dialect.ids(ids)})}


def needs_of(db: Connection, job_id: int) -> RowMapping:
    """Return the columns of a job's requirement class with `scheduler` (a name) and `supports_termination`."""
    return db.execute(_NEEDS, {"id": job_id}).mappings().one()


def blocking_job(db: Connection, dialect: Dialect, job_id: int) -> list[JobInState]:
    """Return the jobs that a job waits for, near or far, and that are not blocked themselves."""
    query = _UPSTREAM.format(followed="NOT q.counted", wanted="j.state <> 'blocked'")
    return list(map(JobInState._make, dialect.fetch(db, query, {"id": job_id})))


def failed_before(db: Connection, dialect: Dialect, job_id: int) -> list[JobInState]:
    """Return the jobs whose failure has canceled a job, near or far."""
    query = _UPSTREAM.format(
        followed="q.state IN ('canceled', 'failed', 'terminated')", wanted="j.state IN ('failed', 'terminated')"
    )
    return list(map(JobInState._make, dialect.fetch(db, query, {"id": job_id})))


def first_with(db: Connection, dialect: Dialect, workflow_id: int, column: Reference, number: int) -> str | None:
    """Return the name of a job of a workflow that refers to something."""
    query = f"SELECT name FROM job WHERE workflow_id = :workflow_id AND {column} = :id LIMIT 1"
    found = dialect.fetch(db, query, {"workflow_id": workflow_id, "id": number})
    return found[0][0] if found else None


def first_held(db: Connection, dialect: Dialect, workflow_id: int) -> NamedJob | None:
    """Return a job of a workflow that a runner holds."""
    found = dialect.fetch(db, _FIRST_HELD, {"id": workflow_id})
    return NamedJob(*found[0]) if found else None


def states(db: Connection, dialect: Dialect, workflow_id: int, *among: State) -> dict[int, State]:
    """Return the state of every job of a workflow, or of those that are in some states."""
    named = {state.value: state for state in State}
    where = f" AND state IN ({', '.join(repr(state.value) for state in among)})" if among else ""
    found = dialect.fetch(db, f"SELECT id, state FROM job WHERE workflow_id = :id{where}", {"id": workflow_id})
    return {number: named[state] for number, state in found}


def states_of(db: Connection, dialect: Dialect, ids: Collection[int]) -> dict[int, State]:
    """Return the state of each of some jobs."""
    query = f"SELECT id, state FROM job WHERE id IN {dialect.id_list}"
    return {number: State(state) for number, state in dialect.fetch(db, query, {"ids": dialect.ids(ids)})}


def blocking(db: Connection, dialect: Dialect, workflow_id: int) -> dict[str, int]:
    """Return the ten jobs that most blocked jobs wait for and that are not blocked themselves, by name, with how many do."""
    return {name: int(count) for name, count in dialect.fetch(db, _BLOCKING, {"id": workflow_id})}


def blocked_behind_nothing(db: Connection, dialect: Dialect, workflow_id: int) -> list[int]:
    """Return the jobs that are blocked although no gate keeps them."""
    return [row[0] for row in dialect.fetch(db, _BEHIND_NOTHING, {"id": workflow_id})]


# -- writing ----------------------------------------------------------------------------------------------------


def insert(db: Connection, values: Mapping[str, Any]) -> None:
    """Add an uninitialized job. The caller tells `Transitions.added`."""
    rows.insert(db, "job", {**values, "state": State.UNINITIALIZED.value, "counted": False, "attempt": 0})


def update(db: Connection, job_id: int, values: Mapping[str, Any]) -> None:
    """Change what a job is."""
    rows.update(db, "job", job_id, values)


def take_back_attempts(db: Connection, dialect: Dialect, ids: Collection[int]) -> None:
    """Let attempts that did not begin not count: the next ones have their numbers."""
    if ids:
        update = f"UPDATE job SET attempt = attempt - 1 WHERE id IN {dialect.id_list}"
        dialect.run(db, update, {"ids": dialect.ids(ids)})


def set_attempts(db: Connection, dialect: Dialect, attempts: Mapping[int, int]) -> None:
    """Set the numbers of the current attempts of jobs (job -> attempt)."""
    update = "UPDATE job SET attempt = :attempt WHERE id = :id"
    dialect.run_many(db, update, [{"id": job, "attempt": attempt} for job, attempt in attempts.items()])


def release_canceled(db: Connection, dialect: Dialect, runner_id: int, attempts: Mapping[int, int]) -> None:
    """Take canceled jobs from the runner that has stopped these attempts (job -> attempt)."""
    if attempts:
        rows = [{"id": job, "attempt": attempt, "runner_id": runner_id} for job, attempt in attempts.items()]
        dialect.run_many(db, _RELEASE_CANCELED, rows)


def set_requirement(db: Connection, dialect: Dialect, ids: Collection[int], requirement_id: int) -> None:
    """Give jobs another requirement class."""
    query = f"UPDATE job SET requirement_id = :class WHERE id IN {dialect.id_list}"
    dialect.run(db, query, {"class": requirement_id, "ids": dialect.ids(ids)})


def forget_mentions(db: Connection, job_id: int, field: str) -> None:
    """Forget where a command mentions user data: ids in what somebody typed are just numbers."""
    db.execute(_FORGET_MENTIONS, {"id": job_id, "field": field})


def recount(db: Connection, workflow_id: int) -> None:
    """Count the jobs by state."""
    db.execute(text("DELETE FROM job_count WHERE workflow_id = :id"), {"id": workflow_id})
    db.execute(_COUNT, {"id": workflow_id})
