"""Allocations of a cluster, in which runners live: recorded before they are asked for, followed to their end.

The store keeps what was seen of them. Who asks a cluster is `torc.schedulers`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from torc.api.base import MEDIUM, Page, Request, Value, request
from torc.planning.allocations import AllocationState, Source


class NewAllocation(Value):
    """What is going to be asked for."""

    name: str = Field(max_length=200)
    scheduler: str | None = Field(None, description="the Slurm scheduler of the workflow that it was made from")
    num_nodes: int = Field(1, ge=1)
    walltime_seconds: int = Field(ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus_per_node: int | None = None
    memory_bytes_per_node: int | None = None
    gpus_per_node: int = 0
    request: dict[str, Any] = Field({}, description="all that is asked for, for asking again")


class Allocation(NewAllocation):
    """An allocation and what was seen of it."""

    id: int
    workflow_id: int
    run_id: int
    mark: str = Field(description="unique name: by it the cluster finds what was submitted and not reported")
    firing_id: int | None = Field(None, description="the firing of an action that asked for it")
    cluster: str | None = None
    cluster_job_id: str | None = None
    state: AllocationState
    cluster_state: str | None = Field(None, description="the cluster's own word")
    reason: str | None = Field(None, description="why it waits, or how it ended, in the cluster's words")
    nodes: list[str] = []
    created_at: float
    submitted_at: float | None = None
    expected_start_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seen_at: float | None = Field(None, description="when the cluster last said something of it")
    cancel_requested_at: float | None = None
    exit_code: str | None = Field(None, description="as accounting gives it: code:signal")
    restarts: int = 0
    num_runners: int = Field(0, description="that ever registered from it")
    node_seconds_used: float = 0.0
    node_seconds_wasted: float | None = Field(
        None, description="of these, those in which a node ran no job; known at the end"
    )


@request("POST", "/workflows/{workflow_id}/allocations", access="run", largest_body=MEDIUM)
class RecordAllocations(Request[list[Allocation]]):
    """Record allocations that are going to be submitted. With a firing, only when it is due, and it is done then: else none."""

    workflow_id: int
    allocations: list[NewAllocation] = Field(min_length=1, max_length=10_000)
    firing_id: int | None = None


class DueScheduling(Value):
    """An action that asks for allocations, and is due."""

    firing_id: int
    action_id: int
    trigger_type: str
    scheduler: str | None = None
    fields: dict[str, Any] = Field({}, description="of the Slurm scheduler, as a spec has them")
    num_allocations: int = 1
    settings: dict[str, Any] = Field({}, description="of the action")
    defaults: dict[str, Any] = Field({}, description="slurm_defaults of the workflow")
    job_name: str = Field("", description="for people, in the queue")


@request("GET", "/workflows/{workflow_id}/due-scheduling")
class ListDueScheduling(Request[list[DueScheduling]]):
    """List the schedule_nodes actions that are due. RecordAllocations with the firing takes one, exactly once."""

    workflow_id: int


class Submission(Value):
    """What became of asking for an allocation: the cluster's id of it, why it was refused, or why it was put off."""

    allocation_id: int
    cluster_job_id: str | None = None
    cluster: str | None = None
    error: str | None = None
    deferred: str | None = Field(None, description="why the cluster would not have it now: it is to be asked again")


@request("POST", "/workflows/{workflow_id}/allocations/submitted", access="run", largest_body=MEDIUM)
class ReportSubmissions(Request[list[Allocation]]):
    """Report what became of asking for allocations. Repeating it is harmless; a mark to cancel in the reply is to be heeded.

    Of two that submitted the same, the first one counts: the other finds another id in the reply, and cancels its own.
    """

    workflow_id: int
    submissions: list[Submission] = Field(min_length=1, max_length=10_000)


class AllocationObservation(Value):
    """What the cluster says of an allocation."""

    allocation_id: int
    source: Source = "queue"
    cluster_state: str
    cluster_job_id: str | None = Field(None, description="where it was found by its mark")
    reason: str | None = None
    nodes: list[str] = []
    started_at: float | None = None
    ended_at: float | None = None
    expected_start_at: float | None = None
    exit_code: str | None = None
    restarts: int | None = None


class Observed(Value):
    """What observations have changed."""

    changed: list[Allocation]
    runners_ended: int = 0
    jobs_lost: int = Field(0, description="that ran, or were about to, in allocations that ended")


@request("POST", "/workflows/{workflow_id}/allocations/observed", access="run", largest_body=MEDIUM)
class ObserveAllocations(Request[Observed]):
    """Report what the cluster says of many allocations.

    Runners of allocations that ended are ended, and what they ran is told as the cluster tells it. `silent` names those that
    neither queue nor accounting spoke of although both answered: that alone changes nothing for a long time.
    """

    workflow_id: int
    observations: list[AllocationObservation] = Field([], max_length=100_000)
    silent: list[int] = Field([], max_length=100_000)


@request("POST", "/workflows/{workflow_id}/allocations/cancel", access="run", largest_body=MEDIUM)
class CancelAllocations(Request[list[Allocation]]):
    """Mark allocations to be cancelled; gives those that the cluster is to be told of now.

    One that was recorded and not submitted is given to whoever submits it.
    """

    workflow_id: int
    allocation_ids: list[int] | None = Field(None, description="default: all that have not ended")
    queued_only: bool = Field(False, description="leave those that run")


@request("GET", "/allocations")
class ListAllocations(Request[Page[Allocation]]):
    """List allocations, of a workflow or of all that you can see, newest first."""

    workflow_id: int | None = None
    active_only: bool = Field(False, description="those that have not ended")
    to_follow: bool = Field(
        False, description="those that have not ended, or ended just now and not in the accounting yet"
    )
    limit: int = Field(1000, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/allocations/{allocation_id}")
class GetAllocation(Request[Allocation]):
    """Get one allocation."""

    allocation_id: int


class WaitingJobs(Value):
    """Ready jobs that ask for the same and are for the same scheduler."""

    scheduler: str | None = Field(None, description="whose runners alone may take them")
    requirement: str
    supports_termination: bool = Field(False, description="they save their work, and go on in the next allocation")
    num_jobs: int
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int
    runtime_seconds: int


@request("GET", "/workflows/{workflow_id}/waiting-jobs")
class ListWaitingJobs(Request[list[WaitingJobs]]):
    """Count the ready jobs by what they ask for and for whom they are: what further allocations would run."""

    workflow_id: int


class FailedNode(Value):
    """A node that failed under allocations of a workflow."""

    node: str
    num_failures: int
    last_failed_at: float
    is_excluded: bool = Field(description="new allocations of the workflow should not get it")


@request("GET", "/workflows/{workflow_id}/failed-nodes")
class ListFailedNodes(Request[list[FailedNode]]):
    """List the nodes that failed under allocations of a workflow."""

    workflow_id: int
