"""Allocations of a cluster, in which runners work: recorded before they are submitted, and followed until they end.

The store keeps what was observed about them; clusters are queried by `torc.schedulers`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from torc.api.base import MEDIUM, Page, Request, Value, request
from torc.planning.allocations import AllocationState, Source


class NewAllocation(Value):
    """An allocation to be requested."""

    name: str = Field(max_length=200)
    scheduler: str | None = Field(None, description="the workflow's Slurm scheduler from which it was made")
    num_nodes: int = Field(1, ge=1)
    walltime_seconds: int = Field(ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus_per_node: int | None = None
    memory_bytes_per_node: int | None = None
    gpus_per_node: int = 0
    request: dict[str, Any] = Field({}, description="the complete request, for submitting it again")


class Allocation(NewAllocation):
    """An allocation and what was observed about it."""

    id: int
    workflow_id: int
    run_id: int
    mark: str = Field(
        description="unique name, by which an allocation is found in the cluster if its submission was not reported"
    )
    firing_id: int | None = Field(None, description="the firing of an action that requested it")
    cluster: str | None = None
    cluster_job_id: str | None = None
    state: AllocationState
    cluster_state: str | None = Field(None, description="the state in the cluster's terms")
    reason: str | None = Field(None, description="why it is pending, or how it ended, in the cluster's terms")
    nodes: list[str] = []
    created_at: float
    submitted_at: float | None = None
    expected_start_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seen_at: float | None = Field(None, description="when the cluster last reported on it")
    cancel_requested_at: float | None = None
    exit_code: str | None = Field(None, description="as in the accounting: code:signal")
    restarts: int = 0
    num_runners: int = Field(0, description="runners that have registered from it")
    node_seconds_used: float = 0.0
    node_seconds_wasted: float | None = Field(
        None, description="of these, the time in which a node ran no job; known after the end"
    )


@request("POST", "/workflows/{workflow_id}/allocations", access="run", largest_body=MEDIUM)
class RecordAllocations(Request[list[Allocation]]):
    """Record allocations that will be submitted. With a firing, only if it is still due, and then it is done: otherwise none."""

    workflow_id: int
    allocations: list[NewAllocation] = Field(min_length=1, max_length=10_000)
    firing_id: int | None = None


class DueScheduling(Value):
    """A due action that requests allocations."""

    firing_id: int
    action_id: int
    trigger_type: str
    scheduler: str | None = None
    fields: dict[str, Any] = Field({}, description="of the Slurm scheduler, as in a spec")
    num_allocations: int = 1
    settings: dict[str, Any] = Field({}, description="of the action")
    defaults: dict[str, Any] = Field({}, description="slurm_defaults of the workflow")
    job_name: str = Field("", description="shown to people in the queue")


@request("GET", "/workflows/{workflow_id}/due-scheduling")
class ListDueScheduling(Request[list[DueScheduling]]):
    """List the schedule_nodes actions that are due. RecordAllocations with the firing takes one, exactly once."""

    workflow_id: int


class Submission(Value):
    """The result of requesting an allocation: the cluster's job id, or why it was refused or deferred."""

    allocation_id: int
    cluster_job_id: str | None = None
    cluster: str | None = None
    error: str | None = None
    deferred: str | None = Field(None, description="why the cluster did not accept it now: it will be submitted again")


@request("POST", "/workflows/{workflow_id}/allocations/submitted", access="run", largest_body=MEDIUM)
class ReportSubmissions(Request[list[Allocation]]):
    """Report the results of requesting allocations. May be repeated; obey a mark to cancel in the reply.

    If two clients submit the same allocation, the first report counts: the other finds a different id in the reply and cancels its own.
    """

    workflow_id: int
    submissions: list[Submission] = Field(min_length=1, max_length=10_000)


class AllocationObservation(Value):
    """What the cluster reports about an allocation."""

    allocation_id: int
    source: Source = "queue"
    cluster_state: str
    cluster_job_id: str | None = Field(None, description="if it was found by its mark")
    reason: str | None = None
    nodes: list[str] = []
    started_at: float | None = None
    ended_at: float | None = None
    expected_start_at: float | None = None
    exit_code: str | None = None
    restarts: int | None = None


class Observed(Value):
    """What the observations changed."""

    changed: list[Allocation]
    runners_ended: int = 0
    jobs_lost: int = Field(0, description="jobs that were running or claimed in allocations that ended")


@request("POST", "/workflows/{workflow_id}/allocations/observed", access="run", largest_body=MEDIUM)
class ObserveAllocations(Request[Observed]):
    """Report what the cluster says about many allocations.

    Runners of ended allocations are ended, and their jobs are reported as the cluster reported them. `silent` lists allocations that
    neither queue nor accounting mentioned although both answered; by itself that has no effect for a long time.
    """

    workflow_id: int
    observations: list[AllocationObservation] = Field([], max_length=100_000)
    silent: list[int] = Field([], max_length=100_000)


@request("POST", "/workflows/{workflow_id}/allocations/cancel", access="run", largest_body=MEDIUM)
class CancelAllocations(Request[list[Allocation]]):
    """Mark allocations to be cancelled; return those that must be cancelled in the cluster now.

    An allocation that is recorded but not submitted yet is cancelled by the client that submits it.
    """

    workflow_id: int
    allocation_ids: list[int] | None = Field(None, description="default: all that have not ended")
    queued_only: bool = Field(False, description="only pending ones")


@request("GET", "/allocations")
class ListAllocations(Request[Page[Allocation]]):
    """List allocations of a workflow, or of all visible workflows, newest first."""

    workflow_id: int | None = None
    active_only: bool = Field(False, description="only allocations that have not ended")
    to_follow: bool = Field(
        False, description="only allocations that have not ended, or have just ended and are not in the accounting yet"
    )
    limit: int = Field(1000, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/allocations/{allocation_id}")
class GetAllocation(Request[Allocation]):
    """Get one allocation."""

    allocation_id: int


class WaitingJobs(Value):
    """Ready jobs with equal requests and the same scheduler."""

    scheduler: str | None = Field(None, description="only its runners may take them")
    requirement: str
    supports_termination: bool = Field(False, description="they save their work and resume in the next allocation")
    num_jobs: int
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int
    runtime_seconds: int


@request("GET", "/workflows/{workflow_id}/waiting-jobs")
class ListWaitingJobs(Request[list[WaitingJobs]]):
    """Count the ready jobs by request and scheduler: the work for further allocations."""

    workflow_id: int


class FailedNode(Value):
    """A node that failed in allocations of a workflow."""

    node: str
    num_failures: int
    last_failed_at: float
    is_excluded: bool = Field(description="new allocations of the workflow should avoid it")


@request("GET", "/workflows/{workflow_id}/failed-nodes")
class ListFailedNodes(Request[list[FailedNode]]):
    """List the nodes that failed in allocations of a workflow."""

    workflow_id: int
