"""Completions: ids and names of workflows and jobs, for arguments of prompts and resource templates."""

from __future__ import annotations

from typing import Any

import anyio
from mcp.types import CompleteRequestParams, CompleteResult, Completion

from mcp_server.context import context
from mcp_server.formatting import plain
from mcp_server.prompts import MIGRATIONS
from mcp_server.tools.slurm import profile_names
from torc.api.jobs import ListJobs
from torc.api.workflows import ListWorkflows
from torc.workflow.states import State

_MOST = 100


async def complete(_ctx: Any, params: CompleteRequestParams) -> CompleteResult:
    """Return values for an argument."""
    offers = {
        "workflow_id": workflow_offers,
        "job_id": job_offers,
        "name": profile_names,
        "kind": lambda: list(MIGRATIONS),
    }
    name, begun = params.argument.name, params.argument.value.lower()
    found = await anyio.to_thread.run_sync(offers[name]) if name in offers else []
    matching = [offer for offer in found if offer.lower().startswith(begun)]
    return CompleteResult(
        completion=Completion(values=matching[:_MOST], total=len(matching), has_more=len(matching) > _MOST)
    )


def workflow_offers() -> list[str]:
    """Return ids and names of workflows, newest first, without names that cannot be shown unchanged."""
    found = context().torc.send(ListWorkflows(limit=200)).items
    return list(
        dict.fromkeys(
            [*(str(each.id) for each in found), *(each.name for each in found if plain(each.name) == each.name)]
        )
    )


def job_offers() -> list[str]:
    """Return ids of jobs in the newest workflow, failed ones first."""
    torc = context().torc
    found = torc.send(ListWorkflows(limit=1)).items
    if not found:
        return []
    failed = torc.send(ListJobs(workflow_id=found[0].id, state=State.FAILED, limit=_MOST)).items
    others = torc.send(ListJobs(workflow_id=found[0].id, limit=_MOST)).items
    return list(dict.fromkeys(str(job.id) for job in [*failed, *others]))
