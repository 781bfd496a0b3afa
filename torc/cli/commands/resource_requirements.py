"""`torc resource-requirements`: the classes of resources that jobs ask for."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api import data as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.named_objects import Limit, Name, OnlyName, Workflow, asked, created, deleted, listed
from torc.cli.options.amounts import memory_bytes, seconds
from torc.units import format_duration, format_memory, human_duration
from torc.workflow.resources import DEFAULT_MEMORY_BYTES, DEFAULT_RUNTIME_SECONDS

requirements = App("Classes of resources that jobs request.")
_COLUMNS = [
    *rendering.columns("id", "name", "num_cpus", "num_gpus", "num_nodes"),
    ("memory", lambda r: rendering.memory(r.memory_bytes)),
    ("runtime", lambda r: human_duration(r.runtime_seconds)),
]


@requirements.command("list")
def list_requirements(workflow: Which = None, name: OnlyName = None, limit: Limit = 1000) -> None:
    """List the requirement classes of a workflow.

    Example: torc resource-requirements list 3
    """
    listed(
        lambda w, n, c: api.ListRequirements(workflow_id=w, name=name, limit=n, cursor=c),
        workflow,
        limit,
        _COLUMNS,
    )


@requirements.command("get")
def get_requirement(requirement_id: int) -> None:
    """Show one requirement class.

    Example: torc resource-requirements get 2
    """
    asked(api.GetRequirement(requirement_id=requirement_id), [*_COLUMNS, *rendering.columns("num_jobs")])


@requirements.command("create")
def create_requirement(
    workflow: Workflow,
    name: Name,
    num_cpus: Annotated[int, typer.Option("--num-cpus", min=1)] = 1,
    num_gpus: Annotated[int, typer.Option("--num-gpus", min=0)] = 0,
    num_nodes: Annotated[int, typer.Option("--num-nodes", min=1)] = 1,
    memory: Annotated[str, typer.Option("--memory")] = format_memory(DEFAULT_MEMORY_BYTES),
    runtime: Annotated[str, typer.Option("--runtime")] = format_duration(DEFAULT_RUNTIME_SECONDS),
) -> None:
    """Add a requirement class.

    Example: torc resource-requirements create 3 --name large --num-cpus 8 --memory 32g
    """
    created(
        lambda w: api.CreateRequirement(
            workflow_id=w,
            name=name,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            num_nodes=num_nodes,
            memory_bytes=memory_bytes(memory, "--memory") or 1,
            runtime_seconds=seconds(runtime, "--runtime") or 1,
        ),
        workflow,
        _COLUMNS,
    )


@requirements.command("update")
def update_requirement(
    requirement_id: int,
    num_cpus: Annotated[int | None, typer.Option("--num-cpus", min=1)] = None,
    num_gpus: Annotated[int | None, typer.Option("--num-gpus", min=0)] = None,
    num_nodes: Annotated[int | None, typer.Option("--num-nodes", min=1)] = None,
    memory: Annotated[str | None, typer.Option("--memory")] = None,
    runtime: Annotated[str | None, typer.Option("--runtime")] = None,
) -> None:
    """Change a requirement class for all jobs that use it.

    Example: torc resource-requirements update 2 --memory 4g
    """
    request = api.UpdateRequirement(
        requirement_id=requirement_id,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        num_nodes=num_nodes,
        memory_bytes=memory_bytes(memory, "--memory"),
        runtime_seconds=seconds(runtime, "--runtime"),
    )
    asked(request, _COLUMNS)


@requirements.command("delete")
def delete_requirement(requirement_id: int) -> None:
    """Delete a requirement class that no job uses.

    Example: torc resource-requirements delete 2
    """
    deleted(api.DeleteRequirement(requirement_id=requirement_id), f"resource requirement {requirement_id}")
