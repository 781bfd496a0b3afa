"""Plans kept with stored workflows: made anew for what is left, in the size that it has by then."""

from __future__ import annotations

from tests.schedulers.test_allocation_planning import CLUSTER
from tests.support.workflows import finish, workflow
from torc.api.allocations import ListDueScheduling
from torc.api.base import Torc
from torc.api.data import ListRequirements, UpdateRequirement
from torc.api.runs import StartRun
from torc.schedulers.allocation_planning import AllocationPlanOptions, plan
from torc.schedulers.partition_choice import PartitionWishes
from torc.schedulers.slurm.backend import SlurmBackend
from torc.schedulers.workflow_plans import keep, kept_options, left_of, options_before, plan_again

GIB = 1 << 30


def test_what_is_left_is_planned_anew_in_its_present_size(torc: Torc) -> None:
    small = {"name": "small", "num_cpus": 100, "memory": "1g"}
    wf = workflow(
        torc, "a -> b c", resource_requirements=[small], jobs={n: {"resource_requirements": "small"} for n in "abc"}
    )
    assert options_before(torc, wf) is None
    options = AllocationPlanOptions(wishes=PartitionWishes(account="climate", qos="high"))
    left = left_of(torc, wf)
    keep(torc, left, plan(left.demand, CLUSTER, options), SlurmBackend(), CLUSTER, options)
    torc.send(StartRun(workflow_id=wf))
    (first,) = torc.send(ListDueScheduling(workflow_id=wf))
    assert (first.scheduler, first.num_allocations, first.fields["account"]) == ("small", 1, "climate")
    finish(torc, wf, "a")
    assert [due.scheduler for due in torc.send(ListDueScheduling(workflow_id=wf))] == ["small", "small_stage_2"]
    (requirement,) = torc.send(ListRequirements(workflow_id=wf)).items
    torc.send(UpdateRequirement(requirement_id=requirement.id, memory_bytes=500 * GIB))
    before = options_before(torc, wf)
    assert before == options
    made = plan_again(torc, wf, SlurmBackend(), CLUSTER, before)
    (planned,) = made.allocations
    assert (planned.partition, planned.num_jobs) == ("bigmem", 2)
    (due,) = torc.send(ListDueScheduling(workflow_id=wf))
    assert (due.fields["partition"], due.num_allocations, due.trigger_type) == ("bigmem", 2, "on_jobs_ready")


def test_planning_anew_keeps_what_was_chosen_and_takes_what_is_given_now(torc: Torc) -> None:
    wf = workflow(torc, "a -> b")
    wishes = PartitionWishes(partitions=("short", "bigmem"), account="climate", qos="high", gpu_type="h100")
    options = AllocationPlanOptions(wishes, "partition", "max-partition-time", walltime_multiplier=2.0, max_nodes=3)
    left = left_of(torc, wf)
    keep(torc, left, plan(left.demand, CLUSTER, options), SlurmBackend(), CLUSTER, options)
    torc.send(StartRun(workflow_id=wf))
    finish(torc, wf, "a")
    before = options_before(torc, wf)
    assert before == options
    (planned,) = plan_again(torc, wf, SlurmBackend(), CLUSTER, before).allocations
    assert (planned.name, planned.partition, planned.walltime_seconds) == ("short", "short", 4 * 3600)
    assert options_before(torc, wf) == options, "the plan after this one, too"
    given = {"walltime_multiplier": 3.0, "num_allocations": 2, "qos": None, "partitions": ("bigmem",)}
    more = kept_options(options, given)
    assert (more.walltime_multiplier, more.group_by, more.num_allocations) == (3.0, "partition", 2)
    assert more.wishes == PartitionWishes(partitions=("bigmem",), account="climate", qos="high", gpu_type="h100")
    one = kept_options(more, {"single_allocation": True})
    assert (one.single_allocation, one.num_allocations) == (True, None)
    many = kept_options(more, {"single_allocation": False})
    assert (many.single_allocation, many.num_allocations) == (False, None)
