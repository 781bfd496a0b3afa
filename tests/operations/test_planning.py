"""What is left of a workflow in sums, and a plan of allocations kept with it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import create, ended, exchange, finish, get, jobs, runner, states, workflow
from torc.api.base import Torc
from torc.api.data import ListSlurmSchedulers
from torc.api.events import ListEvents
from torc.api.jobs import CreateJob
from torc.api.planning import (
    EstimateCost,
    GetDemand,
    GetStages,
    PlannedScheduler,
    SetAllocationPlan,
    StoredPlan,
    WorkflowDemand,
)
from torc.api.runs import NodeCapacity
from torc.api.transfer import ExportSpec
from torc.api.workflows import CheckWorkflow
from torc.errors import Conflict, Invalid

CLASSES = [{"name": "small", "num_cpus": 2}, {"name": "gpu", "num_gpus": 1}]


def pipeline(torc: Torc, **fields: Any) -> int:
    """Store: prepare, then four jobs on GPUs, then report."""
    own = {"p": {"resource_requirements": "small"}, "r": {"resource_requirements": "small"}}
    own |= {f"g{at}": {"resource_requirements": "gpu"} for at in range(4)}
    return workflow(torc, "p -> g0 g1 g2 g3 -> r", resource_requirements=CLASSES, jobs=own, **fields)


def demand(torc: Torc, wf: int) -> WorkflowDemand:
    return torc.send(GetDemand(workflow_id=wf))


def cells(found: WorkflowDemand) -> list[tuple[int, str, int]]:
    names = {each.requirement_id: each.name for each in found.classes}
    return [(cell.stage, names[cell.requirement_id], cell.num_jobs) for cell in found.cells]


def keep(torc: Torc, wf: int, *, bind: bool = True, mark: str | None = None) -> StoredPlan:
    """Keep a plan with allocations of its own for each cell."""
    found = demand(torc, wf)
    schedulers = [
        PlannedScheduler(
            name=f"s{cell.stage}",
            fields={"account": "a", "walltime": "00:30:00"},
            num_allocations=2,
            cells=[(cell.stage, cell.requirement_id)],
            trigger=[(cell.stage, cell.requirement_id)],
        )
        for cell in found.cells
    ]
    return torc.send(
        SetAllocationPlan(workflow_id=wf, schedulers=schedulers, bind=bind, mark=found.mark if mark is None else mark)
    )


def planned_actions(torc: Torc, wf: int) -> list[tuple[str, str, int]]:
    import yaml

    document = yaml.safe_load(torc.send(ExportSpec(workflow_id=wf, format="yaml")).text)
    return [
        (action["trigger_type"], ",".join(action.get("jobs", [])), action["num_allocations"])
        for action in document["actions"]
        if action["action_type"] == "schedule_nodes"
    ]


def test_the_demand_counts_what_is_left_by_stage_and_class(torc: Torc) -> None:
    wf = pipeline(torc)
    assert cells(demand(torc, wf)) == [(0, "small", 1), (1, "gpu", 4), (2, "small", 1)]
    before = demand(torc, wf).mark
    finish(torc, wf, "p")
    assert cells(demand(torc, wf)) == [(0, "gpu", 4), (1, "small", 1)]
    assert demand(torc, wf).mark != before
    finish(torc, wf, "g0", "g1", "g2", "g3")
    finish(torc, wf, "r")
    found = demand(torc, wf)
    assert found.cells == found.classes == []


def test_a_plan_becomes_schedulers_and_actions_and_a_later_one_takes_its_place(torc: Torc) -> None:
    wf = pipeline(torc)
    told = keep(torc, wf)
    assert (told.num_schedulers, told.num_actions, told.num_jobs_bound) == (3, 3, 6)
    assert planned_actions(torc, wf) == [
        ("on_workflow_start", "", 2),
        ("on_jobs_ready", "g0", 2),
        ("on_jobs_ready", "r", 2),
    ]
    assert {name: job.scheduler for name, job in jobs(torc, wf).items()} == {
        "p": "s0",
        "g0": "s1",
        "g1": "s1",
        "g2": "s1",
        "g3": "s1",
        "r": "s2",
    }
    assert all(found.fields["planned"] for found in torc.send(ListSlurmSchedulers(workflow_id=wf)).items)
    assert demand(torc, wf).num_schedulers == demand(torc, wf).num_schedule_nodes == 0
    keep(torc, wf, bind=False)
    assert len(planned_actions(torc, wf)) == 3
    assert {job.scheduler for job in jobs(torc, wf).values()} == {None}
    assert torc.send(CheckWorkflow(workflow_id=wf)) == []
    last = torc.send(ListEvents(workflow_id=wf, newest_first=True, limit=1)).items[0]
    assert last.type == "allocations_planned"


def test_in_the_middle_of_a_run_jobs_that_are_ready_make_their_allocations_due_at_once(torc: Torc) -> None:
    wf = pipeline(torc)
    finish(torc, wf, "p")
    keep(torc, wf, bind=False)
    assert [action[:2] for action in planned_actions(torc, wf)] == [("on_jobs_ready", "g0"), ("on_jobs_ready", "r")]
    finish(torc, wf, "g0", "g1", "g2", "g3")
    assert states(torc, wf).endswith("r:ready")


def test_a_plan_for_another_state_is_refused(torc: Torc) -> None:
    wf = pipeline(torc)
    mark = demand(torc, wf).mark
    finish(torc, wf, "p")
    with pytest.raises(Conflict, match="has changed since"):
        keep(torc, wf, mark=mark)
    assert torc.send(ListSlurmSchedulers(workflow_id=wf)).items == []


def test_what_no_spec_could_have_is_refused(torc: Torc) -> None:
    wf = pipeline(torc)
    (cell, *_) = demand(torc, wf).cells
    key = (cell.stage, cell.requirement_id)
    for fields, name, said in (
        ({"walltime": "soon"}, "x", "walltime"),
        ({"color": "red"}, "x", "color"),
        ({}, "a\nb", "name"),
    ):
        planned = PlannedScheduler(name=name, fields=fields, cells=[key], trigger=[key])
        with pytest.raises(Invalid, match=said):
            torc.send(SetAllocationPlan(workflow_id=wf, schedulers=[planned]))
    twice = [PlannedScheduler(name="x", fields={}, cells=[key], trigger=[key])] * 2
    with pytest.raises(Invalid, match="one name"):
        torc.send(SetAllocationPlan(workflow_id=wf, schedulers=twice))
    nothing = PlannedScheduler(
        name="x", fields={}, cells=[(7, cell.requirement_id)], trigger=[(7, cell.requirement_id)]
    )
    with pytest.raises(Invalid, match="no job that is left"):
        torc.send(SetAllocationPlan(workflow_id=wf, schedulers=[nothing]))


def test_schedulers_and_actions_of_the_spec_are_told_and_stay(torc: Torc) -> None:
    wf = pipeline(
        torc,
        slurm_schedulers=[{"name": "mine", "account": "a"}],
        actions=[
            {
                "trigger_type": "on_workflow_start",
                "action_type": "schedule_nodes",
                "scheduler": "mine",
                "scheduler_type": "slurm",
            },
            {"trigger_type": "on_jobs_ready", "action_type": "schedule_nodes", "jobs": ["r"], "scheduler": "mine"},
        ],
    )
    assert (demand(torc, wf).num_schedulers, demand(torc, wf).num_schedule_nodes) == (1, 2)
    finish(torc, wf, "p")
    keep(torc, wf, bind=False)
    assert {found.name for found in torc.send(ListSlurmSchedulers(workflow_id=wf)).items} == {"mine", "s0", "s1"}
    finish(torc, wf, "g0", "g1", "g2", "g3")
    finish(torc, wf, "r")
    assert get(torc, wf).state == "completed"


def test_jobs_that_become_ready_one_by_one_are_given_allocations_in_turn(torc: Torc) -> None:
    wf = create(
        torc,
        {
            "name": "chains",
            "jobs": [
                job
                for at in range(4)
                for job in (
                    {"name": f"a{at}", "command": "true"},
                    {"name": f"b{at}", "command": "true", "depends_on": [f"a{at}"]},
                )
            ],
        },
    ).id
    keep(torc, wf)
    assert planned_actions(torc, wf) == [
        ("on_workflow_start", "", 2),
        ("on_jobs_ready", "b0,b1", 1),
        ("on_jobs_ready", "b2,b3", 1),
    ]


def test_stages_are_kept_with_gates_and_summed_up(torc: Torc) -> None:
    wf = pipeline(torc)
    found = torc.send(GetStages(workflow_id=wf))
    names = {each.requirement_id: each.name for each in found.classes}
    assert found.cells is not None
    assert [(cell.stage, names[cell.requirement_id], cell.num_jobs) for cell in found.cells] == [
        (0, "small", 1),
        (1, "gpu", 4),
        (2, "small", 1),
    ]
    assert [job.job_name for job in found.path] == ["p", "g0", "r"]
    torc.send(CreateJob(workflow_id=wf, name="after", command="true", depends_on=["r"]))
    finish(torc, wf, "p")
    found = torc.send(GetStages(workflow_id=wf))
    assert found.cells is not None
    assert [(cell.stage, cell.num_jobs) for cell in found.cells] == [(1, 4), (2, 1), (3, 1)]
    assert (found.num_finished, [job.job_name for job in found.path]) == (1, ["g0", "r", "after"])


def test_costs_are_shares_of_a_node_for_as_long_as_likes_took(torc: Torc) -> None:
    classes = [{"name": "half", "num_cpus": 2, "memory": "1g", "runtime": "PT1H"}]
    jobs = [{"name": f"j{at}", "command": "true", "resource_requirements": "half"} for at in range(5)]
    wf = create(torc, {"name": "w", "jobs": jobs, "resource_requirements": classes}).id
    node = NodeCapacity(num_cpus=4, memory_bytes=64 << 30, num_gpus=0)

    def cost(**fields: Any) -> float:
        return torc.send(EstimateCost(workflow_id=wf, **fields)).node_hours

    assert cost() == 5.0, "no node is known: one each"
    assert cost(node=node) == 2.5
    assert cost(node=node, job_ids=[]) == 0.0
    number = runner(torc, wf)
    given = exchange(torc, wf, number, limit=3).assignments
    finished = [ended(item).model_copy(update={"wall_seconds": 360.0}) for item in given]
    exchange(torc, wf, number, finished=finished, stopping=True)
    assert cost(node=node) == pytest.approx(2 * 0.1 / 2)
    assert cost(node=node, job_ids=[given[0].job_id]) == pytest.approx(0.1 / 2)
