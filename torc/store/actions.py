"""Rows of actions, of the jobs that they wait for, and of their firings.

A firing is unique for an action, a run and an occasion ("" for once per run, "runner:ID" for once per runner), so that an action
triggered twice is due once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids

_FIRE = (
    "INSERT INTO firing (workflow_id, action_id, run_id, occasion, state) "
    "SELECT workflow_id, id, :run_id, :occasion, 'due' FROM action WHERE workflow_id = :id AND {which} "
    "ON CONFLICT (action_id, run_id, occasion) DO NOTHING"
)
_OF_JOBS = "trigger_type IN ('on_jobs_ready', 'on_jobs_complete')"
_FIRE_TRIGGER = text(
    _FIRE.format(
        which="trigger_type = :trigger "
        "AND NOT (persistent AND action_type = 'run_commands' AND trigger_type = 'on_workflow_start')"
    )
)
_FIRE_REACHED = text(
    _FIRE.format(which=f"remaining <= 0 AND {_OF_JOBS} AND NOT (persistent AND action_type = 'run_commands')")
)
_FIRE_PERSISTENT = text(
    _FIRE.format(
        which="persistent AND action_type = 'run_commands' "
        f"AND (trigger_type = 'on_workflow_start' OR ({_OF_JOBS} AND remaining <= 0))"
    )
)
_SKIP = text(
    "INSERT INTO firing (workflow_id, action_id, run_id, occasion, state, detail) "
    "VALUES (:id, :action, :run, '', 'done', :detail) ON CONFLICT (action_id, run_id, occasion) DO NOTHING"
)
_UNFINISHED = (
    "SELECT f.id, f.action_id, a.trigger_type, a.commands, f.state, f.occasion, f.run_id FROM firing f "
    "JOIN action a ON a.id = f.action_id WHERE f.workflow_id = :id AND f.state IN ('due', 'taken', 'running') "
    "AND a.action_type = 'run_commands' ORDER BY a.position, f.id"
)
_DUE_SCHEDULING = text(
    "SELECT f.id, f.action_id, a.trigger_type, a.settings FROM firing f JOIN action a ON a.id = f.action_id "
    "WHERE f.workflow_id = :id AND f.run_id = :run_id AND f.state = 'due' AND a.action_type = 'schedule_nodes' "
    "ORDER BY a.position, f.id"
)
_TAKEN = (
    "SELECT f.id, f.state, f.occasion, a.settings FROM firing f JOIN action a ON a.id = f.action_id "
    "WHERE f.runner_id = :id AND f.state IN ('taken', 'running')"
)
_TAKE = text("UPDATE firing SET state = 'taken', runner_id = :runner_id WHERE id = :id")
_BEGIN = text("UPDATE firing SET state = 'running' WHERE id = :id AND runner_id = :runner_id AND state = 'taken'")
_FINISH = text(
    "UPDATE firing SET state = :state, return_code = :code, detail = :detail WHERE id = :id AND state IN ('taken', 'running')"
)
_REQUEUE = "UPDATE firing SET state = 'due', runner_id = NULL WHERE id = :id"
_FAIL = "UPDATE firing SET state = 'failed', detail = :detail WHERE id = :id"
_DROP = text(
    "UPDATE firing SET state = 'failed', detail = :detail WHERE occasion = :occasion "
    "AND state IN ('due', 'taken', 'running')"
)
_FINISH_SCHEDULING = text(
    "UPDATE firing SET state = 'done', return_code = 0, detail = :detail "
    "WHERE id = :id AND workflow_id = :workflow_id AND state = 'due'"
)
_RESET_REACHED = text(
    "UPDATE action_job SET reached = EXISTS (SELECT 1 FROM job j JOIN action a ON a.id = action_job.action_id "
    "WHERE j.id = action_job.job_id AND (j.counted OR (a.trigger_type = 'on_jobs_ready' AND j.state = 'ready'))) "
    "WHERE action_id IN (SELECT id FROM action WHERE workflow_id = :id)"
)
_COUNT_REMAINING = (
    "UPDATE action SET remaining = (SELECT count(*) FROM action_job w WHERE w.action_id = action.id AND NOT w.reached) "
    "WHERE {which} = :id"
)
_COUNT_ALL, _COUNT_ONE = text(_COUNT_REMAINING.format(which="workflow_id")), text(_COUNT_REMAINING.format(which="id"))
_SCHEDULING = text(
    "SELECT id, trigger_type, settings FROM action WHERE workflow_id = :id AND action_type = 'schedule_nodes'"
)
_NEXT_POSITION = text("SELECT coalesce(max(position), -1) + 1 FROM action WHERE workflow_id = :id")
_WAIT_FOR = text(
    "INSERT INTO action_job (job_id, action_id, reached) VALUES (:job_id, :action_id, EXISTS (SELECT 1 FROM job j "
    "WHERE j.id = :job_id AND (j.counted OR j.state NOT IN ('uninitialized', 'blocked'))))"
)


class UnfinishedFiring(NamedTuple):
    """A firing of an action that runs commands: due or running."""

    firing_id: int
    action_id: int
    trigger: str
    commands: str | list[str]
    state: str
    occasion: str
    run_id: int

    def is_for(self, runner_id: int) -> bool:
        """Return whether this runner may run it."""
        return self.occasion in {"", occasion_of(runner_id)}


class TakenFiring(NamedTuple):
    """A firing that a runner has taken or is running."""

    firing_id: int
    state: str
    occasion: str
    settings: str | Mapping[str, Any]


def occasion_of(runner_id: int) -> str:
    """Return the occasion of actions that fire once for each runner."""
    return f"runner:{runner_id}"


# -- firing -----------------------------------------------------------------------------------------------------


def fire(db: Connection, workflow: RowMapping, trigger: str, occasion: str = "") -> None:
    """Make the actions of a trigger due, except those that run on each runner."""
    db.execute(_FIRE_TRIGGER, {**_run(workflow), "trigger": trigger, "occasion": occasion})


def fire_reached(db: Connection, workflow: RowMapping) -> None:
    """Make due the actions whose jobs have all met the condition."""
    db.execute(_FIRE_REACHED, {**_run(workflow), "occasion": ""})


def fire_persistent(db: Connection, workflow: RowMapping, occasion: str) -> None:
    """Make due the actions that run on each runner, whenever it joins."""
    db.execute(_FIRE_PERSISTENT, {**_run(workflow), "occasion": occasion})


def skip(db: Connection, workflow: RowMapping, action_id: int, why: str) -> None:
    """Mark an action as done in this run."""
    db.execute(_SKIP, {"id": workflow["id"], "action": action_id, "run": workflow["run_id"], "detail": why})


def _run(workflow: RowMapping) -> dict[str, Any]:
    return {"id": workflow["id"], "run_id": workflow["run_id"]}


def unfinished(db: Connection, dialect: Dialect, workflow_id: int) -> list[UnfinishedFiring]:
    """Return the firings that run commands and are due or running."""
    return [UnfinishedFiring(*row) for row in dialect.fetch(db, _UNFINISHED, {"id": workflow_id})]


def due_scheduling(db: Connection, workflow_id: int, run_id: int) -> Sequence[RowMapping]:
    """Return the due firings that request allocations (`id`, `action_id`, `trigger_type`, `settings`)."""
    return db.execute(_DUE_SCHEDULING, {"id": workflow_id, "run_id": run_id}).mappings().all()


def taken(db: Connection, dialect: Dialect, runner_id: int) -> list[TakenFiring]:
    """Return the firings that a runner has taken and not reported."""
    return [TakenFiring(*row) for row in dialect.fetch(db, _TAKEN, {"id": runner_id})]


def take(db: Connection, ids: Collection[int], runner_id: int) -> None:
    """Assign firings to a runner."""
    if ids:
        db.execute(_TAKE, [{"id": number, "runner_id": runner_id} for number in ids])


def begin(db: Connection, firing_id: int, runner_id: int) -> None:
    """Record that a runner starts firings that it has taken; a repeated report changes nothing."""
    db.execute(_BEGIN, {"id": firing_id, "runner_id": runner_id})


def finish(db: Connection, firing_id: int, return_code: int | None, detail: str | None) -> bool:
    """Record the result of a firing; return whether it was new."""
    values = {"id": firing_id, "state": "failed" if return_code else "done", "code": return_code, "detail": detail}
    return db.execute(_FINISH, values).rowcount > 0


def finish_scheduling(db: Connection, workflow_id: int, firing_id: int, detail: str) -> bool:
    """Finish a firing that requests allocations; return whether it was due."""
    values = {"id": firing_id, "workflow_id": workflow_id, "detail": detail}
    return db.execute(_FINISH_SCHEDULING, values).rowcount > 0


def requeue(db: Connection, dialect: Dialect, firing_id: int) -> None:
    """Make a firing due again."""
    dialect.run(db, _REQUEUE, {"id": firing_id})


def fail(db: Connection, dialect: Dialect, firing_id: int, why: str) -> None:
    """Mark a firing as failed."""
    dialect.run(db, _FAIL, {"id": firing_id, "detail": why})


def fail_occasion(db: Connection, occasion: str, why: str) -> None:
    """Mark the unfinished firings of an occasion as failed."""
    db.execute(_DROP, {"occasion": occasion, "detail": why})


# -- actions ----------------------------------------------------------------------------------------------------


def reset_reached(db: Connection, workflow_id: int) -> None:
    """Make a new run's actions wait for their jobs again."""
    for statement in (_RESET_REACHED, _COUNT_ALL):
        db.execute(statement, {"id": workflow_id})


def scheduling(db: Connection, workflow_id: int) -> Sequence[RowMapping]:
    """Return the actions that request allocations (`id`, `trigger_type`, `settings`)."""
    return db.execute(_SCHEDULING, {"id": workflow_id}).mappings().all()


def next_position(db: Connection, workflow_id: int) -> int:
    """Return the position after the last action of a workflow."""
    return int(db.execute(_NEXT_POSITION, {"id": workflow_id}).scalar_one())


def insert_scheduling(
    db: Connection, workflow_id: int, position: int, settings: Mapping[str, Any], jobs: Collection[int]
) -> None:
    """Add an action that requests allocations when all of some jobs are ready or, without jobs, when a run starts."""
    number = take_ids(db, "action")
    values = {
        "id": number,
        "workflow_id": workflow_id,
        "position": position,
        "trigger_type": "on_jobs_ready" if jobs else "on_workflow_start",
        "action_type": "schedule_nodes",
        "commands": "[]",
        "settings": json.dumps(settings),
        "persistent": False,
        "remaining": 0,
    }
    rows.insert(db, "action", values)
    if jobs:
        db.execute(_WAIT_FOR, [{"job_id": job, "action_id": number} for job in jobs])
        db.execute(_COUNT_ONE, {"id": number})


def delete(db: Connection, action_id: int) -> None:
    """Remove an action with its firings."""
    rows.delete(db, "action", action_id)
