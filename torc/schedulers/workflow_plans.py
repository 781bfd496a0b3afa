"""Plans of allocations for stored workflows: made from what is left of them, and kept with them. Functions over a Torc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torc.api.base import Torc
from torc.api.data import ListSchedulers, WorkflowScheduler
from torc.api.pagination import items_of
from torc.api.planning import GetDemand, PlannedScheduler, SetAllocationPlan, StoredPlan
from torc.planning.demand import Demand, StageDemand
from torc.schedulers.allocation_planning import AllocationPlan, AllocationPlanOptions, plan
from torc.schedulers.base import Scheduler
from torc.schedulers.partition_choice import PartitionWishes
from torc.schedulers.partitions import Cluster
from torc.workflow.resources import ResourceRequest

#: options of a plan beside the wishes for its partition
_CHOICES = ("group_by", "walltime_strategy", "walltime_multiplier", "single_allocation", "num_allocations", "max_nodes")
_WISHES = ("partitions", "account", "qos", "constraint", "gpu_type")


class RemainingWork(NamedTuple):
    """What is left of a stored workflow. Classes are indexes in the demand; `ids` are those of the store."""

    workflow_id: int
    workflow_name: str
    demand: Demand
    ids: Sequence[int]
    mark: str
    num_schedulers: int  # of the spec, beside those that were planned
    num_schedule_nodes: int  # actions of the spec that submit allocations


def left_of(torc: Torc, workflow_id: int) -> RemainingWork:
    """Ask what is left of a workflow."""
    found = torc.send(GetDemand(workflow_id=workflow_id))
    at = {each.requirement_id: number for number, each in enumerate(found.classes)}
    demand = Demand(
        names=tuple(each.name for each in found.classes),
        requests=tuple(ResourceRequest.of(each) for each in found.classes),
        cells=tuple(StageDemand(cell.stage, at[cell.requirement_id], cell.num_jobs) for cell in found.cells),
    )
    return RemainingWork(
        found.workflow_id,
        found.workflow_name,
        demand,
        [each.requirement_id for each in found.classes],
        found.mark,
        found.num_schedulers,
        found.num_schedule_nodes,
    )


def keep(
    torc: Torc,
    left: RemainingWork,
    made: AllocationPlan,
    scheduler: Scheduler,
    cluster: Cluster,
    options: AllocationPlanOptions,
) -> StoredPlan:
    """Keep a plan with its workflow: allocations that are due are submitted by whoever follows. Raises Conflict when it is stale."""

    def cells(chosen: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(stage, left.ids[requirement]) for stage, requirement in chosen]

    schedulers = [
        PlannedScheduler(
            name=planned.name,
            fields={**scheduler.fields_of(planned, cluster, options), **_choices(options)},
            num_allocations=planned.num_allocations,
            cells=cells([(cell.stage, cell.requirement) for cell in planned.cells]),
            trigger=cells(planned.trigger),
        )
        for planned in made.allocations
    ]
    return torc.send(
        SetAllocationPlan(
            workflow_id=left.workflow_id,
            schedulers=schedulers,
            bind=made.binds,
            mark=left.mark,
            scheduler_type=scheduler.type.name,
        )
    )


def plan_again(
    torc: Torc, workflow_id: int, scheduler: Scheduler, cluster: Cluster, options: AllocationPlanOptions
) -> AllocationPlan:
    """Plan what is left of a workflow, and keep that; what cannot run anywhere is left out, and told in the plan."""
    left = left_of(torc, workflow_id)
    made = plan(left.demand, cluster, options, taken=names_taken(torc, workflow_id))
    if made.allocations:
        keep(torc, left, made, scheduler, cluster, options)
    return made


def described(torc: Torc, workflow_id: int, scheduler: Scheduler | None = None) -> list[WorkflowScheduler]:
    """Return the allocations that a workflow describes, of one scheduler or of all."""
    found = items_of(torc, ListSchedulers(workflow_id=workflow_id, limit=10_000))
    return [item for item in found if scheduler is None or item.type == scheduler.type.name]


def names_taken(torc: Torc, workflow_id: int) -> frozenset[str]:
    """Return the names that schedulers of the spec have."""
    return frozenset(item.name for item in described(torc, workflow_id) if not item.fields.get("planned"))


def options_before(torc: Torc, workflow_id: int) -> AllocationPlanOptions | None:
    """Return the options of a workflow's last plan; None: it was not planned."""
    planned = [item.fields for item in described(torc, workflow_id) if item.fields.get("planned")]
    if not planned:
        return None
    return _options_of(planned[0])


def kept_options(before: AllocationPlanOptions | None, given: Mapping[str, Any]) -> AllocationPlanOptions:
    """Return the options of a further plan: what is given now (None: nothing), else what was chosen before."""
    before = before or AllocationPlanOptions()
    chosen = {name: value for name, value in given.items() if value is not None}
    wishes = replace(before.wishes, **{name: chosen.pop(name) for name in _WISHES if name in chosen})
    if "num_allocations" in chosen:
        chosen.setdefault("single_allocation", False)
    if "single_allocation" in chosen:
        chosen.setdefault("num_allocations", None)
    return replace(before, wishes=wishes, **chosen)


def _choices(options: AllocationPlanOptions) -> dict[str, Any]:
    """Write what was chosen that no scheduler says, for the next plan; nothing where that is the default."""
    plain = AllocationPlanOptions()
    chosen = {name: getattr(options, name) for name in _CHOICES if getattr(options, name) != getattr(plain, name)}
    if options.wishes.partitions:
        chosen["partitions"] = list(options.wishes.partitions)
    if options.wishes.gpu_type:
        chosen["gpu_type"] = options.wishes.gpu_type
    return {"plan_options": chosen} if chosen else {}


def _options_of(fields: Mapping[str, Any]) -> AllocationPlanOptions:
    chosen = dict(fields.get("plan_options") or {})
    wishes = PartitionWishes(
        partitions=tuple(chosen.pop("partitions", ())),
        account=fields.get("account"),
        qos=fields.get("qos"),
        constraint=fields.get("constraint"),
        gpu_type=chosen.pop("gpu_type", None),
    )
    return AllocationPlanOptions(wishes=wishes, **{name: chosen[name] for name in _CHOICES if name in chosen})
