"""Write a plan over a stored workflow, table by table: rows with the same names keep their ids.

`torc.operations.spec_replacement` decides the order, and what happens to the jobs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import Connection, text

from torc.spec.plan import Plan
from torc.store import spec_rows, user_data
from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.store.named import OF_SCHEDULERS, schedulers
from torc.store.plan_rows import (
    JOB_COLUMNS,
    PlanIds,
    action_rows,
    gate_rows,
    input_rows,
    job_rows,
    mention_rows,
    new_ids,
    prerequisite_rows,
    shared_rows,
    workflow_fields,
)
from torc.store.sliced_storage import Batch, insert
from torc.store.workflows import update
from torc.workflow.states import State

#: columns of a job that say where it stands, or what it waits for and reads: those are made anew
_MOVING = ("gate_id", "input_set_id", "state", "counted", "attempt")
_STATIC = tuple(column for column in JOB_COLUMNS if column not in {"id", "workflow_id", "name", *_MOVING})


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job before its spec was replaced."""

    id: int
    name: str
    state: State
    gate_id: int | None
    input_set_id: int | None
    static: Mapping[str, Any]  # by column


@dataclass(frozen=True, slots=True)
class StoredObjects:
    """What was there before. Relations are kept by name, as ids mean nothing to a plan."""

    jobs: Mapping[str, StoredJob]
    reads: Mapping[int, frozenset[str]]  # input set -> what it holds
    waits: Mapping[int, frozenset[str]]  # gate -> its prerequisites


# -- what was there ---------------------------------------------------------------------------------------------


def stored_objects(db: Connection, dialect: Dialect, workflow_id: int) -> StoredObjects:
    """Return what a workflow has."""
    key = {"id": workflow_id}
    query = f"SELECT id, name, state, gate_id, input_set_id, {', '.join(_STATIC)} FROM job WHERE workflow_id = :id ORDER BY id"
    jobs = {}
    for number, name, state, gate, inputs, *static in dialect.fetch(db, query, key):
        jobs[name] = StoredJob(number, name, State(state), gate, inputs, dict(zip(_STATIC, static, strict=True)))
    reads: dict[int, set[str]] = defaultdict(set)
    file_names = {file.id: file.name for file in spec_rows.files(db, dialect, workflow_id)}
    data_names = user_data.names(db, dialect, workflow_id)
    for inputs, ids in spec_rows.inputs(db, dialect, workflow_id, "file").items():
        reads[inputs] |= {f"file {file_names[number]}" for number in ids}
    for inputs, ids in spec_rows.inputs(db, dialect, workflow_id, "user_data").items():
        reads[inputs] |= {f"user data {data_names[number]}" for number in ids}
    waits = spec_rows.prerequisites(db, dialect, workflow_id)
    return StoredObjects(
        jobs,
        {number: frozenset(names) for number, names in reads.items()},
        {number: frozenset(job.name for job in before) for number, before in waits.items()},
    )


def ids_for(db: Connection, dialect: Dialect, workflow_id: int, plan: Plan, stored: StoredObjects) -> PlanIds:
    """Return the ids of what a plan has: of what is there by name, and new ones."""

    def of(table: str, things: Sequence[Any], kind: str | None = None) -> list[int]:
        where = " AND kind = :kind" if kind else ""
        query = f"SELECT name, id FROM {table} WHERE workflow_id = :id{where}"
        values = {"id": workflow_id, "kind": kind} if kind else {"id": workflow_id}
        return _numbers(db, table, [thing.name for thing in things], dict(dialect.fetch(db, query, values)))

    return PlanIds(
        workflow=workflow_id,
        jobs=_numbers(db, "job", [job.name for job in plan.jobs], {name: job.id for name, job in stored.jobs.items()}),
        gates=new_ids(db, "gate", len(plan.gates)),
        input_sets=new_ids(db, "input_set", len(plan.input_sets)),
        files=of("file", plan.files),
        user_data=of("user_data", plan.user_data),
        requirements=of("requirement", plan.requirements),
        handlers=of("named", plan.failure_handlers, "failure_handler"),
        schedulers=_scheduler_ids(db, dialect, workflow_id, plan),
        actions=new_ids(db, "action", len(plan.actions)),
    )


def _scheduler_ids(db: Connection, dialect: Dialect, workflow_id: int, plan: Plan) -> list[int]:
    known = {(each.type.name, each.name): each.id for each in schedulers(db, dialect, workflow_id)}
    wanted = [(each.type, each.name) for each in plan.schedulers]
    new = [key for key in wanted if key not in known]
    added = dict(zip(new, new_ids(db, "named", len(new)), strict=True))
    return [known[key] if key in known else added[key] for key in wanted]


def _numbers(db: Connection, table: str, names: Sequence[str], known: Mapping[str, int]) -> list[int]:
    new = [name for name in names if name not in known]
    added = dict(zip(new, count(take_ids(db, table, len(new))), strict=False)) if new else {}
    return [known[name] if name in known else added[name] for name in names]


# -- what things are --------------------------------------------------------------------------------------------


def put_workflow(db: Connection, workflow_id: int, plan: Plan) -> None:
    """Put the fields of the workflow itself."""
    update(db, workflow_id, workflow_fields(plan))


#: what was seen of a file holds as long as its path is the same
_FORGET = "".join(
    f", {column} = CASE WHEN file.path = excluded.path THEN file.{column} END"
    for column in ("size_bytes", "mtime_ns", "sha256")
)
#: what a job writes, or what the spec leaves open, stays as it is
_KEEP_DATA = (
    ", data = CASE WHEN excluded.data IS NULL OR excluded.producer_job_id IS NOT NULL "
    "THEN user_data.data ELSE excluded.data END"
)


def put_shared(db: Connection, plan: Plan, ids: PlanIds) -> None:
    """Put what jobs refer to: requirement classes, handlers, schedulers, files, user data."""
    also = {"file": _FORGET, "user_data": _KEEP_DATA}
    for batch in shared_rows(plan, ids):
        keep = ("data",) if batch.table == "user_data" else ()
        _put(db, batch.table, _by_name(batch), also=also.get(batch.table, ""), keep=keep)


def put_jobs(db: Connection, plan: Plan, ids: PlanIds, stored: StoredObjects) -> list[int]:
    """Put jobs that are new or other than before, without what they wait for and read. Returns the ids of new ones."""
    rows, added = [], []
    for row in _by_name(job_rows(plan, ids)):
        old = stored.jobs.get(row["name"])
        if old is None:
            added.append(row["id"])
        elif _same(old.static, row):
            continue
        rows.append({**row, "gate_id": None, "input_set_id": None, "state": State.UNINITIALIZED.value})
    _put(db, "job", rows, keep=("state", "counted", "attempt"))
    return added


def _by_name(batch: Batch) -> list[dict[str, Any]]:
    return [dict(zip(batch.columns, row, strict=True)) for row in batch.rows]


def _put(
    db: Connection, table: str, rows: Sequence[Mapping[str, Any]], *, also: str = "", keep: Iterable[str] = ()
) -> None:
    """Insert rows, or update those whose ids are there, but for the columns to keep."""
    if not rows:
        return
    fixed = {"id", "workflow_id", "name", "kind", *keep}
    changes = ", ".join(f"{column} = excluded.{column}" for column in rows[0] if column not in fixed)
    db.execute(
        text(
            f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({', '.join(':' + column for column in rows[0])}) "
            f"ON CONFLICT (id) DO UPDATE SET {changes}{also}"
        ),
        rows,
    )


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(
        (json.dumps(loads(value)) if column == "env" and value is not None else value) == new[column]
        for column, value in old.items()
    )


# -- how things hang together -----------------------------------------------------------------------------------


def remove_links(db: Connection, workflow_id: int) -> None:
    """Take gates and input sets away."""
    key = {"id": workflow_id}
    # first of all: a job would go with its gate
    db.execute(text("UPDATE job SET gate_id = NULL, input_set_id = NULL WHERE workflow_id = :id"), key)
    for table, of in (("gate_prerequisite", "gate"), ("input_file", "input_set"), ("input_user_data", "input_set")):
        among = f"SELECT id FROM {of} WHERE workflow_id = :id"
        db.execute(text(f"DELETE FROM {table} WHERE {of}_id IN ({among})"), key)
    for table in ("gate", "input_set"):
        db.execute(text(f"DELETE FROM {table} WHERE workflow_id = :id"), key)


def remove_jobs(db: Connection, dialect: Dialect, ids: Iterable[int]) -> None:
    """Remove jobs, with all that belongs to them."""
    db.execute(text(f"DELETE FROM job WHERE id IN {dialect.id_list}"), {"ids": dialect.ids(ids)})


def put_links(db: Connection, dialect: Dialect, plan: Plan, ids: PlanIds) -> None:
    """Make gates and input sets anew and hang the jobs on them."""
    insert(db, dialect, [*gate_rows(plan, ids), *input_rows(plan, ids), prerequisite_rows(plan, ids)])
    rows = [
        {
            "id": number,
            "gate": None if job.gate is None else ids.gates[job.gate],
            "inputs": None if job.input_set is None else ids.input_sets[job.input_set],
        }
        for number, job in zip(ids.jobs, plan.jobs, strict=True)
        if job.gate is not None or job.input_set is not None
    ]
    if rows:
        db.execute(text("UPDATE job SET gate_id = :gate, input_set_id = :inputs WHERE id = :id"), rows)
    db.execute(
        text(
            "UPDATE gate SET remaining = (SELECT count(*) FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
            "WHERE p.gate_id = gate.id AND NOT j.counted) WHERE workflow_id = :id"
        ),
        {"id": ids.workflow},
    )


def remove_unused(db: Connection, dialect: Dialect, ids: PlanIds) -> None:
    """Take away what the plan does not have."""
    for table, kept in (
        ("file", ids.files),
        ("user_data", ids.user_data),
        ("requirement", ids.requirements),
        ("named", [*ids.handlers, *ids.schedulers]),
    ):
        of_specs = f" AND (kind = 'failure_handler' OR kind {OF_SCHEDULERS})" if table == "named" else ""
        db.execute(
            text(f"DELETE FROM {table} WHERE workflow_id = :id AND id NOT IN {dialect.id_list}{of_specs}"),
            {"id": ids.workflow, "ids": dialect.ids(kept)},
        )
    # attempts of a class that is no more count for the one that their job has now
    db.execute(
        text(
            "UPDATE attempt SET requirement_id = NULL WHERE workflow_id = :id AND requirement_id IS NOT NULL "
            f"AND requirement_id NOT IN {dialect.id_list}"
        ),
        {"id": ids.workflow, "ids": dialect.ids(ids.requirements)},
    )


def put_mentions(db: Connection, dialect: Dialect, plan: Plan, ids: PlanIds) -> None:
    """Note anew where commands mention user data."""
    of = "SELECT id FROM user_data WHERE workflow_id = :id"
    db.execute(text(f"DELETE FROM mention WHERE user_data_id IN ({of})"), {"id": ids.workflow})
    insert(db, dialect, mention_rows(plan, ids))


def put_actions(db: Connection, dialect: Dialect, plan: Plan, ids: PlanIds) -> bool:
    """Replace the actions unless they are as before; returns whether they were replaced."""
    wanted = [
        (
            action.trigger_type,
            action.action_type,
            list(action.commands),
            dict(action.settings),
            action.persistent,
            {ids.jobs[job] for job in action.jobs},
        )
        for action in plan.actions
    ]
    before = [
        (
            action.trigger_type,
            action.action_type,
            action.commands,
            action.settings,
            action.persistent,
            {job.id for job in action.jobs},
        )
        for action in spec_rows.actions(db, dialect, ids.workflow)
    ]
    if before == wanted:
        return False
    db.execute(text("DELETE FROM action WHERE workflow_id = :id"), {"id": ids.workflow})  # with its jobs and firings
    insert(db, dialect, action_rows(plan, ids))
    return True
