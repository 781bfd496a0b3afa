"""Plans of allocations for stored workflows: made from what is left of them, and kept with them. Functions over a Torc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torc.api.base import Torc
from torc.api.data import ListSlurmSchedulers
from torc.api.planning import GetDemand, PlannedScheduler, SetAllocationPlan, StoredPlan
from torc.core.demand import Cell, Demand
from torc.core.resources import ResourceRequest
from torc.slurm.choosing import Wishes
from torc.slurm.cluster import Cluster
from torc.slurm.planning import Plan, PlanOptions, plan
from torc.slurm.schedulers import fields_of


class Left(NamedTuple):
    """What is left of a stored workflow. Classes are indexes in the demand; `ids` are those of the store."""

    workflow_id: int
    workflow_name: str
    demand: Demand
    ids: Sequence[int]
    mark: str
    num_schedulers: int  # of the spec, beside those that were planned
    num_schedule_nodes: int  # actions of the spec that submit allocations


def left_of(torc: Torc, workflow_id: int) -> Left:
    """Ask what is left of a workflow."""
    found = torc.send(GetDemand(workflow_id=workflow_id))
    at = {each.requirement_id: number for number, each in enumerate(found.classes)}
    demand = Demand(
        names=tuple(each.name for each in found.classes),
        requests=tuple(
            ResourceRequest(each.num_cpus, each.num_gpus, each.num_nodes, each.memory_bytes, each.runtime_seconds)
            for each in found.classes
        ),
        cells=tuple(Cell(cell.stage, at[cell.requirement_id], cell.num_jobs) for cell in found.cells),
    )
    return Left(
        found.workflow_id, found.workflow_name, demand, [each.requirement_id for each in found.classes], found.mark,
        found.num_schedulers, found.num_schedule_nodes,
    )  # fmt: skip


def keep(torc: Torc, left: Left, made: Plan, cluster: Cluster, options: PlanOptions) -> StoredPlan:
    """Keep a plan with its workflow: allocations that are due are submitted by whoever follows. Raises Conflict when it is stale."""

    def cells(chosen: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(stage, left.ids[requirement]) for stage, requirement in chosen]

    schedulers = [
        PlannedScheduler(
            name=planned.name,
            fields=fields_of(planned, cluster, options),
            num_allocations=planned.num_allocations,
            cells=cells([(cell.stage, cell.requirement) for cell in planned.cells]),
            trigger=cells(planned.trigger),
        )
        for planned in made.allocations
    ]
    return torc.send(
        SetAllocationPlan(workflow_id=left.workflow_id, schedulers=schedulers, bind=made.binds, mark=left.mark)
    )


def plan_again(torc: Torc, workflow_id: int, cluster: Cluster, options: PlanOptions) -> Plan:
    """Plan what is left of a workflow, and keep that; what cannot run anywhere is left out, and told in the plan."""
    left = left_of(torc, workflow_id)
    made = plan(left.demand, cluster, options, taken=names_taken(torc, workflow_id))
    if made.allocations:
        keep(torc, left, made, cluster, options)
    return made


def names_taken(torc: Torc, workflow_id: int) -> frozenset[str]:
    """Give the names that schedulers of the spec have."""
    found = torc.send(ListSlurmSchedulers(workflow_id=workflow_id, limit=10_000)).items
    return frozenset(item.name for item in found if not item.fields.get("planned"))


def options_before(torc: Torc, workflow_id: int) -> PlanOptions | None:
    """Give the options of a workflow's last plan, as far as they are known of it; None: it was not planned."""
    found = torc.send(ListSlurmSchedulers(workflow_id=workflow_id, limit=10_000)).items
    planned = [item.fields for item in found if item.fields.get("planned")]
    if not planned:
        return None
    first = planned[0]
    return PlanOptions(
        wishes=Wishes(account=first.get("account"), qos=first.get("qos"), constraint=first.get("constraint"))
    )
