"""Plans kept with stored workflows: made anew for what is left, in the size that it has by then."""

from __future__ import annotations

from tests.slurm.test_planning import CLUSTER
from tests.support.workflows import finish, workflow
from torc.api.allocations import ListDueScheduling
from torc.api.base import Torc
from torc.api.data import ListRequirements, UpdateRequirement
from torc.api.runs import StartRun
from torc.slurm.choosing import Wishes
from torc.slurm.planning import PlanOptions, plan
from torc.slurm.plans import keep, left_of, options_before, plan_again

GIB = 1 << 30


def test_what_is_left_is_planned_anew_in_its_present_size(torc: Torc) -> None:
    small = {"name": "small", "num_cpus": 100, "memory": "1g"}
    wf = workflow(
        torc, "a -> b c", resource_requirements=[small], jobs={n: {"resource_requirements": "small"} for n in "abc"}
    )
    assert options_before(torc, wf) is None
    options = PlanOptions(wishes=Wishes(account="climate", qos="high"))
    left = left_of(torc, wf)
    keep(torc, left, plan(left.demand, CLUSTER, options), CLUSTER, options)
    torc.send(StartRun(workflow_id=wf))
    (first,) = torc.send(ListDueScheduling(workflow_id=wf))
    assert (first.scheduler, first.num_allocations, first.fields["account"]) == ("small", 1, "climate")
    finish(torc, wf, "a")
    assert [due.scheduler for due in torc.send(ListDueScheduling(workflow_id=wf))] == ["small", "small_stage_2"]
    (requirement,) = torc.send(ListRequirements(workflow_id=wf)).items
    torc.send(UpdateRequirement(requirement_id=requirement.id, memory_bytes=500 * GIB))
    before = options_before(torc, wf)
    assert before == options
    made = plan_again(torc, wf, CLUSTER, before)
    (planned,) = made.allocations
    assert (planned.partition, planned.num_jobs) == ("bigmem", 2)
    (due,) = torc.send(ListDueScheduling(workflow_id=wf))
    assert (due.fields["partition"], due.num_allocations, due.trigger_type) == ("bigmem", 2, "on_jobs_ready")
