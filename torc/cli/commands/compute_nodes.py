"""`torc compute-nodes`: the runners of a workflow."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api.runs import GetRunner, ListRunners
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id

compute_nodes = App("The runners of a workflow.")
_COLUMNS = [
    *rendering.columns("id", "kind", "host", "pid"),
    ("active", rendering.attribute("is_active")),
    ("CPUs", lambda r: r.capacity.num_cpus),
    ("memory", lambda r: rendering.memory(r.capacity.memory_bytes)),
    ("GPUs", lambda r: r.capacity.num_gpus),
    ("completed", rendering.attribute("num_completed")),
    ("failed", rendering.attribute("num_failed")),
    ("started", lambda r: rendering.when(r.started_at)),
    ("ended", lambda r: rendering.when(r.ended_at)),
    ("why", rendering.attribute("end_reason")),
]


@compute_nodes.command("list")
def list_compute_nodes(
    workflow: Which = None, active: Annotated[bool, typer.Option("--active", help="Only active runners.")] = False
) -> None:
    """List the runners of a workflow, newest first.

    Example: torc compute-nodes list 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        page = opened.send(ListRunners(workflow_id=number, active_only=active, limit=10_000))
    rendering.show_list(page.items, _COLUMNS, empty="no runners")


@compute_nodes.command("get")
def get_compute_node(runner_id: int) -> None:
    """Show one runner.

    Example: torc compute-nodes get 2
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(GetRunner(runner_id=runner_id)), _COLUMNS)
