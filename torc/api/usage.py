"""Node-hours: the cost of allocations, by workflow and by user."""

from __future__ import annotations

from pydantic import Field

from torc.api.base import Request, Value, request


class Sums(Value):
    """The cost of some allocations. A node counts from the start of its allocation to the end, whether it worked or not."""

    num_allocations: int = 0
    num_active: int = Field(
        0, description="allocations that have not ended: their nodes count until they were last seen"
    )
    node_seconds_used: float = 0.0
    node_seconds_wasted: float = Field(
        0.0, description="of these, the time in which a node ran no job; known for ended allocations"
    )
    gpu_node_seconds_used: float = Field(0.0, description="of these, the time of nodes with GPUs")


class WorkflowUsage(Sums):
    """The cost of a workflow's allocations."""

    workflow_id: int
    name: str
    user: str


class UserUsage(Sums):
    """The cost of the allocations of a user's workflows."""

    user: str
    num_workflows: int


class AllocationUsage(Value):
    """The cost of allocations, highest first."""

    workflows: list[WorkflowUsage]
    users: list[UserUsage]
    total: Sums


@request("GET", "/usage")
class GetUsage(Request[AllocationUsage]):
    """Return the cost of the allocations of a workflow, or of all visible workflows."""

    workflow_id: int | None = None
    since: float | None = Field(None, description="only allocations requested since then")
