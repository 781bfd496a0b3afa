"""Planning of allocations: what is left of a workflow in sums, and a plan kept as schedulers and actions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from torc.api.planning import (
    DemandCell,
    GetDemand,
    PlannedScheduler,
    SetAllocationPlan,
    StoredPlan,
    WorkflowDemand,
)
from torc.errors import Conflict, Invalid
from torc.operations.actions import fire_reached
from torc.operations.dispatch import Tx, answers
from torc.operations.named_objects import checked
from torc.operations.row_mapping import grow_version, workflow_row
from torc.operations.stage_totals import demand_classes
from torc.planning.demand import DemandPart, jobs_in, parts, sums
from torc.planning.scheduler_types import SCHEDULER_TYPES, SchedulerType
from torc.spec import model
from torc.store import actions, demand, gates, named, workflows
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.workflow.graph import JobGraph, graph_of, stages
from torc.workflow.states import State

#: more actions than this for one kind of allocations help nobody: each submits several of them then
_MOST_PARTS = 20


class _RemainingJobs(NamedTuple):
    """The jobs of a workflow by index, and how far each is from now."""

    ids: Sequence[int]
    graph: JobGraph
    stage: Sequence[int]  # -1: nothing is to be done
    requirement_of: Sequence[int]  # ids of classes


@answers(GetDemand)
def get_demand(tx: Tx, request: GetDemand) -> WorkflowDemand:
    """Get what is left to do, in sums."""
    row = workflow_row(tx, request.workflow_id)
    left = _left(tx, row["id"])
    cells = _cells(left)
    classes = demand_classes(tx, row["id"], {cell.requirement_id for cell in cells})
    planned, hand_written = _schedulers(tx, row["id"])
    others = [
        action for action in _scheduling_actions(tx, row["id"]) if action.settings.get("scheduler") not in planned
    ]
    return WorkflowDemand(
        workflow_id=row["id"],
        workflow_name=row["name"],
        mark=_mark(row, cells),
        classes=classes,
        cells=cells,
        num_schedulers=len(hand_written),
        num_schedule_nodes=len(others),
    )


def _left(tx: Tx, workflow_id: int) -> _RemainingJobs:
    jobs = demand.jobs(tx.db, tx.dialect, workflow_id)
    job_at = {job.id: at for at, job in enumerate(jobs)}
    gate_at: dict[int, int] = {}
    prerequisites: list[list[int]] = []
    for gate_id, job_id in gates.prerequisites(tx.db, tx.dialect, workflow_id):
        if gate_id not in gate_at:
            gate_at[gate_id] = len(prerequisites)
            prerequisites.append([])
        prerequisites[gate_at[gate_id]].append(job_at[job_id])
    behind = [None if job.gate_id is None else gate_at.get(job.gate_id) for job in jobs]
    graph = graph_of([tuple(gate) for gate in prerequisites], behind)
    # an interrupted job is terminated and not counted off: it goes on
    due = [not job.counted and job.state != State.PENDING_FAILED.value for job in jobs]
    return _RemainingJobs([job.id for job in jobs], graph, stages(graph, due), [job.requirement_id for job in jobs])


def _cells(left: _RemainingJobs) -> list[DemandCell]:
    return [
        DemandCell(stage=cell.stage, requirement_id=cell.requirement, num_jobs=cell.num_jobs)
        for cell in sums(left.stage, left.requirement_of)
    ]


def _mark(row: RowMapping, cells: Sequence[DemandCell]) -> str:
    """Name a state by what plans are made from. Jobs that end and make others ready change it; jobs that begin do not."""
    told = json.dumps([row["run_id"], row["version"], [[c.stage, c.requirement_id, c.num_jobs] for c in cells]])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _schedulers(tx: Tx, workflow_id: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the schedulers of earlier plans, and those of the spec: name -> id."""
    planned, hand_written = dict[str, int](), dict[str, int]()
    for scheduler in named.schedulers(tx.db, tx.dialect, workflow_id):
        (planned if scheduler.fields.get("planned") else hand_written)[scheduler.name] = scheduler.id
    return planned, hand_written


class _SchedulingAction(NamedTuple):
    """An action that asks for allocations."""

    id: int
    trigger_type: str
    settings: Mapping[str, Any]


def _scheduling_actions(tx: Tx, workflow_id: int) -> list[_SchedulingAction]:
    return [
        _SchedulingAction(row["id"], row["trigger_type"], loads(row["settings"], {}))
        for row in actions.scheduling(tx.db, workflow_id)
    ]


@answers(SetAllocationPlan)
def set_allocation_plan(tx: Tx, request: SetAllocationPlan) -> StoredPlan:
    """Keep a plan as schedulers and actions."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    left = _left(tx, row["id"])
    cells = _cells(left)
    if request.mark is not None and request.mark != _mark(row, cells):
        raise Conflict(f"workflow {row['id']} has changed since this was planned", hint="plan again")
    _check(request)
    _drop_earlier(tx, row, left)
    of = SCHEDULER_TYPES[request.scheduler_type]
    ids = _put_schedulers(tx, row["id"], of, request.schedulers)
    num_actions, num_bound = 0, 0
    position = actions.next_position(tx.db, row["id"])
    for scheduler in request.schedulers:
        jobs = jobs_in(scheduler.trigger, left.stage, left.requirement_of)
        if not jobs:
            raise Invalid(f"no job that is left makes scheduler `{scheduler.name}` due", hint="plan again")
        at_once = not row["is_begun"] and all(stage == 0 for stage, _ in scheduler.trigger)
        made = (
            [DemandPart((), scheduler.num_allocations)]
            if at_once
            else parts(left.graph, jobs, scheduler.num_allocations, _MOST_PARTS)
        )
        for part in made:
            settings = _settings(of, scheduler, part)
            waited_for = [left.ids[job] for job in part.jobs]
            actions.insert_scheduling(tx.db, row["id"], position + num_actions, settings, waited_for)
            num_actions += 1
        if request.bind:
            bound = jobs_in(scheduler.cells, left.stage, left.requirement_of)
            num_bound += len(bound)
            named.bind_jobs(tx.db, tx.dialect, [left.ids[job] for job in bound], ids[scheduler.name])
    workflows.note_job_actions(tx.db, row["id"])
    grow_version(tx, row["id"])
    tx.event(row["id"], "allocations_planned", schedulers=sorted(ids), num_actions=num_actions)
    if row["is_begun"]:
        fire_reached(tx, workflow_row(tx, row["id"]))
    return StoredPlan(num_schedulers=len(ids), num_actions=num_actions, num_jobs_bound=num_bound)


def _check(request: SetAllocationPlan) -> None:
    names = [scheduler.name for scheduler in request.schedulers]
    if len(set(names)) < len(names):
        raise Invalid("two planned schedulers have one name", hint="name each of them differently")
    for scheduler in request.schedulers:
        checked(model.SCHEDULER_MODELS[request.scheduler_type], name=scheduler.name, **scheduler.fields)


def _drop_earlier(tx: Tx, row: RowMapping, left: _RemainingJobs) -> None:
    """Take away an earlier plan, and keep actions of the spec from submitting allocations for jobs that are planned for now.

    Jobs that are left are bound to nothing then: the allocations that they named may be over.
    """
    planned, _ = _schedulers(tx, row["id"])
    due = [left.ids[at] for at, stage in enumerate(left.stage) if stage >= 0]
    named.bind_jobs(tx.db, tx.dialect, due, None)
    named.delete_schedulers(tx.db, tx.dialect, row["id"], list(planned.values()))
    for action in _scheduling_actions(tx, row["id"]):
        if action.settings.get("scheduler") in planned:
            actions.delete(tx.db, action.id)
        elif row["is_begun"] and action.trigger_type == "on_jobs_ready":
            actions.skip(tx.db, row, action.id, "a plan took its place")


def _put_schedulers(
    tx: Tx, workflow_id: int, of: SchedulerType, schedulers: Sequence[PlannedScheduler]
) -> dict[str, int]:
    _, taken = _schedulers(tx, workflow_id)
    first = take_ids(tx.db, "named", len(schedulers))
    made = {}
    for number, scheduler in enumerate(schedulers, first):
        if scheduler.name in taken:
            raise Conflict(f"the spec has a {of.noun} `{scheduler.name}`", hint="give the planned one another name")
        named.insert_scheduler(tx.db, number, workflow_id, of, scheduler.name, {**scheduler.fields, "planned": True})
        made[scheduler.name] = number
    return made


def _settings(of: SchedulerType, scheduler: PlannedScheduler, part: DemandPart) -> dict[str, Any]:
    """Return the settings of an action that asks for a part of the allocations."""
    settings = {
        "scheduler": scheduler.name,
        "scheduler_type": of.name,
        "num_allocations": part.num_allocations,
        "start_one_worker_per_node": True,
        "max_parallel_jobs": scheduler.max_parallel_jobs,
    }
    return {key: value for key, value in settings.items() if value is not None}
