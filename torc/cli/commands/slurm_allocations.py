"""`torc slurm schedule-nodes|list|show|sync|cancel`: the allocations of a workflow, by hand."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.allocations import queue_positions, refresh, show_allocations
from torc.cli.commands.run import OutputDir
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.cli.terminal import print_document
from torc.errors import Invalid, NotFound
from torc.schedulers.base import Scheduler
from torc.schedulers.request import AllocationRequest

Which = Annotated[
    str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: the only active workflow here.")
]

_NAME = "slurm"


def schedule_nodes(
    workflow: Which = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", "-s", help="Slurm scheduler of the workflow; default: the only one.")
    ] = None,
    num_allocations: Annotated[
        int, typer.Option("--num-allocations", "-n", min=1, help="Number of allocations to submit.")
    ] = 1,
    max_parallel_jobs: Annotated[
        int | None,
        typer.Option(
            "--max-parallel-jobs", min=1, help="Most jobs at once on each runner, which then ignores resources."
        ),
    ] = None,
    one_runner: Annotated[
        bool,
        typer.Option("--one-runner", help="Start one runner for all nodes of an allocation, instead of one per node."),
    ] = False,
    output_dir: OutputDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the batch script, and submit nothing.")] = False,
) -> None:
    """Submit allocations of one of the workflow's Slurm schedulers.

    Example: torc slurm schedule-nodes 3 --scheduler cpu --num-allocations 2
    """
    from torc.api.runs import StartRun
    from torc.cli.cluster_access import scheduler_for
    from torc.schedulers.submission import submit

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        settings = {"max_parallel_jobs": max_parallel_jobs, "start_one_worker_per_node": not one_runner}
        cluster = scheduler_for(opened, number, output_dir, name=_NAME, with_token=not dry_run)
        request = _request(opened, number, scheduler, settings, cluster)
        for line in cluster.left_out(request):
            rendering.note(f"note: {line}")
        if dry_run:
            print_document(cluster.render(request, "torc-dry-run", 0))
            return
        opened.send(StartRun(workflow_id=number))
        made = submit(opened, number, [request] * num_allocations, cluster)
        show_allocations(made)
    if any(item.cluster_state == "DEFERRED" for item in made):
        rendering.note(f"Slurm does not accept all of them now; to submit the rest later: torc watch {number}")
    if any(item.cluster_job_id is None and item.state == "ended" for item in made):
        raise typer.Exit(1)


def _request(
    opened: Torc, number: int, scheduler: str | None, settings: dict[str, Any], cluster: Scheduler
) -> AllocationRequest:
    """Return the request that a scheduler of the workflow stands for. Raises NotFound and Invalid."""
    from torc.api.workflows import GetWorkflow
    from torc.schedulers.workflow_plans import described

    known = {item.name: item for item in described(opened, number, cluster)}
    if not known:
        raise NotFound(
            f"workflow {number} has no Slurm scheduler",
            hint="write `slurm_schedulers` in the spec, or add one: torc slurm-schedulers create",
        )
    if scheduler is None and len(known) > 1:
        raise Invalid(
            "several Slurm schedulers are there: say which one", hint=f"--scheduler {' | '.join(sorted(known))}"
        )
    name = scheduler or next(iter(known))
    if name not in known:
        raise NotFound(f"workflow {number} has no Slurm scheduler `{name}`", hint=f"it has {', '.join(sorted(known))}")
    row = opened.send(GetWorkflow(workflow_id=number))
    defaults = row.settings.get(cluster.type.defaults_field) or {}
    given = {key: value for key, value in settings.items() if value is not None}
    return cluster.request_of(
        name, known[name].fields, job_name=f"{row.name}-{name}", defaults=defaults, settings=given
    )


def list_(
    workflow: Which = None,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Include allocations that have ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most this many.")] = 100,
) -> None:
    """List the allocations of a workflow: state, reason for waiting, place in the queue, expected start.

    Polls the cluster first, unless that was done just now or it cannot be reached from here.

    Example: torc slurm list 3 --all
    """
    from torc.api.allocations import ListAllocations

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        refresh(opened, [number])
        found = opened.send(ListAllocations(workflow_id=number, active_only=not all_, limit=limit))
        show_allocations(
            found.items, more=found.cursor is not None, places={} if SESSION.json else queue_positions(found.items)
        )


def show(
    allocation: Annotated[int, typer.Argument(help="Id of the allocation, as `torc slurm list` shows it.")],
) -> None:
    """Show everything that is known about an allocation.

    Example: torc slurm show 7
    """
    from torc.api.allocations import GetAllocation

    with torc(create=False) as opened:
        found = opened.send(GetAllocation(allocation_id=allocation))
        if SESSION.json:
            rendering.show_json(found)
            return
        for name, value in found.model_dump(mode="json", exclude={"request"}).items():
            if value not in (None, [], ""):
                shown = rendering.when(value) if name.endswith("_at") else value
                print(f"{name:<24} {', '.join(value) if isinstance(value, list) else shown}")


def sync(
    workflow: Annotated[
        str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: all workflows that you can see.")
    ] = None,
) -> None:
    """Poll the cluster now, and update the allocations; jobs whose allocation has ended are updated too.

    Example: torc slurm sync 3
    """
    from torc.cli.cluster_access import take_in_left
    from torc.cli.commands.run import output_folder
    from torc.schedulers.polling import poll
    from torc.schedulers.slurm.backend import SlurmBackend

    with torc(create=False) as opened:
        numbers = None if workflow is None else [workflow_id(opened, workflow)]
        for number in numbers or ():
            take_in_left(opened, number, output_folder())
        polled = poll(opened, SlurmBackend(), numbers, heal=False)
        if SESSION.json:
            rendering.show_json(polled.changed)
            return
        show_allocations(polled.changed, empty="nothing has changed")
        if polled.runners_ended:
            print(
                f"{polled.runners_ended} runner(s) were in allocations that ended; {polled.jobs_lost} job(s) with them"
            )


def cancel(
    workflow: Which = None,
    allocation: Annotated[
        list[int] | None, typer.Option("--allocation", "-a", help="Only this allocation; repeatable.", metavar="ID")
    ] = None,
    queued_only: Annotated[bool, typer.Option("--queued-only", help="Do not cancel running allocations.")] = False,
) -> None:
    """Cancel the allocations of a workflow. Their jobs are interrupted, and can continue in others.

    Example: torc slurm cancel 3 --queued-only
    """
    from torc.schedulers.polling import poll
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.schedulers.submission import cancel as cancel_allocations

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        cluster = SlurmBackend()
        made = cancel_allocations(opened, number, cluster, allocation_ids=allocation, queued_only=queued_only)
        poll(opened, cluster, [number], heal=False)
        if SESSION.json:
            rendering.show_json(made)
        else:
            print(f"cancelled {len(made)} allocation(s)" if made else "no allocation is left to cancel")


def autoscale(
    workflow: Which = None,
    max_nodes: Annotated[
        int, typer.Option("--max-nodes", min=1, help="Most nodes at once, including queued ones.")
    ] = 4,
    backlog: Annotated[int, typer.Option("--backlog", min=1, help="Add a node for every this many ready jobs.")] = 50,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", "-s", help="Use only this Slurm scheduler of the workflow.")
    ] = None,
    output_dir: OutputDir = None,
) -> None:
    """Keep submitting allocations while ready jobs wait, and stop when there are none.

    Example: torc slurm autoscale 3 --max-nodes 10 --backlog 100
    """
    from torc.cli.cluster_access import scheduler_for
    from torc.cli.commands.run import output_folder, summarize
    from torc.schedulers.autoscaling import Autoscaler, known_requests
    from torc.schedulers.follow import told

    shown = ""

    def say(found: Any, open_: Any, made: Any) -> None:
        nonlocal shown
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(found.counts.by_state.items()))
        line = f"{counts}; {sum(item.num_nodes for item in open_)} nodes in {len(open_)} allocations"
        if made:
            rendering.note(f"{time.strftime('%H:%M:%S')} submitted {told(made)}")
        if line != shown:
            rendering.note(f"{time.strftime('%H:%M:%S')} {line}")
            shown = line

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        cluster = scheduler_for(opened, number, output_dir, name=_NAME)
        if not known_requests(opened, number, cluster, scheduler):
            raise NotFound(
                f"workflow {number} has no Slurm scheduler",
                hint="plan it (torc slurm generate), or write `slurm_schedulers`",
            )
        try:
            Autoscaler(opened, number, cluster, max_nodes, backlog, scheduler).run(say, 5.0)
        except KeyboardInterrupt:
            rendering.note(f"what was submitted goes on; come back with: torc slurm autoscale {number}")
            raise
        raise typer.Exit(summarize(opened, number, output_folder(output_dir)))


COMMANDS = {
    "schedule-nodes": schedule_nodes,
    "list": list_,
    "show": show,
    "sync": sync,
    "cancel": cancel,
    "autoscale": autoscale,
}
