"""`torc slurm sacct|stats|usage|parse-logs`: what the accounting and the logs of allocations say, and what they cost."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import rendering
from torc.cli.allocations import refresh
from torc.cli.commands.run import OutputDir, output_folder
from torc.cli.connection import torc, workflow_id
from torc.cli.options.amounts import seconds
from torc.cli.session import SESSION
from torc.errors import NotFound

Which = Annotated[
    str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: the only active workflow here.")
]


def sacct(
    workflow: Which = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Include the steps, one for each job that ran as a step.")
    ] = False,
) -> None:
    """Show Slurm's accounting data on the allocations of a workflow, in one query.

    The accounting lags by some seconds, so missing data is not a failure.

    Example: torc slurm sacct 3 --steps
    """
    rows = [row for row in _accounting(workflow) if steps or row.id.step is None]
    if SESSION.json:
        rendering.show_json([_plain(row) for row in rows])
        return
    rendering.show_list(
        rows,
        [
            ("job", lambda row: row.id.job + (f".{row.id.step}" if row.id.step else "")),
            ("name", lambda row: row.name),
            ("state", lambda row: row.state),
            ("exit", lambda row: "" if row.exit_code is None else f"{row.exit_code}:{row.exit_signal}"),
            ("elapsed", lambda row: rendering.duration(row.elapsed_seconds)),
            ("CPUs", lambda row: row.num_cpus),
            ("CPU time", lambda row: rendering.duration(row.cpu_seconds)),
            ("max RSS", lambda row: rendering.memory(row.max_rss_bytes)),
            ("nodes", lambda row: ", ".join(row.nodes)),
        ],
        empty="the accounting has none of its allocations yet",
    )


def stats(workflow: Which = None) -> None:
    """Show how well the allocations of a workflow were used: waiting time, CPU time, memory, and how their steps ended.

    Example: torc slurm stats 3
    """
    from torc.schedulers.slurm.efficiency import efficiencies

    found = efficiencies(_accounting(workflow))
    if SESSION.json:
        own = [{**asdict(one), "cpu_efficiency": one.cpu_efficiency, "node_seconds": one.node_seconds} for one in found]
        rendering.show_json(own)
        return
    rendering.show_list(
        found,
        [
            ("job", lambda one: one.job),
            ("state", lambda one: one.state),
            ("waited", lambda one: rendering.duration(one.waited_seconds)),
            ("elapsed", lambda one: rendering.duration(one.elapsed_seconds)),
            ("node-hours", lambda one: _hours(one.node_seconds)),
            ("CPU used", lambda one: "" if one.cpu_efficiency is None else f"{one.cpu_efficiency:.0%}"),
            ("memory asked for", lambda one: rendering.memory(one.requested_memory_bytes)),
            ("max RSS of a step", lambda one: rendering.memory(one.max_rss_bytes)),
            ("steps", lambda one: ", ".join(f"{number} {state}" for state, number in sorted(one.steps.items()))),
        ],
        empty="the accounting has none of its allocations yet",
    )


def usage(
    workflow: Annotated[
        str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: all workflows that you can see.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Only allocations requested within this time, such as 30d or 12h.", show_default=False
        ),
    ] = None,
) -> None:
    """Show node-hours used and wasted, by workflow and by user.

    A node-hour is wasted if the node was available and ran no job. Polls the cluster first if allocations are still
    open, unless that was done just now.

    Example: torc slurm usage --since 30d
    """
    from torc.api.usage import GetUsage

    begin = None if since is None else time.time() - seconds(since, "--since")
    with torc(create=False) as opened:
        number = None if workflow is None else workflow_id(opened, workflow)
        found = opened.send(GetUsage(workflow_id=number, since=begin))
        if refresh(opened, [one.workflow_id for one in found.workflows if one.num_active]):
            found = opened.send(GetUsage(workflow_id=number, since=begin))
    if SESSION.json:
        rendering.show_json(found)
        return
    if not found.workflows:
        rendering.note("no allocations")
        return
    sums: list[rendering.Column] = [
        ("allocations", lambda one: one.num_allocations),
        ("active", lambda one: one.num_active or ""),
        ("node-hours", lambda one: _hours(one.node_seconds_used)),
        ("wasted", lambda one: _hours(one.node_seconds_wasted)),
        ("", lambda one: _share(one.node_seconds_wasted, one.node_seconds_used)),
        ("GPU-node-hours", lambda one: _hours(one.gpu_node_seconds_used)),
    ]
    named: list[rendering.Column] = [
        ("workflow", lambda one: one.workflow_id),
        ("name", lambda one: one.name),
        ("user", lambda one: one.user),
    ]
    rendering.show_list(found.workflows, [*named, *sums])
    if len(found.workflows) > 1:
        print()
        rendering.show_list(
            found.users, [("user", lambda one: one.user), ("workflows", lambda one: one.num_workflows), *sums]
        )
    if found.total.num_active:
        rendering.note(f"{found.total.num_active} not seen to end yet")


def parse_logs(
    workflow: Which = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", help="Read this file instead; repeatable. No workflow is needed.")
    ] = None,
    output_dir: OutputDir = None,
) -> None:
    """Search the logs of Slurm and the runners in the allocations of a workflow for failures.

    Example: torc slurm parse-logs 3
    """
    from torc.schedulers.logs import find_logs, read_logs

    if file:
        found = read_logs(file)
    else:
        with torc(create=False) as opened:
            number = workflow_id(opened, workflow)
        found = read_logs(find_logs(output_folder(output_dir), number))
    if SESSION.json:
        rendering.show_json([asdict(read) for read in found])
        return
    for read in found:
        title = f"Slurm job {read.job}" if read.job else ", ".join(read.files)
        if not read.tellings:
            print(f"{title}: nothing that Torc knows to be a failure")
            continue
        print(f"{title}:")
        for told in read.tellings:
            print(f"  {told.category} ({told.confidence:.0%}): {told.what}; {told.advice}")
            for quote in told.quotes:
                print(f"    {quote.log}{'' if quote.line is None else f':{quote.line}'}: {quote.text}")


def _accounting(workflow: str | None) -> list[Any]:
    """Ask the accounting for all allocations of a workflow. Raises NotFound, where there is none, and Unavailable."""
    from torc.api.allocations import ListAllocations
    from torc.api.pagination import items_of
    from torc.schedulers.slurm import queries

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items = list(items_of(opened, ListAllocations(workflow_id=number)))
    jobs = {item.cluster_job_id: item for item in items if item.cluster_job_id is not None}
    if not jobs:
        raise NotFound(
            f"workflow {number} has no allocation that was submitted", hint="`torc slurm list --all` shows all"
        )
    rows = queries.accounting(list(jobs), min(item.created_at for item in jobs.values()))
    if rows is None:
        raise NotFound("this cluster keeps no accounts", hint="`torc slurm list --all` tells what Torc has seen")
    return rows


def _plain(row: Any) -> dict[str, Any]:
    made = asdict(row)
    made["id"] = row.id.job
    made["step"] = row.id.step
    del made["raw_id"]
    return made


def _hours(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 3600:.2f}" if seconds >= 360 else f"{seconds / 3600:.4f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else ""


COMMANDS = {"sacct": sacct, "stats": stats, "usage": usage, "parse-logs": parse_logs}
