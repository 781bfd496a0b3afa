"""Node-hours: what allocations have cost, by workflow and by user."""

from __future__ import annotations

from pydantic import Field

from torc.api.base import Request, Value, request


class Sums(Value):
    """What some allocations have cost. A node counts from the start of its allocation to the end, whether it worked or not."""

    num_allocations: int = 0
    num_active: int = Field(0, description="that have not ended: their nodes count up to when they were last seen")
    node_seconds_used: float = 0.0
    node_seconds_wasted: float = Field(
        0.0, description="of these, those in which a node ran no job; known of allocations that ended"
    )
    gpu_node_seconds_used: float = Field(0.0, description="of these, those of nodes with GPUs")


class WorkflowUsage(Sums):
    """What the allocations of a workflow have cost."""

    workflow_id: int
    name: str
    user: str


class UserUsage(Sums):
    """What the allocations of a user's workflows have cost."""

    user: str
    num_workflows: int


class Usage(Value):
    """What allocations have cost, the dearest first."""

    workflows: list[WorkflowUsage]
    users: list[UserUsage]
    total: Sums


@request("GET", "/usage")
class GetUsage(Request[Usage]):
    """Sum up what allocations have cost, of a workflow or of all that you can see."""

    workflow_id: int | None = None
    since: float | None = Field(None, description="only allocations that were asked for since then")
