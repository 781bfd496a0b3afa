"""Rows of `workflow`, and what is counted of its jobs and runners."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows, sliced_storage
from torc.store.access import visible
from torc.store.dialect import Dialect
from torc.workflow.access import Rights
from torc.workflow.states import State

#: the condition on a row that its workflow is stored whole: of one that is not yet, nothing is returned
IN_WORKFLOW = "EXISTS (SELECT 1 FROM workflow WHERE workflow.id = {}.workflow_id)"
_INCREMENT_VERSION = text("UPDATE workflow SET version = version + 1, updated_at = :now WHERE id = :id")
_ANY = text("SELECT 1 FROM workflow LIMIT 1")
_ALL = text("SELECT * FROM workflow ORDER BY id DESC")
#: of the few that have not ended, each is looked up by index
_OTHERS_AT_WORK = text(
    "SELECT w.* FROM workflow w WHERE w.is_begun AND w.ended_at IS NULL AND w.id <> :id AND ("
    "EXISTS (SELECT 1 FROM runner r WHERE r.workflow_id = w.id AND r.is_active AND r.lease_expires_at >= :now) OR "
    "EXISTS (SELECT 1 FROM allocation a WHERE a.workflow_id = w.id AND a.state <> 'ended')) ORDER BY w.id"
)
_OWNER = text('SELECT "user" FROM workflow WHERE id = :id')
_NUM_JOBS = text("SELECT coalesce(sum(count), 0) FROM job_count WHERE workflow_id = :id")
_NUM_JOBS_OF_USER = text(
    'SELECT coalesce(sum(c.count), 0) FROM workflow w JOIN job_count c ON c.workflow_id = w.id WHERE w."user" = :user'
)
_MARK = text(
    "SELECT w.version, w.updated_at, (SELECT max(id) FROM event WHERE workflow_id = w.id), "
    "(SELECT max(id) FROM attempt WHERE workflow_id = w.id) FROM workflow w WHERE w.id = :id"
)
_IDS = "SELECT min(id), max(id) FROM {} WHERE workflow_id = :id"
_NEWEST = 2**62
#: what belongs to a workflow and is never much, so that it is not left to be removed in slices
_NEVER_MUCH = (
    text("DELETE FROM access_share WHERE workflow_id = :id"),
    # with the tokens that were made with them
    text(
        "WITH RECURSIVE gone(id) AS (SELECT id FROM token WHERE workflow_id = :id "
        "UNION SELECT t.id FROM token t JOIN gone g ON t.parent_id = g.id) "
        "DELETE FROM token WHERE id IN (SELECT id FROM gone)"
    ),
)
#: in an order in which nothing refers to what is gone
_BELONGS_TO_WORKFLOW = (
    "event WHERE workflow_id = :id",
    "firing WHERE workflow_id = :id",
    "attempt WHERE workflow_id = :id",
    "runner WHERE workflow_id = :id",
    "allocation WHERE workflow_id = :id",
    "action_job WHERE action_id IN (SELECT id FROM action WHERE workflow_id = :id)",
    "action WHERE workflow_id = :id",
    "gate_prerequisite WHERE gate_id IN (SELECT id FROM gate WHERE workflow_id = :id)",
    "job WHERE workflow_id = :id",
    "job_count WHERE workflow_id = :id",
    "gate WHERE workflow_id = :id",
    "input_file WHERE input_set_id IN (SELECT id FROM input_set WHERE workflow_id = :id)",
    "input_user_data WHERE input_set_id IN (SELECT id FROM input_set WHERE workflow_id = :id)",
    "input_set WHERE workflow_id = :id",
    "file WHERE workflow_id = :id",
    "user_data WHERE workflow_id = :id",
    "requirement WHERE workflow_id = :id",
    "named WHERE workflow_id = :id",
)


class WorkflowFilter(NamedTuple):
    """Which workflows a list is of. `name` may hold `*` and `?`."""

    include_archived: bool = False
    name: str | None = None
    user: str | None = None


def get(db: Connection, workflow_id: int) -> RowMapping | None:
    """Return the row of a workflow."""
    return rows.get(db, "workflow", workflow_id)


def check_readable(db: Connection) -> None:
    """Read something, so that a database that cannot be read says so. Raises DBAPIError."""
    db.execute(_ANY)


def increment_version(db: Connection, workflow_id: int, now: float) -> None:
    """Record that somebody changed a workflow, which invalidates proposals for earlier versions."""
    db.execute(_INCREMENT_VERSION, {"now": now, "id": workflow_id})


def newest(
    db: Connection,
    dialect: Dialect,
    rights: Rights | None,
    wanted: WorkflowFilter,
    *,
    before: int | None,
    limit: int,
) -> Sequence[RowMapping]:
    """Return rows of workflows that a caller may see, newest first."""
    where = visible(rights)
    where.add("id < :before", before=_NEWEST if before is None else before)
    if not wanted.include_archived:
        where.add("NOT is_archived")
    if wanted.name is not None:
        where.add_name(dialect, "name", wanted.name)
    if wanted.user is not None:
        where.add('"user" = :user', user=wanted.user)
    query = text(f"SELECT * FROM workflow WHERE {where} ORDER BY id DESC LIMIT :n")
    return db.execute(query, {**where.values, "n": limit}).mappings().all()


def all_newest_first(db: Connection) -> Sequence[RowMapping]:
    """Return the rows of all workflows, newest first."""
    return db.execute(_ALL).mappings().all()


def others_at_work(db: Connection, workflow_id: int, now: float) -> Sequence[RowMapping]:
    """Return the rows of other workflows that runners or allocations work on."""
    return db.execute(_OTHERS_AT_WORK, {"id": workflow_id, "now": now}).mappings().all()


def owner(db: Connection, workflow_id: int) -> str | None:
    """Return the owner of a workflow."""
    user: str | None = db.execute(_OWNER, {"id": workflow_id}).scalar()
    return user


def num_jobs(db: Connection, workflow_id: int) -> int:
    """Return how many jobs a workflow has."""
    return int(db.execute(_NUM_JOBS, {"id": workflow_id}).scalar_one())


def num_jobs_of_user(db: Connection, user: str) -> int:
    """Return how many jobs the workflows of a user have."""
    return int(db.execute(_NUM_JOBS_OF_USER, {"user": user}).scalar_one())


def mark(db: Connection, workflow_id: int) -> str:
    """Return a text that changes with every change to a workflow."""
    return ".".join(map(str, db.execute(_MARK, {"id": workflow_id}).one()))


def update(db: Connection, workflow_id: int, values: Mapping[str, Any]) -> None:
    """Change columns. Values that are mappings are stored as JSON."""
    plain = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
    rows.update(db, "workflow", workflow_id, plain)


def job_counts(db: Connection, dialect: Dialect, workflow_ids: Collection[int]) -> dict[int, dict[State, int]]:
    """Return how many jobs of some workflows are in which states; states without a job are absent."""
    found: dict[int, dict[State, int]] = {number: {} for number in workflow_ids}
    query = f"SELECT workflow_id, state, count FROM job_count WHERE count > 0 AND workflow_id IN {dialect.id_list}"
    for workflow_id, state, count in dialect.fetch(db, query, {"ids": dialect.ids(workflow_ids)}):
        found[workflow_id][State(state)] = count
    return found


def counts_of(db: Connection, dialect: Dialect, workflow_id: int) -> dict[State, int]:
    """Return how many jobs of a workflow are in which states; states without a job are absent."""
    return job_counts(db, dialect, [workflow_id])[workflow_id]


def with_active_runners(db: Connection, dialect: Dialect, workflow_ids: Collection[int]) -> set[int]:
    """Return those of some workflows that runners work on."""
    query = f"SELECT DISTINCT workflow_id FROM runner WHERE is_active AND workflow_id IN {dialect.id_list}"
    return {row[0] for row in dialect.fetch(db, query, {"ids": dialect.ids(workflow_ids)})}


def id_range(db: Connection, dialect: Dialect, table: str, workflow_id: int) -> tuple[int, int]:
    """Return the ids (above the first, up to the second) of a workflow's rows of a table.

    Ids of one workflow lie close together: reading pages by range spares sorting all of them for each page.
    """
    first, last = dialect.fetch(db, _IDS.format(table), {"id": workflow_id})[0]
    return (0, 0) if first is None else (first - 1, last)


def delete(db: Connection, dialect: Dialect, workflow: RowMapping) -> None:
    """Delete a workflow with everything stored about it: at once, or the rest later, where nobody else could write meanwhile."""
    key = {"id": workflow["id"]}
    if dialect.is_sliced:
        sliced_storage.abandon(db, workflow["id"], workflow["user"])
        sliced_storage.remove(db, dialect, workflow["id"])
        for statement in _NEVER_MUCH:
            db.execute(statement, key)
    else:
        for which in _BELONGS_TO_WORKFLOW:
            db.execute(text(f"DELETE FROM {which}"), key)
    rows.delete(db, "workflow", workflow["id"])


# -- runs -------------------------------------------------------------------------------------------------------


def begin_run(db: Connection, workflow_id: int, now: float) -> None:
    """Count a new run."""
    db.execute(_BEGIN_RUN, {"now": now, "id": workflow_id})


_BEGIN_RUN = text(
    "UPDATE workflow SET run_id = run_id + 1, is_begun = true, is_canceled = false, started_at = :now, "
    "ended_at = NULL, updated_at = :now WHERE id = :id"
)


def reopen_run(db: Connection, workflow_id: int, now: float) -> None:
    """Continue a run that had ended."""
    db.execute(_REOPEN_RUN, {"now": now, "id": workflow_id})


_REOPEN_RUN = text("UPDATE workflow SET ended_at = NULL, updated_at = :now WHERE id = :id AND ended_at IS NOT NULL")


def end_run(db: Connection, dialect: Dialect, workflow_id: int, now: float) -> bool:
    """End the run of a workflow; returns whether it had not ended."""
    return dialect.run(db, _END_RUN, {"id": workflow_id, "now": now}) > 0


_END_RUN = "UPDATE workflow SET ended_at = :now, updated_at = :now WHERE id = :id AND ended_at IS NULL AND is_begun"


def note_job_actions(db: Connection, workflow_id: int) -> None:
    """Record whether any action waits for jobs."""
    db.execute(_NOTE_JOB_ACTIONS, {"id": workflow_id})


_NOTE_JOB_ACTIONS = text(
    "UPDATE workflow SET has_job_actions = EXISTS (SELECT 1 FROM action WHERE workflow_id = :id "
    "AND trigger_type IN ('on_jobs_ready', 'on_jobs_complete')) WHERE id = :id"
)
