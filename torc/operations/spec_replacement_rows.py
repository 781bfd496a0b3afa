"""Write a plan over a stored workflow, table by table. `spec_replacement` says in what order, and what becomes of the jobs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from torc.api.workflows import Change
from torc.operations.dispatch import Tx
from torc.spec.plan import Plan, PlannedJob, fill_user_data_ids, job_mentions
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.store.plan_rows import JOB_COLUMNS
from torc.workflow.graph import gate_stages
from torc.workflow.states import State

_OF_JOBS = frozenset({"on_jobs_ready", "on_jobs_complete"})
#: columns of a job that say what it is; the rest says where it stands, or is made anew
STATIC = JOB_COLUMNS[3:9] + JOB_COLUMNS[11:17]


@dataclass(frozen=True, slots=True)
class StoredObjects:
    """What was there before. Relations are kept by name, as ids mean nothing to a plan."""

    jobs: dict[str, tuple[Any, ...]]  # id, state, gate_id, input_set_id, then the static columns
    reads: dict[int, frozenset[str]]  # input set -> what it holds
    waits: dict[int, frozenset[str]]  # gate -> its prerequisites


@dataclass(frozen=True, slots=True)
class PlanIds:
    """The ids of what the plan has, at the same indexes."""

    jobs: list[int]
    files: list[int]
    user_data: list[int]
    requirements: list[int]
    handlers: list[int]
    schedulers: list[int]


# -- what things are --------------------------------------------------------------------------------------------


def _put(tx: Tx, table: str, rows: Sequence[Mapping[str, Any]], *, also: str = "", keep: Iterable[str] = ()) -> None:
    """Insert rows, or update those whose ids are there, but for the columns to keep."""
    if not rows:
        return
    fixed = {"id", "workflow_id", "name", "kind", *keep}
    changes = ", ".join(f"{column} = excluded.{column}" for column in rows[0] if column not in fixed)
    tx.db.execute(
        text(
            f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({', '.join(':' + column for column in rows[0])}) "
            f"ON CONFLICT (id) DO UPDATE SET {changes}{also}"
        ),
        rows,
    )


def put_workflow(tx: Tx, workflow_id: int, plan: Plan) -> None:
    """Put the fields of the workflow itself."""
    values = {
        "name": plan.name,
        "description": plan.description,
        "project": plan.project,
        "meta": json.dumps(dict(plan.metadata)),
        "env": json.dumps(dict(plan.env)),
        "settings": json.dumps(dict(plan.settings)),
        "has_job_actions": any(action.trigger_type in _OF_JOBS for action in plan.actions),
    }
    assignments = ", ".join(f"{key} = :{key}" for key in values)
    tx.db.execute(text(f"UPDATE workflow SET {assignments} WHERE id = :id"), {**values, "id": workflow_id})


def put_shared(tx: Tx, workflow_id: int, plan: Plan, ids: PlanIds) -> None:
    """Put what jobs refer to: requirement classes, handlers, schedulers, files, user data."""
    _put(
        tx,
        "requirement",
        [
            {"id": number, "workflow_id": workflow_id, "name": item.name, **item.request._asdict()}
            for number, item in zip(ids.requirements, plan.requirements, strict=True)
        ],
    )
    for kind, numbers, things in (
        ("failure_handler", ids.handlers, plan.failure_handlers),
        ("slurm_scheduler", ids.schedulers, plan.schedulers),
    ):
        _put(
            tx,
            "named",
            [
                {
                    "id": number,
                    "workflow_id": workflow_id,
                    "kind": kind,
                    "name": thing.name,
                    "fields": json.dumps(dict(thing.fields)),
                }
                for number, thing in zip(numbers, things, strict=True)
            ],
        )
    forget = "".join(
        f", {column} = CASE WHEN file.path = excluded.path THEN file.{column} END"
        for column in ("size_bytes", "mtime_ns", "sha256")
    )
    _put(
        tx,
        "file",
        [
            {
                "id": number,
                "workflow_id": workflow_id,
                "name": file.name,
                "path": file.path,
                "producer_job_id": None if file.producer is None else ids.jobs[file.producer],
            }
            for number, file in zip(ids.files, plan.files, strict=True)
        ],
        also=forget,
    )
    # what a job writes, or what the spec leaves open, stays as it is
    keep_data = (
        ", data = CASE WHEN excluded.data IS NULL OR excluded.producer_job_id IS NOT NULL "
        "THEN user_data.data ELSE excluded.data END"
    )
    _put(
        tx,
        "user_data",
        [
            {
                "id": number,
                "workflow_id": workflow_id,
                "name": item.name,
                "data": None if item.data is None else json.dumps(item.data),
                "is_ephemeral": item.is_ephemeral,
                "producer_job_id": None if item.producer is None else ids.jobs[item.producer],
            }
            for number, item in zip(ids.user_data, plan.user_data, strict=True)
        ],
        also=keep_data,
        keep={"data"},
    )


def put_jobs(tx: Tx, workflow_id: int, plan: Plan, ids: PlanIds, stored: StoredObjects) -> list[int]:
    """Put jobs that are new or other than before; returns the ids of new ones."""
    rows, added = [], []
    for number, job in zip(ids.jobs, plan.jobs, strict=True):
        static = _static(job, ids)
        old = stored.jobs.get(job.name)
        if old is None:
            added.append(number)
        elif _same(old, static):
            continue
        row = {"id": number, "workflow_id": workflow_id, "name": job.name, "gate_id": None, "input_set_id": None}
        rows.append({**row, **static, "state": State.UNINITIALIZED.value, "counted": False, "attempt": 0})
    _put(tx, "job", rows, keep={"state", "counted", "attempt"})
    return added


def _static(job: PlannedJob, ids: PlanIds) -> dict[str, Any]:
    script = job.invocation_script
    return {
        "command": fill_user_data_ids(job.command, ids.user_data),
        "invocation_script": script and fill_user_data_ids(script, ids.user_data),
        "env": json.dumps(dict(job.env)) if job.env else None,
        "priority": job.priority,
        "order_key": -job.priority,
        "requirement_id": ids.requirements[job.requirement],
        "failure_handler_id": None if job.failure_handler is None else ids.handlers[job.failure_handler],
        "scheduler_id": None if job.scheduler is None else ids.schedulers[job.scheduler],
        "cancel_on_blocking_job_failure": job.cancel_on_blocking_job_failure,
        "supports_termination": job.supports_termination,
        "keep_background_processes": job.keep_background_processes or None,
        "has_outputs": bool(job.output_files),
    }


def _same(old: tuple[Any, ...], static: Mapping[str, Any]) -> bool:
    return all(
        (json.dumps(loads(value)) if column == "env" and value is not None else value) == static[column]
        for column, value in zip(STATIC, old[5:], strict=True)
    )


# -- how things hang together -----------------------------------------------------------------------------------


def put_mentions(tx: Tx, workflow_id: int, plan: Plan, ids: PlanIds) -> None:
    """Note anew where commands mention user data."""
    of = "SELECT id FROM user_data WHERE workflow_id = :id"
    tx.db.execute(text(f"DELETE FROM mention WHERE user_data_id IN ({of})"), {"id": workflow_id})
    _insert(
        tx,
        "mention",
        ("job_id", "field", "at", "user_data_id"),
        (
            (number, *mention)
            for number, job in zip(ids.jobs, plan.jobs, strict=True)
            for mention in job_mentions(job, ids.user_data.__getitem__)
        ),
    )


def unlink(tx: Tx, workflow_id: int, plan: Plan, stored: StoredObjects) -> list[Change]:
    """Take gates and input sets away, and the jobs that the plan does not have."""
    key = {"id": workflow_id}
    # first of all: a job would go with its gate
    tx.db.execute(text("UPDATE job SET gate_id = NULL, input_set_id = NULL WHERE workflow_id = :id"), key)
    for table, of in (("gate_prerequisite", "gate"), ("input_file", "input_set"), ("input_user_data", "input_set")):
        among = f"SELECT id FROM {of} WHERE workflow_id = :id"
        tx.db.execute(text(f"DELETE FROM {table} WHERE {of}_id IN ({among})"), key)
    for table in ("gate", "input_set"):
        tx.db.execute(text(f"DELETE FROM {table} WHERE workflow_id = :id"), key)
    names = {job.name for job in plan.jobs}
    gone = [row for name, row in stored.jobs.items() if name not in names]
    if gone:
        ids = tx.dialect.ids(row[1] for row in gone)
        tx.db.execute(text(f"DELETE FROM job WHERE id IN {tx.dialect.id_list}"), {"ids": ids})
    return [
        Change(job_id=row[1], job_name=row[0], state=State(row[2]), new_state=None, reason="removed from the spec")
        for row in gone
    ]


def link(tx: Tx, workflow_id: int, plan: Plan, ids: PlanIds) -> None:
    """Make gates and input sets anew and hang the jobs on them."""
    gate = take_ids(tx.db, "gate", len(plan.gates)) if plan.gates else 0
    inputs = take_ids(tx.db, "input_set", len(plan.input_sets)) if plan.input_sets else 0
    stages = gate_stages(plan.gates, [job.gate for job in plan.jobs])
    _insert(
        tx,
        "gate",
        ("id", "workflow_id", "total", "remaining", "stage"),
        ((gate + at, workflow_id, len(members), 0, stages[at]) for at, members in enumerate(plan.gates)),
    )
    _insert(
        tx,
        "gate_prerequisite",
        ("job_id", "gate_id"),
        ((ids.jobs[job], gate + at) for at, members in enumerate(plan.gates) for job in members),
    )
    _insert(tx, "input_set", ("id", "workflow_id"), ((inputs + at, workflow_id) for at in range(len(plan.input_sets))))
    _insert(
        tx,
        "input_file",
        ("input_set_id", "file_id"),
        ((inputs + at, ids.files[file]) for at, members in enumerate(plan.input_sets) for file in members.files),
    )
    _insert(
        tx,
        "input_user_data",
        ("input_set_id", "user_data_id"),
        (
            (inputs + at, ids.user_data[data])
            for at, members in enumerate(plan.input_sets)
            for data in members.user_data
        ),
    )
    rows = [
        {
            "id": number,
            "gate": None if job.gate is None else gate + job.gate,
            "inputs": None if job.input_set is None else inputs + job.input_set,
        }
        for number, job in zip(ids.jobs, plan.jobs, strict=True)
        if job.gate is not None or job.input_set is not None
    ]
    if rows:
        tx.db.execute(text("UPDATE job SET gate_id = :gate, input_set_id = :inputs WHERE id = :id"), rows)
    tx.db.execute(
        text(
            "UPDATE gate SET remaining = (SELECT count(*) FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
            "WHERE p.gate_id = gate.id AND NOT j.counted) WHERE workflow_id = :id"
        ),
        {"id": workflow_id},
    )


def _insert(tx: Tx, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    tx.dialect.insert_many(tx.db, table, columns, rows)


def drop_unused(tx: Tx, workflow_id: int, ids: PlanIds) -> None:
    """Take away what the plan does not have."""
    for table, kept in (
        ("file", ids.files),
        ("user_data", ids.user_data),
        ("requirement", ids.requirements),
        ("named", [*ids.handlers, *ids.schedulers]),
    ):
        of_specs = " AND kind IN ('failure_handler', 'slurm_scheduler')" if table == "named" else ""
        tx.db.execute(
            text(f"DELETE FROM {table} WHERE workflow_id = :id AND id NOT IN {tx.dialect.id_list}{of_specs}"),
            {"id": workflow_id, "ids": tx.dialect.ids(kept)},
        )
    # attempts of a class that is no more count for the one that their job has now
    tx.db.execute(
        text(
            "UPDATE attempt SET requirement_id = NULL WHERE workflow_id = :id AND requirement_id IS NOT NULL "
            f"AND requirement_id NOT IN {tx.dialect.id_list}"
        ),
        {"id": workflow_id, "ids": tx.dialect.ids(ids.requirements)},
    )


def put_actions(tx: Tx, workflow_id: int, plan: Plan, ids: PlanIds) -> bool:
    """Replace the actions unless they are as before; tells whether they were replaced."""
    key = {"id": workflow_id}
    jobs_of: dict[int, set[int]] = defaultdict(set)
    waiting = text(
        "SELECT w.action_id, w.job_id FROM action_job w JOIN action a ON a.id = w.action_id WHERE a.workflow_id = :id"
    )
    for action, job in tx.db.execute(waiting, key):
        jobs_of[action].add(job)
    before = [
        (trigger, kind, loads(commands, []), loads(settings, {}), bool(persistent), jobs_of[number])
        for number, trigger, kind, commands, settings, persistent in tx.db.execute(
            text(
                "SELECT id, trigger_type, action_type, commands, settings, persistent FROM action "
                "WHERE workflow_id = :id ORDER BY position"
            ),
            key,
        )
    ]
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
    if before == wanted:
        return False
    tx.db.execute(text("DELETE FROM action WHERE workflow_id = :id"), key)  # with its jobs and firings
    first = take_ids(tx.db, "action", len(wanted)) if wanted else 0
    _insert(
        tx,
        "action",
        (
            "id",
            "workflow_id",
            "position",
            "trigger_type",
            "action_type",
            "commands",
            "settings",
            "persistent",
            "remaining",
        ),
        [
            (
                first + at,
                workflow_id,
                at,
                trigger,
                kind,
                json.dumps(commands),
                json.dumps(settings),
                persistent,
                len(jobs),
            )
            for at, (trigger, kind, commands, settings, persistent, jobs) in enumerate(wanted)
        ],
    )
    _insert(
        tx,
        "action_job",
        ("job_id", "action_id", "reached"),
        ((job, first + at, False) for at, action in enumerate(wanted) for job in sorted(action[5])),
    )
    return True


def recount(tx: Tx, workflow_id: int) -> None:
    """Count the jobs by state."""
    key = {"id": workflow_id}
    tx.db.execute(text("DELETE FROM job_count WHERE workflow_id = :id"), key)
    tx.db.execute(
        text(
            "INSERT INTO job_count (workflow_id, state, count) SELECT workflow_id, state, count(*) FROM job "
            "WHERE workflow_id = :id GROUP BY workflow_id, state"
        ),
        key,
    )
