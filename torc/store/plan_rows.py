"""A plan into rows, in the caller's transaction. Rows are generated as the driver takes them: a million jobs need no
second copy in memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from torc.spec.plan import Plan, PlannedJob, job_mentions, with_user_data_ids
from torc.store.id_blocks import take_ids
from torc.store.sliced_storage import Batch
from torc.workflow.graph import gate_stages
from torc.workflow.states import State

_OF_JOBS = frozenset({"on_jobs_ready", "on_jobs_complete"})


@dataclass(frozen=True, slots=True)
class WorkflowOwner:
    """Whose workflow it is, and from where."""

    user: str
    directory: str
    now: float


@dataclass(frozen=True, slots=True)
class FirstIds:
    """The first id of each block."""

    workflow: int
    job: int
    gate: int
    input_set: int
    file: int
    user_data: int
    requirement: int
    handler: int
    scheduler: int
    action: int


def take_blocks(db: Connection, plan: Plan) -> FirstIds:
    """Take the ids of a plan."""
    named = len(plan.failure_handlers) + len(plan.schedulers)
    handler = take_ids(db, "named", named) if named else 0
    return FirstIds(
        workflow=take_ids(db, "workflow"),
        job=take_ids(db, "job", len(plan.jobs)),
        gate=take_ids(db, "gate", len(plan.gates)),
        input_set=take_ids(db, "input_set", len(plan.input_sets)),
        file=take_ids(db, "file", len(plan.files)),
        user_data=take_ids(db, "user_data", len(plan.user_data)),
        requirement=take_ids(db, "requirement", len(plan.requirements)),
        handler=handler,
        scheduler=handler + len(plan.failure_handlers),
        action=take_ids(db, "action", len(plan.actions)),
    )


def num_rows(plan: Plan) -> int:
    """About how many rows a plan has."""
    inputs = sum(len(each.files) + len(each.user_data) for each in plan.input_sets)
    return len(plan.jobs) + len(plan.files) + len(plan.user_data) + sum(map(len, plan.gates)) + inputs


def plan_rows(plan: Plan, first: FirstIds) -> Iterator[Batch]:
    """The rows of a plan, but for those of the workflow itself. What is referred to comes first."""
    yield from _shared_rows(plan, first)
    yield Batch("job", JOB_COLUMNS, _job_rows(plan, first))
    yield Batch(
        "gate_prerequisite",
        ("job_id", "gate_id"),
        sorted((first.job + job, first.gate + gate) for gate, jobs in enumerate(plan.gates) for job in jobs),
    )
    if plan.user_data:
        yield Batch(
            "mention",
            ("job_id", "field", "at", "user_data_id"),
            (
                (first.job + number, *mention)
                for number, job in enumerate(plan.jobs)
                for mention in job_mentions(job, lambda index: first.user_data + index)
            ),
        )
    yield from _action_rows(plan, first)


def workflow_rows(plan: Plan, owner: WorkflowOwner, first: FirstIds) -> Iterator[Batch]:
    """The row of the workflow, and how many jobs it has in which state."""
    yield _workflow_row(plan, owner, first)
    states = Counter(State.READY if job.gate is None else State.BLOCKED for job in plan.jobs)
    yield Batch(
        "job_count",
        ("workflow_id", "state", "count"),
        [(first.workflow, state.value, count) for state, count in states.items()],
    )


def _workflow_row(plan: Plan, owner: WorkflowOwner, first: FirstIds) -> Batch:
    row = {
        "id": first.workflow,
        "name": plan.name,
        "user": plan.user or owner.user,
        "description": plan.description,
        "project": plan.project,
        "meta": json.dumps(plan.metadata),
        "env": json.dumps(dict(plan.env)),
        "settings": json.dumps(dict(plan.settings)),
        "directory": owner.directory,
        "run_id": 0,
        "version": 1,
        "is_archived": False,
        "is_canceled": False,
        "is_begun": False,
        "has_job_actions": any(action.trigger_type in _OF_JOBS for action in plan.actions),
        "created_at": owner.now,
        "updated_at": owner.now,
    }
    return Batch("workflow", tuple(row), [tuple(row.values())])


def _shared_rows(plan: Plan, first: FirstIds) -> Iterator[Batch]:
    workflow = first.workflow
    yield Batch(
        "requirement",
        ("id", "workflow_id", "name", "num_cpus", "num_gpus", "num_nodes", "memory_bytes", "runtime_seconds"),
        [(first.requirement + at, workflow, item.name, *item.request) for at, item in enumerate(plan.requirements)],
    )
    for kind, start, items in (
        ("failure_handler", first.handler, plan.failure_handlers),
        ("slurm_scheduler", first.scheduler, plan.schedulers),
    ):
        yield Batch(
            "named",
            ("id", "workflow_id", "kind", "name", "fields"),
            [(start + at, workflow, kind, item.name, json.dumps(dict(item.fields))) for at, item in enumerate(items)],
        )
    yield Batch(
        "file",
        ("id", "workflow_id", "name", "path", "producer_job_id"),
        (
            (first.file + at, workflow, file.name, file.path, _plus(first.job, file.producer))
            for at, file in enumerate(plan.files)
        ),
    )
    yield Batch(
        "user_data",
        ("id", "workflow_id", "name", "data", "is_ephemeral", "producer_job_id"),
        (
            (
                first.user_data + at,
                workflow,
                item.name,
                _json(item.data),
                item.is_ephemeral,
                _plus(first.job, item.producer),
            )
            for at, item in enumerate(plan.user_data)
        ),
    )
    stages = gate_stages(plan.gates, [job.gate for job in plan.jobs])
    yield Batch(
        "gate",
        ("id", "workflow_id", "total", "remaining", "stage"),
        ((first.gate + at, workflow, len(jobs), len(jobs), stages[at]) for at, jobs in enumerate(plan.gates)),
    )
    sets = plan.input_sets
    yield Batch("input_set", ("id", "workflow_id"), [(first.input_set + at, workflow) for at in range(len(sets))])
    yield Batch(
        "input_file",
        ("input_set_id", "file_id"),
        ((first.input_set + at, first.file + file) for at, item in enumerate(sets) for file in sorted(item.files)),
    )
    yield Batch(
        "input_user_data",
        ("input_set_id", "user_data_id"),
        (
            (first.input_set + at, first.user_data + data)
            for at, item in enumerate(sets)
            for data in sorted(item.user_data)
        ),
    )


JOB_COLUMNS = (
    "id",
    "workflow_id",
    "name",
    "command",
    "invocation_script",
    "env",
    "priority",
    "order_key",
    "requirement_id",
    "gate_id",
    "input_set_id",
    "failure_handler_id",
    "scheduler_id",
    "cancel_on_blocking_job_failure",
    "supports_termination",
    "keep_background_processes",
    "has_outputs",
    "state",
    "counted",
    "attempt",
)


def _job_rows(plan: Plan, first: FirstIds) -> Iterator[tuple[Any, ...]]:
    envs: dict[int, str] = {}
    workflow, ready, blocked = first.workflow, State.READY.value, State.BLOCKED.value
    job: PlannedJob
    for number, job in enumerate(plan.jobs):
        env = None
        if job.env:
            env = envs.get(id(job.env)) or envs.setdefault(id(job.env), json.dumps(dict(job.env)))
        yield (
            first.job + number,
            workflow,
            job.name,
            with_user_data_ids(job.command, first.user_data),
            job.invocation_script and with_user_data_ids(job.invocation_script, first.user_data),
            env,
            job.priority,
            -job.priority,
            first.requirement + job.requirement,
            _plus(first.gate, job.gate),
            _plus(first.input_set, job.input_set),
            _plus(first.handler, job.failure_handler),
            _plus(first.scheduler, job.scheduler),
            job.cancel_on_blocking_job_failure,
            job.supports_termination,
            job.keep_background_processes or None,
            bool(job.output_files),
            ready if job.gate is None else blocked,
            False,
            0,
        )


def _action_rows(plan: Plan, first: FirstIds) -> Iterator[Batch]:
    yield Batch(
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
                first.action + at,
                first.workflow,
                at,
                action.trigger_type,
                action.action_type,
                json.dumps(list(action.commands)),
                json.dumps(dict(action.settings)),
                action.persistent,
                len(action.jobs),
            )
            for at, action in enumerate(plan.actions)
        ],
    )
    yield Batch(
        "action_job",
        ("job_id", "action_id", "reached"),
        sorted(
            (first.job + job, first.action + at, False) for at, action in enumerate(plan.actions) for job in action.jobs
        ),
    )


def _plus(first: int, index: int | None) -> int | None:
    return None if index is None else first + index


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
