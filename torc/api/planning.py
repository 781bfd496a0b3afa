"""Planning of allocations: the remaining work of a workflow in sums, and the plan stored with it."""

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
    """The jobs of one class in one stage; stage 0 waits for nothing unfinished."""

    stage: int
    requirement_id: int
    num_jobs: int


class WorkflowDemand(Value):
    """The remaining work of a workflow, in sums."""

    workflow_id: int
    workflow_name: str
    mark: str = Field(
        description="identifies the state that this describes: send it with a plan to reject the plan if the state has changed"
    )
    classes: list[DemandClass]
    cells: list[DemandCell] = Field(description="in order of stage, then class")
    num_schedulers: int = Field(description="Slurm schedulers of the spec, without planned ones")
    num_schedule_nodes: int = Field(description="actions of the spec that submit allocations for those")


@request("GET", "/workflows/{workflow_id}/demand")
class GetDemand(Request[WorkflowDemand]):
    """Get the remaining work of a workflow in sums: the number of jobs of each class in each stage. Plans are made from it."""

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
    """The unfinished jobs of a workflow, in sums."""

    workflow_id: int
    workflow_name: str
    num_finished: int
    classes: list[DemandClass] = Field(description="those with unfinished jobs")
    by_class: dict[int, int] = Field(description="class -> number of its unfinished jobs")
    cells: list[StageCell] | None = Field(
        description="in order of stage, then class; null: stages are not stored for this workflow, use its graph"
    )
    path: list[PathJob] = Field(
        description="a long chain of dependent jobs, not necessarily the longest; empty: too many stages"
    )


@request("GET", "/workflows/{workflow_id}/stages")
class GetStages(Request[WorkflowStages]):
    """Get the unfinished jobs in sums: how many of each class, by stage."""

    workflow_id: int


class EstimatedCost(Value):
    """The expected cost of jobs."""

    node_hours: float = Field(description="by the share of a node that each requests")


@request("POST", "/workflows/{workflow_id}/cost", access="read", largest_body=MEDIUM)
class EstimateCost(Request[EstimatedCost]):
    """Estimate the cost of jobs of a workflow: their time is that of similar jobs if enough have completed, otherwise their limit.

    The cost of recoveries is estimated in the same way.
    """

    workflow_id: int
    job_ids: list[int] | None = Field(
        None, max_length=100_000, description="these jobs, whatever their states; null: all unfinished jobs"
    )
    node: NodeCapacity | None = Field(
        None, description="the node that they run on; null: the largest node that any runner had"
    )


EstimateCost.writes = False  # a query, but too long for a URL


class PlannedScheduler(Value):
    """Allocations of one kind, the jobs that they are for, and the jobs that trigger them."""

    name: str
    fields: dict[str, Any] = Field(description="as in a spec, for a scheduler of this type")
    num_allocations: int = Field(1, ge=1, le=100_000)
    cells: list[tuple[int, int]] = Field(min_length=1, description="(stage, requirement_id) of the jobs to run in them")
    trigger: list[tuple[int, int]] = Field(
        min_length=1, description="(stage, requirement_id) of the jobs that trigger them once they are ready"
    )
    max_parallel_jobs: int | None = Field(None, ge=1)


class StoredPlan(Value):
    """The objects created from a plan."""

    num_schedulers: int
    num_actions: int
    num_jobs_bound: int


@request("PUT", "/workflows/{workflow_id}/allocation-plan", access="write")
class SetAllocationPlan(Request[StoredPlan]):
    """Store a plan of allocations with a workflow: schedulers, and actions that submit them when their jobs are ready.

    It replaces an earlier plan. Schedulers and actions of the spec stay, except that those of its actions that would submit allocations
    for remaining jobs no longer do so. Refused (`conflict`) if the workflow is not in the state of `mark`.
    """

    workflow_id: int
    schedulers: list[PlannedScheduler] = Field(min_length=1, max_length=10_000)
    bind: bool = Field(False, description="these jobs run only in these allocations")
    mark: str | None = None
    scheduler_type: SchedulerName = Field(
        DEFAULT_TYPE.name, description="the batch scheduler that they are submitted to"
    )
