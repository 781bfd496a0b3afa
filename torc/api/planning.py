"""Planning of allocations: what is left of a workflow in sums, and the plan that is kept with it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from torc.api.base import MEDIUM, Request, Value, request
from torc.api.runs import NodeCapacity
from torc.planning.scheduler_types import DEFAULT_TYPE, SchedulerName


class DemandClass(Value):
    """A requirement class."""

    requirement_id: int
    name: str
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int
    runtime_seconds: int


class DemandCell(Value):
    """The jobs of one class in one stage; stage 0 waits for nothing that has not finished."""

    stage: int
    requirement_id: int
    num_jobs: int


class WorkflowDemand(Value):
    """What is left to do of a workflow, in sums."""

    workflow_id: int
    workflow_name: str
    mark: str = Field(
        description="tells the state that this was made from: give it back to have no other one planned for"
    )
    classes: list[DemandClass]
    cells: list[DemandCell] = Field(description="in order of stage, then class")
    num_schedulers: int = Field(description="Slurm schedulers that the spec has, beside those that were planned")
    num_schedule_nodes: int = Field(description="its actions that submit allocations of those")


@request("GET", "/workflows/{workflow_id}/demand")
class GetDemand(Request[WorkflowDemand]):
    """Get what is left to do of a workflow in sums: how many jobs of which class how far from now. Plans are made from it."""

    workflow_id: int


class StageCell(Value):
    """The jobs of one class in one stage that have not finished."""

    stage: int
    requirement_id: int
    num_jobs: int


class PathJob(Value):
    """A job of a chain."""

    job_id: int
    job_name: str
    runtime_seconds: int


class WorkflowStages(Value):
    """The jobs of a workflow that have not finished, in sums."""

    workflow_id: int
    workflow_name: str
    num_finished: int
    classes: list[DemandClass] = Field(description="those with jobs that have not finished")
    by_class: dict[int, int] = Field(description="class -> its jobs that have not finished")
    cells: list[StageCell] | None = Field(
        description="in order of stage, then class; null: the stages of this workflow are not kept, see its graph"
    )
    path: list[PathJob] = Field(
        description="a long chain of jobs that wait for each other, not always the longest; empty: too many stages"
    )


@request("GET", "/workflows/{workflow_id}/stages")
class GetStages(Request[WorkflowStages]):
    """Get the jobs that have not finished in sums: how many of which class how far from the beginning."""

    workflow_id: int


class EstimatedCost(Value):
    """What jobs are expected to take."""

    node_hours: float = Field(description="by the share of a node that each asks for")


@request("POST", "/workflows/{workflow_id}/cost", access="read", largest_body=MEDIUM)
class EstimateCost(Request[EstimatedCost]):
    """Estimate what jobs of a workflow will take: as long as their likes took, where enough have completed, else their limit.

    Recoveries are priced in the same way.
    """

    workflow_id: int
    job_ids: list[int] | None = Field(
        None, max_length=100_000, description="these, whatever their states; null: all that have not finished"
    )
    node: NodeCapacity | None = Field(None, description="that they run on; null: the largest that was ever there")


EstimateCost.writes = False  # a question, too long for a query


class PlannedScheduler(Value):
    """Allocations of one kind, the jobs that they are for, and those that make them due."""

    name: str
    fields: dict[str, Any] = Field(description="as a spec has them for a scheduler of this type")
    num_allocations: int = Field(1, ge=1, le=100_000)
    cells: list[tuple[int, int]] = Field(
        min_length=1, description="(stage, requirement_id) of the jobs that they are for"
    )
    trigger: list[tuple[int, int]] = Field(
        min_length=1, description="(stage, requirement_id) of the jobs that make them due once they are ready"
    )
    max_parallel_jobs: int | None = Field(None, ge=1)


class StoredPlan(Value):
    """What a plan became."""

    num_schedulers: int
    num_actions: int
    num_jobs_bound: int


@request("PUT", "/workflows/{workflow_id}/allocation-plan", access="write")
class SetAllocationPlan(Request[StoredPlan]):
    """Keep a plan of allocations with a workflow: Slurm schedulers, and actions that submit them when their jobs are ready.

    An earlier plan is replaced; schedulers and actions of the spec stay, but those of its actions that would submit allocations for
    jobs that are left do not. Refused (`conflict`) when the workflow is not as `mark` says.
    """

    workflow_id: int
    schedulers: list[PlannedScheduler] = Field(min_length=1, max_length=10_000)
    bind: bool = Field(False, description="only these allocations run these jobs")
    mark: str | None = None
    scheduler_type: SchedulerName = Field(DEFAULT_TYPE.name, description="the batch scheduler that is asked for them")
