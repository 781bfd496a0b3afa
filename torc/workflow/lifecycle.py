"""Whether a workflow as a whole lets its jobs start. Not for what single jobs wait for: states, gates and packing decide that."""

from __future__ import annotations

from typing import Any, Literal, Protocol

StartBlock = Literal["archived", "canceled"]


class WorkflowFlags(Protocol):
    """`is_archived` and `is_canceled` of a workflow, as a row has them."""

    def __getitem__(self, name: str, /) -> Any: ...


def start_block(workflow: WorkflowFlags) -> StartBlock | None:
    """Return what keeps all jobs of a workflow from starting, or None."""
    if workflow["is_archived"]:
        return "archived"
    return "canceled" if workflow["is_canceled"] else None


def may_start_jobs(workflow: WorkflowFlags) -> bool:
    """Return whether runners may receive jobs of a workflow and allocations may be requested for it."""
    return start_block(workflow) is None
