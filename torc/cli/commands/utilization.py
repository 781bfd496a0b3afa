"""`torc reports check-resource-utilization`: what jobs used against what they asked for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc.api.utilization import CheckUtilization, CorrectResources
from torc.cli import rendering
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.units import human_duration


def _amount(resource: str, value: float) -> str:
    if resource == "memory":
        return rendering.memory(int(value))
    return human_duration(max(1, int(value))) if resource == "runtime" else f"{value:.1f}"


def _above(asked: float, used: float) -> str:
    """Say how much more was used. Who is stopped at a limit is so a moment later: what it wanted, nobody knows."""
    percent = round(100 * (used / asked - 1))
    return f"{percent:,}%" if percent > 1 else "came up to it"


_EXCEEDED = [
    ("job", rendering.attribute("job_id")),
    ("name", rendering.attribute("job_name")),
    *rendering.columns("attempt"),
    ("class", rendering.attribute("requirement")),
    *rendering.columns("resource"),
    ("asked", lambda e: _amount(e.resource, e.asked)),
    ("used", lambda e: _amount(e.resource, e.used)),
    ("above by", lambda e: _above(e.asked, e.used)),
]
_CLASSES = [
    ("class", rendering.attribute("requirement")),
    ("attempts", rendering.attribute("num_attempts")),
    ("memory", lambda c: rendering.memory(c.memory_bytes)),
    ("median", lambda c: rendering.memory(int(c.memory.median))),
    ("95%", lambda c: rendering.memory(int(c.memory.p95))),
    ("most", lambda c: rendering.memory(int(c.memory.most))),
    ("runtime", lambda c: human_duration(c.runtime_seconds)),
    ("median", lambda c: rendering.duration(c.wall.median)),
    ("most", lambda c: rendering.duration(c.wall.most)),
    ("CPUs", rendering.attribute("num_cpus")),
    ("busy", lambda c: f"{c.cpus.p95:.1f}"),
]


def check_resource_utilization(
    workflow: Which = None,
    all_: Annotated[bool, typer.Option("--all", help="Show all classes, and how much they used.")] = False,
    run: Annotated[int | None, typer.Option("--run", "--run-id", help="Only this run.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 100,
) -> None:
    """List jobs that used more than they requested, and classes that request far too much.

    Example: torc reports check-resource-utilization 3 --all
    """
    with torc(create=False) as opened:
        request = CheckUtilization(workflow_id=workflow_id(opened, workflow), run_id=run, limit=min(limit, 10_000))
        found = opened.send(request)
    if SESSION.json:
        rendering.show_json(found)
        return
    if not found.num_attempts:
        rendering.note("nothing has run yet")
        return
    if found.exceeded:
        number = found.num_exceeded
        print(f"more was used than asked for, or all of it, in {number:,} case{'s' if number != 1 else ''}:")
        rendering.show_list(found.exceeded, _EXCEEDED, more=found.num_exceeded > len(found.exceeded))
    else:
        print(f"no job used more than it asked for ({found.num_attempts} attempts)")
    if all_:
        print()
        rendering.show_list(found.classes, _CLASSES)
    _advise(found.classes)


def _advise(classes: list[Any]) -> None:
    told = [
        f"{item.requirement} ({item.num_attempts:,} attempt{'s' if item.num_attempts != 1 else ''}): {text}"
        for item in classes
        for text in item.advice
    ]
    if told:
        print("\nfar too much is asked for:")
        for text in told:
            print(f"  {text}")
        rendering.note("torc workflows correct-resources --dry-run shows what would do")


_CORRECTIONS = [
    ("class", rendering.attribute("requirement")),
    ("learnt from", rendering.attribute("num_attempts")),
    ("memory", lambda c: rendering.memory(c.memory_bytes)),
    ("new", lambda c: rendering.memory(c.new_memory_bytes) if c.new_memory_bytes != c.memory_bytes else "as it is"),
    ("runtime", lambda c: human_duration(c.runtime_seconds)),
    (
        "new",
        lambda c: human_duration(c.new_runtime_seconds) if c.new_runtime_seconds != c.runtime_seconds else "as it is",
    ),
]


def correct_resources(
    workflow: Which = None,
    factor: Annotated[float, typer.Option("--factor", min=1.0, help="Factor on the 95th percentile of use.")] = 1.5,
    min_attempts: Annotated[
        int, typer.Option("--min-attempts", min=1, help="Completed attempts that a class needs before it is changed.")
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, but change nothing.")] = False,
) -> None:
    """Lower the requests of classes to what their jobs used, plus a margin.

    Example: torc workflows correct-resources 3 --dry-run
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        fields = {"workflow_id": number, "factor": factor, "min_attempts": min_attempts, "dry_run": dry_run}
        found = opened.send(CorrectResources.model_validate(fields))
    if SESSION.json:
        rendering.show_json(found)
        return
    rendering.show_list(
        found.corrections, _CORRECTIONS, empty="no class asks for more than its jobs use, as far as can be told"
    )
    if found.corrections and dry_run:
        rendering.note("nothing was changed")
