"""A plan into rows, in the caller's transaction. Rows are generated as the driver takes them: a million jobs need no
second copy in memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from torc.spec.plan import JOB_SETTINGS, Plan, PlannedJob, job_mentions, with_user_data_ids
from torc.store.id_blocks import take_ids
from torc.store.job_fields import stored
from torc.store.json_columns import dumps
from torc.store.sliced_storage import Batch
from torc.workflow.graph import gate_stages
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import State

_OF_JOBS = frozenset({"on_jobs_ready", "on_jobs_complete"})


@dataclass(frozen=True, slots=True)
class WorkflowOwner:
    """Whose workflow it is, and from where."""

    user: str
    directory: str
    now: float


@dataclass(frozen=True, slots=True)
class PlanIds:
    """The ids of what a plan has, at the same indexes; ranges where they are new."""

    workflow: int
    jobs: Sequence[int]
    gates: Sequence[int]
    input_sets: Sequence[int]
    files: Sequence[int]
    user_data: Sequence[int]
    requirements: Sequence[int]
    handlers: Sequence[int]
    schedulers: Sequence[int]
    actions: Sequence[int]


def new_ids(db: Connection, table: str, number: int) -> range:
    """Take ids of a table."""
    first = take_ids(db, table, number) if number else 0
    return range(first, first + number)


def take_blocks(db: Connection, plan: Plan) -> PlanIds:
    """Take ids for everything of a plan that is new."""
    named = new_ids(db, "named", len(plan.failure_handlers) + len(plan.schedulers))
    return PlanIds(
        workflow=take_ids(db, "workflow"),
        jobs=new_ids(db, "job", len(plan.jobs)),
        gates=new_ids(db, "gate", len(plan.gates)),
        input_sets=new_ids(db, "input_set", len(plan.input_sets)),
        files=new_ids(db, "file", len(plan.files)),
        user_data=new_ids(db, "user_data", len(plan.user_data)),
        requirements=new_ids(db, "requirement", len(plan.requirements)),
        handlers=named[: len(plan.failure_handlers)],
        schedulers=named[len(plan.failure_handlers) :],
        actions=new_ids(db, "action", len(plan.actions)),
    )


def num_rows(plan: Plan) -> int:
    """About how many rows a plan has."""
    inputs = sum(len(each.files) + len(each.user_data) for each in plan.input_sets)
    return len(plan.jobs) + len(plan.files) + len(plan.user_data) + sum(map(len, plan.gates)) + inputs


def plan_rows(plan: Plan, ids: PlanIds) -> Iterator[Batch]:
    """The rows of a plan, but for those of the workflow itself. What is referred to comes first."""
    yield from shared_rows(plan, ids)
    yield from gate_rows(plan, ids)
    yield from input_rows(plan, ids)
    yield job_rows(plan, ids)
    yield prerequisite_rows(plan, ids)
    yield from mention_rows(plan, ids)
    yield from action_rows(plan, ids)


def workflow_rows(plan: Plan, owner: WorkflowOwner, ids: PlanIds) -> Iterator[Batch]:
    """The row of the workflow, and how many jobs it has in which state."""
    yield _workflow_row(plan, owner, ids.workflow)
    states = Counter(State.READY if job.gate is None else State.BLOCKED for job in plan.jobs)
    yield Batch(
        "job_count",
        ("workflow_id", "state", "count"),
        [(ids.workflow, state.value, count) for state, count in states.items()],
    )


def workflow_fields(plan: Plan) -> dict[str, Any]:
    """The columns of the workflow's row that a plan fills."""
    return {
        "name": plan.name,
        "description": plan.description,
        "project": plan.project,
        "meta": json.dumps(dict(plan.metadata)),
        "env": json.dumps(dict(plan.env)),
        "settings": json.dumps(dict(plan.settings)),
        "has_job_actions": any(action.trigger_type in _OF_JOBS for action in plan.actions),
    }


def _workflow_row(plan: Plan, owner: WorkflowOwner, workflow_id: int) -> Batch:
    row = {
        "id": workflow_id,
        **workflow_fields(plan),
        "user": plan.user or owner.user,
        "directory": owner.directory,
        "run_id": 0,
        "version": 1,
        "is_archived": False,
        "is_canceled": False,
        "is_begun": False,
        "created_at": owner.now,
        "updated_at": owner.now,
    }
    return Batch("workflow", tuple(row), [tuple(row.values())])


def shared_rows(plan: Plan, ids: PlanIds) -> Iterator[Batch]:
    """The rows of what jobs refer to: requirement classes, failure handlers, schedulers, files, user data."""
    workflow = ids.workflow
    yield Batch(
        "requirement",
        ("id", "workflow_id", "name", *ResourceRequest._fields),
        [
            (number, workflow, item.name, *item.request)
            for number, item in zip(ids.requirements, plan.requirements, strict=True)
        ],
    )
    for numbers, items in ((ids.handlers, plan.failure_handlers), (ids.schedulers, plan.schedulers)):
        yield Batch(
            "named",
            ("id", "workflow_id", "kind", "name", "fields"),
            [
                (number, workflow, item.kind, item.name, json.dumps(dict(item.fields)))
                for number, item in zip(numbers, items, strict=True)
            ],
        )
    yield Batch(
        "file",
        ("id", "workflow_id", "name", "path", "producer_job_id"),
        (
            (number, workflow, file.name, file.path, _at(ids.jobs, file.producer))
            for number, file in zip(ids.files, plan.files, strict=True)
        ),
    )
    yield Batch(
        "user_data",
        ("id", "workflow_id", "name", "data", "is_ephemeral", "producer_job_id"),
        (
            (number, workflow, item.name, dumps(item.data), item.is_ephemeral, _at(ids.jobs, item.producer))
            for number, item in zip(ids.user_data, plan.user_data, strict=True)
        ),
    )


def gate_rows(plan: Plan, ids: PlanIds) -> Iterator[Batch]:
    """The rows of gates, all shut."""
    stages = gate_stages(plan.gates, [job.gate for job in plan.jobs])
    yield Batch(
        "gate",
        ("id", "workflow_id", "total", "remaining", "stage"),
        (
            (number, ids.workflow, len(jobs), len(jobs), stage)
            for number, jobs, stage in zip(ids.gates, plan.gates, stages, strict=True)
        ),
    )


def prerequisite_rows(plan: Plan, ids: PlanIds) -> Batch:
    """The rows that say who holds which gate shut."""
    return Batch(
        "gate_prerequisite",
        ("job_id", "gate_id"),
        sorted((ids.jobs[job], gate) for gate, jobs in zip(ids.gates, plan.gates, strict=True) for job in jobs),
    )


def input_rows(plan: Plan, ids: PlanIds) -> Iterator[Batch]:
    """The rows of input sets and of what they hold."""
    sets = list(zip(ids.input_sets, plan.input_sets, strict=True))
    yield Batch("input_set", ("id", "workflow_id"), [(number, ids.workflow) for number in ids.input_sets])
    yield Batch(
        "input_file",
        ("input_set_id", "file_id"),
        ((number, ids.files[file]) for number, item in sets for file in sorted(item.files)),
    )
    yield Batch(
        "input_user_data",
        ("input_set_id", "user_data_id"),
        ((number, ids.user_data[data]) for number, item in sets for data in sorted(item.user_data)),
    )


#: what the other columns of new jobs hold is NULL
JOB_COLUMNS = (
    "id",
    "workflow_id",
    "name",
    "command",
    "invocation_script",
    "env",
    "order_key",
    "requirement_id",
    "gate_id",
    "input_set_id",
    "failure_handler_id",
    "scheduler_id",
    "has_outputs",
    "state",
    "counted",
    "attempt",
    *(setting.name for setting in JOB_SETTINGS),
)


def job_rows(plan: Plan, ids: PlanIds) -> Batch:
    """The rows of jobs, blocked behind their gates or ready."""
    return Batch("job", JOB_COLUMNS, _job_rows(plan, ids))


def _job_rows(plan: Plan, ids: PlanIds) -> Iterator[tuple[Any, ...]]:
    envs: dict[int, str] = {}
    workflow, ready, blocked = ids.workflow, State.READY.value, State.BLOCKED.value
    settings_of = itemgetter(*(PlannedJob._fields.index(setting.name) for setting in JOB_SETTINGS))
    given: tuple[Any, ...] | None = None
    settings: list[Any] = []
    job: PlannedJob
    for number, job in zip(ids.jobs, plan.jobs, strict=True):
        env = None
        if job.env:
            env = envs.get(id(job.env)) or envs.setdefault(id(job.env), json.dumps(dict(job.env)))
        if (found := settings_of(job)) != given:  # the same for all jobs of a template
            given = found
            settings = [stored(setting, value) for setting, value in zip(JOB_SETTINGS, found, strict=True)]
        yield (
            number,
            workflow,
            job.name,
            with_user_data_ids(job.command, ids.user_data),
            job.invocation_script and with_user_data_ids(job.invocation_script, ids.user_data),
            env,
            -job.priority,
            ids.requirements[job.requirement],
            _at(ids.gates, job.gate),
            _at(ids.input_sets, job.input_set),
            _at(ids.handlers, job.failure_handler),
            _at(ids.schedulers, job.scheduler),
            bool(job.output_files),
            ready if job.gate is None else blocked,
            False,
            0,
            *settings,
        )


def mention_rows(plan: Plan, ids: PlanIds) -> Iterator[Batch]:
    """The rows that say where commands mention user data."""
    if plan.user_data:
        yield Batch(
            "mention",
            ("job_id", "field", "at", "user_data_id"),
            (
                (number, *mention)
                for number, job in zip(ids.jobs, plan.jobs, strict=True)
                for mention in job_mentions(job, ids.user_data.__getitem__)
            ),
        )


def action_rows(plan: Plan, ids: PlanIds) -> Iterator[Batch]:
    """The rows of actions, and of the jobs that they wait for."""
    actions = list(zip(ids.actions, plan.actions, strict=True))
    rows = [
        {
            "id": number,
            "workflow_id": ids.workflow,
            "position": at,
            "trigger_type": action.trigger_type,
            "action_type": action.action_type,
            "commands": json.dumps(list(action.commands)),
            "settings": json.dumps(dict(action.settings)),
            "persistent": action.persistent,
            "remaining": len(action.jobs),
        }
        for at, (number, action) in enumerate(actions)
    ]
    if rows:
        yield Batch("action", tuple(rows[0]), [tuple(row.values()) for row in rows])
    yield Batch(
        "action_job",
        ("job_id", "action_id", "reached"),
        sorted((ids.jobs[job], number, False) for number, action in actions for job in action.jobs),
    )


def _at(ids: Sequence[int], index: int | None) -> int | None:
    return None if index is None else ids[index]
