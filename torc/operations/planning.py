"""Planning of allocations: what is left of a workflow in sums, and a plan kept as schedulers and actions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping, text

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
from torc.spec import model
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.workflow.graph import Graph, graph_of, stages
from torc.workflow.states import State

#: more actions than this for one kind of allocations help nobody: each submits several of them then
_MOST_PARTS = 20

_JOBS = "SELECT id, gate_id, requirement_id, counted, state FROM job WHERE workflow_id = :id ORDER BY id"
_GATES = (
    "SELECT p.gate_id, p.job_id FROM gate g JOIN gate_prerequisite p ON p.gate_id = g.id "
    "WHERE g.workflow_id = :id ORDER BY p.gate_id, p.job_id"
)
_SCHEDULERS = "SELECT id, name, fields FROM named WHERE workflow_id = :id AND kind = 'slurm_scheduler' ORDER BY id"
_ACTIONS = "SELECT id, trigger_type, settings FROM action WHERE workflow_id = :id AND action_type = 'schedule_nodes'"
_INSERT_ACTION = text(
    "INSERT INTO action (id, workflow_id, position, trigger_type, action_type, commands, settings, persistent, remaining) "
    "VALUES (:id, :workflow_id, :position, :trigger, 'schedule_nodes', '[]', :settings, false, :remaining)"
)
_REACHED = (
    "EXISTS (SELECT 1 FROM job j WHERE j.id = :job_id AND (j.counted OR j.state NOT IN ('uninitialized', 'blocked')))"
)


class _Left(NamedTuple):
    """The jobs of a workflow by index, and how far each is from now."""

    ids: Sequence[int]
    graph: Graph
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
    actions = [settings for _, _, settings in _actions(tx, row["id"]) if settings.get("scheduler") not in planned]
    return WorkflowDemand(
        workflow_id=row["id"],
        workflow_name=row["name"],
        mark=_mark(row, cells),
        classes=classes,
        cells=cells,
        num_schedulers=len(hand_written),
        num_schedule_nodes=len(actions),
    )


def _left(tx: Tx, workflow_id: int) -> _Left:
    key = {"id": workflow_id}
    rows = tx.dialect.fetch(tx.db, _JOBS, key)
    job_at = {row[0]: at for at, row in enumerate(rows)}
    gate_at: dict[int, int] = {}
    gates: list[list[int]] = []
    for gate, job in tx.dialect.fetch(tx.db, _GATES, key):
        if gate not in gate_at:
            gate_at[gate] = len(gates)
            gates.append([])
        gates[gate_at[gate]].append(job_at[job])
    graph = graph_of([tuple(gate) for gate in gates], [None if row[1] is None else gate_at.get(row[1]) for row in rows])
    # an interrupted job is terminated and not counted off: it goes on
    due = [not row[3] and row[4] != State.PENDING_FAILED.value for row in rows]
    return _Left([row[0] for row in rows], graph, stages(graph, due), [row[2] for row in rows])


def _cells(left: _Left) -> list[DemandCell]:
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
    for number, name, fields in tx.dialect.fetch(tx.db, _SCHEDULERS, {"id": workflow_id}):
        is_planned = loads(fields, {}).get("planned")
        (planned if is_planned else hand_written)[name] = number
    return planned, hand_written


def _actions(tx: Tx, workflow_id: int) -> list[tuple[int, str, dict[str, object]]]:
    found = tx.dialect.fetch(tx.db, _ACTIONS, {"id": workflow_id})
    return [(number, trigger, loads(settings, {})) for number, trigger, settings in found]


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
    ids = _put_schedulers(tx, row["id"], request.schedulers)
    num_actions, num_bound = 0, 0
    position = tx.db.execute(
        text("SELECT coalesce(max(position), -1) + 1 FROM action WHERE workflow_id = :id"), {"id": row["id"]}
    ).scalar_one()
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
            _put_action(tx, row["id"], position + num_actions, scheduler, [left.ids[job] for job in part.jobs], part)
            num_actions += 1
        if request.bind:
            bound = jobs_in(scheduler.cells, left.stage, left.requirement_of)
            num_bound += len(bound)
            _bind(tx, [left.ids[job] for job in bound], ids[scheduler.name])
    tx.db.execute(
        text(
            "UPDATE workflow SET has_job_actions = EXISTS (SELECT 1 FROM action WHERE workflow_id = :id "
            "AND trigger_type IN ('on_jobs_ready', 'on_jobs_complete')) WHERE id = :id"
        ),
        {"id": row["id"]},
    )
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
        checked(model.SlurmScheduler, name=scheduler.name, **scheduler.fields)


def _drop_earlier(tx: Tx, row: RowMapping, left: _Left) -> None:
    """Take away an earlier plan, and keep actions of the spec from submitting allocations for jobs that are planned for now.

    Jobs that are left are bound to nothing then: the allocations that they named may be over.
    """
    planned, _ = _schedulers(tx, row["id"])
    due = [left.ids[at] for at, stage in enumerate(left.stage) if stage >= 0]
    _bind(tx, due, None)
    bound = f"UPDATE job SET scheduler_id = NULL WHERE workflow_id = :id AND scheduler_id IN {tx.dialect.id_list}"
    tx.db.execute(text(bound), {"id": row["id"], "ids": tx.dialect.ids(planned.values())})
    tx.db.execute(
        text(f"DELETE FROM named WHERE id IN {tx.dialect.id_list}"), {"ids": tx.dialect.ids(planned.values())}
    )
    for number, trigger, settings in _actions(tx, row["id"]):
        if settings.get("scheduler") in planned:
            tx.db.execute(text("DELETE FROM action WHERE id = :id"), {"id": number})  # with its jobs and firings
        elif row["is_begun"] and trigger == "on_jobs_ready":
            tx.db.execute(
                text(
                    "INSERT INTO firing (workflow_id, action_id, run_id, occasion, state, detail) VALUES (:id, :action, :run, '', "
                    "'done', 'a plan took its place') ON CONFLICT (action_id, run_id, occasion) DO NOTHING"
                ),
                {"id": row["id"], "action": number, "run": row["run_id"]},
            )


def _bind(tx: Tx, jobs: Sequence[int], scheduler: int | None) -> None:
    query = f"UPDATE job SET scheduler_id = :scheduler WHERE scheduler_id IS NOT NULL AND id IN {tx.dialect.id_list}"
    if scheduler is not None:
        query = f"UPDATE job SET scheduler_id = :scheduler WHERE id IN {tx.dialect.id_list}"
    if jobs:
        tx.db.execute(text(query), {"scheduler": scheduler, "ids": tx.dialect.ids(jobs)})


def _put_schedulers(tx: Tx, workflow_id: int, schedulers: Sequence[PlannedScheduler]) -> dict[str, int]:
    _, taken = _schedulers(tx, workflow_id)
    first = take_ids(tx.db, "named", len(schedulers))
    made = {}
    for number, scheduler in enumerate(schedulers, first):
        if scheduler.name in taken:
            raise Conflict(
                f"the spec has a Slurm scheduler `{scheduler.name}`", hint="give the planned one another name"
            )
        tx.db.execute(
            text(
                "INSERT INTO named (id, workflow_id, kind, name, fields) VALUES (:id, :wf, 'slurm_scheduler', :name, :fields)"
            ),
            {
                "id": number,
                "wf": workflow_id,
                "name": scheduler.name,
                "fields": json.dumps({**scheduler.fields, "planned": True}),
            },
        )
        made[scheduler.name] = number
    return made


def _put_action(
    tx: Tx, workflow_id: int, position: int, scheduler: PlannedScheduler, jobs: Sequence[int], part: DemandPart
) -> None:
    number = take_ids(tx.db, "action")
    settings = {
        "scheduler": scheduler.name,
        "scheduler_type": "slurm",
        "num_allocations": part.num_allocations,
        "start_one_worker_per_node": True,
        "max_parallel_jobs": scheduler.max_parallel_jobs,
    }
    tx.db.execute(
        _INSERT_ACTION,
        {
            "id": number,
            "workflow_id": workflow_id,
            "position": position,
            "trigger": "on_jobs_ready" if jobs else "on_workflow_start",
            "settings": json.dumps({key: value for key, value in settings.items() if value is not None}),
            "remaining": 0,
        },
    )
    if jobs:
        tx.db.execute(
            text(f"INSERT INTO action_job (job_id, action_id, reached) VALUES (:job_id, :action_id, {_REACHED})"),
            [{"job_id": job, "action_id": number} for job in jobs],
        )
        tx.db.execute(
            text(
                "UPDATE action SET remaining = (SELECT count(*) FROM action_job w WHERE w.action_id = :id AND NOT w.reached) "
                "WHERE id = :id"
            ),
            {"id": number},
        )
