"""`torc slurm schedule-nodes|list|show|sync|cancel`: the allocations of a workflow, by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.commands.run import OutputDir
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.cli.terminal import print_document
from torc.errors import Invalid, NotFound, Unavailable

Which = Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: the active one here.")]

_MOST_TOLD = 8
#: what was seen in the last seconds is shown as it is
_FRESH_SECONDS = 10.0


def schedule_nodes(
    workflow: Which = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", "-s", help="Slurm scheduler of the workflow; default: its only one.")
    ] = None,
    num_allocations: Annotated[int, typer.Option("--num-allocations", "-n", min=1, help="Allocations to submit.")] = 1,
    max_parallel_jobs: Annotated[
        int | None,
        typer.Option("--max-parallel-jobs", min=1, help="Limit for each runner; resources are ignored then."),
    ] = None,
    one_runner: Annotated[
        bool, typer.Option("--one-runner", help="One runner for all nodes of an allocation, instead of one on each.")
    ] = False,
    output_dir: OutputDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the batch script and stop.")] = False,
) -> None:
    """Submit allocations of one of the workflow's Slurm schedulers.

    Example: torc slurm schedule-nodes 3 --scheduler cpu --num-allocations 2
    """
    from torc.api.runs import StartRun
    from torc.cli.cluster_access import slurm_for
    from torc.schedulers.slurm.script import left_out
    from torc.schedulers.slurm.submission import submit

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        settings = {"max_parallel_jobs": max_parallel_jobs, "start_one_worker_per_node": not one_runner}
        request = _request(opened, number, scheduler, settings)
        cluster = slurm_for(opened, number, output_dir, with_token=not dry_run)
        for line in left_out(request):
            rendering.note(f"note: {line}")
        if dry_run:
            print_document(cluster.render(request, "torc-dry-run", 0))
            return
        opened.send(StartRun(workflow_id=number))
        made = submit(opened, number, [request] * num_allocations, cluster)
        _show(made)
    if any(item.cluster_state == "DEFERRED" for item in made):
        rendering.note(f"Slurm does not accept all of them now; to submit the rest later: torc watch {number}")
    if any(item.cluster_job_id is None and item.state == "ended" for item in made):
        raise typer.Exit(1)


def _request(opened: Torc, number: int, scheduler: str | None, settings: dict[str, Any]) -> Any:
    """Return the request that a scheduler of the workflow stands for. Raises NotFound and Invalid."""
    from torc.api.data import ListSlurmSchedulers
    from torc.api.workflows import GetWorkflow
    from torc.schedulers.slurm.scheduler_specs import request_of

    known = {item.name: item for item in opened.send(ListSlurmSchedulers(workflow_id=number, limit=10_000)).items}
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
    defaults = row.settings.get("slurm_defaults") or {}
    given = {key: value for key, value in settings.items() if value is not None}
    return request_of(name, known[name].fields, job_name=f"{row.name}-{name}", defaults=defaults, settings=given)


def list_(
    workflow: Which = None,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Those that have ended, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many.")] = 100,
) -> None:
    """List the allocations of a workflow: where they stand, why they wait, their place, when they are expected to start.

    The cluster is looked at, unless that was done just now or it cannot be reached from here.

    Example: torc slurm list 3 --all
    """
    from torc.api.allocations import ListAllocations

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        refresh(opened, [number])
        found = opened.send(ListAllocations(workflow_id=number, active_only=not all_, limit=limit))
        _show(found.items, more=found.cursor is not None, places={} if SESSION.json else _places(found.items))


def refresh(opened: Torc, numbers: Sequence[int]) -> bool:
    """Look at the cluster, when some of the allocations were not seen of late, or are about to end; tells whether it did."""
    due = [number for number in numbers if _is_stale(opened, number)]
    if not due:
        return False
    from torc.errors import Forbidden
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.schedulers.slurm.polling import poll

    try:
        poll(opened, SlurmBackend(patience=0.0), due, heal=False)
    except (
        Forbidden,
        Invalid,
        Unavailable,
    ) as error:  # who may look at a workflow may not note what its allocations do
        rendering.note(f"as last seen: {error.message}")
        return False
    return True


def _is_stale(opened: Torc, number: int) -> bool:
    from torc.api.allocations import ListAllocations
    from torc.api.workflows import GetWorkflow

    open_ = opened.send(ListAllocations(workflow_id=number, active_only=True, limit=1000)).items
    is_over = opened.send(GetWorkflow(workflow_id=number)).ended_at is not None
    return is_over or any((item.seen_at or item.created_at) <= time.time() - _FRESH_SECONDS for item in open_)


def show(
    allocation: Annotated[int, typer.Argument(help="Id of the allocation, as `torc slurm list` shows it.")],
) -> None:
    """Show all that is known of an allocation.

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
        str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: all that you can see.")
    ] = None,
) -> None:
    """Look at the cluster now, and take in what it says: jobs whose allocation has ended are told so.

    Example: torc slurm sync 3
    """
    from torc.cli.cluster_access import take_in_left
    from torc.cli.commands.run import output_folder
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.schedulers.slurm.polling import poll

    with torc(create=False) as opened:
        numbers = None if workflow is None else [workflow_id(opened, workflow)]
        for number in numbers or ():
            take_in_left(opened, number, output_folder())
        polled = poll(opened, SlurmBackend(), numbers, heal=False)
        if SESSION.json:
            rendering.show_json(polled.changed)
            return
        _show(polled.changed, empty="nothing has changed")
        if polled.runners_ended:
            print(
                f"{polled.runners_ended} runner(s) were in allocations that ended; {polled.jobs_lost} job(s) with them"
            )


def cancel(
    workflow: Which = None,
    allocation: Annotated[
        list[int] | None, typer.Option("--allocation", "-a", help="Only this one; repeat.", metavar="ID")
    ] = None,
    queued_only: Annotated[bool, typer.Option("--queued-only", help="Leave those that run.")] = False,
) -> None:
    """Cancel the allocations of a workflow: their jobs are interrupted and can go on in others.

    Example: torc slurm cancel 3 --queued-only
    """
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.schedulers.slurm.polling import poll
    from torc.schedulers.slurm.submission import cancel as cancel_allocations

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
        int, typer.Option("--max-nodes", min=1, help="At most so many nodes, queued ones included.")
    ] = 4,
    backlog: Annotated[int, typer.Option("--backlog", min=1, help="Add a node for each so many ready jobs.")] = 50,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", "-s", help="Ask by this Slurm scheduler only.")
    ] = None,
    output_dir: OutputDir = None,
) -> None:
    """Keep submitting allocations while there is ready work that waits, and stop when there is none.

    Example: torc slurm autoscale 3 --max-nodes 10 --backlog 100
    """
    from torc.cli.cluster_access import slurm_for
    from torc.cli.commands.run import output_folder, summarize
    from torc.schedulers.slurm.autoscaling import Autoscaler, known_requests
    from torc.schedulers.slurm.follow import told

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
        if not known_requests(opened, number, scheduler):
            raise NotFound(
                f"workflow {number} has no Slurm scheduler",
                hint="plan it (torc slurm generate), or write `slurm_schedulers`",
            )
        cluster = slurm_for(opened, number, output_dir)
        try:
            Autoscaler(opened, number, cluster, max_nodes, backlog, scheduler).run(say, 5.0)
        except KeyboardInterrupt:
            rendering.note(f"what was submitted goes on; come back with: torc slurm autoscale {number}")
            raise
        raise typer.Exit(summarize(opened, number, output_folder(output_dir)))


def _show(items: Any, *, more: bool = False, empty: str = "no allocations", places: Any = None) -> None:
    columns: list[rendering.Column] = [
        ("id", lambda item: item.id),
        ("job", lambda item: item.cluster_job_id or ""),
        ("scheduler", lambda item: item.scheduler or ""),
        ("nodes", lambda item: item.num_nodes),
        ("walltime", lambda item: rendering.duration(item.walltime_seconds)),
        (
            "state",
            lambda item: item.state.value if item.state.value != "ended" else f"ended {item.cluster_state or ''}",
        ),
        ("since", _since),
        ("where, or why it waits", lambda item: _where(item, places)),
    ]
    rendering.show_list(items, columns, empty=empty, more=more)


def _since(item: Any) -> str:
    at = item.ended_at or item.started_at or item.submitted_at or item.created_at
    return rendering.duration(max(0.0, float(int(time.time() - at))))


def _where(item: Any, places: Any = None) -> str:
    if item.state.value == "running":
        return ", ".join(item.nodes)
    if item.cluster_state == "DEFERRED":
        return f"not accepted now; submitted again while the workflow is followed: {item.reason}"
    place = str((places or {}).get(item.cluster_job_id) or "")
    expected = f"expected {rendering.when(item.expected_start_at)}" if item.expected_start_at else ""
    return "; ".join(part for part in (item.reason, place, expected) if part)


def _places(items: Any) -> Any:
    """Ask for the places of those that wait in the queue; nothing where it cannot be asked from here."""
    waiting = [item.cluster_job_id for item in items if item.state.value == "pending" and item.cluster_job_id]
    if not waiting:
        return {}
    from torc.schedulers.slurm.queue_position import places

    try:
        return places(waiting)
    except (Invalid, Unavailable):
        return {}


def cancel_all(opened: Torc, number: int) -> None:
    """Cancel the allocations of a workflow that was canceled; where the cluster cannot be told, say who will tell it."""
    from torc.api.allocations import ListAllocations

    if not opened.send(ListAllocations(workflow_id=number, active_only=True, limit=1)).items:
        return
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.schedulers.slurm.polling import poll
    from torc.schedulers.slurm.submission import cancel as cancel_allocations

    try:
        made = cancel_allocations(opened, number, SlurmBackend())
        poll(opened, SlurmBackend(), [number], heal=False)
    except (Invalid, Unavailable) as error:
        rendering.note(f"allocations are marked to be cancelled, and still there: {error.message}")
        rendering.note(f"on a login node of their cluster, `torc slurm cancel {number}` ends them")
        return
    if made and not SESSION.json:
        print(f"cancelled {len(made)} allocation(s)")


def take_in_ends(opened: Torc, number: int) -> int:
    """Look at the cluster for the allocations of a workflow that are open; returns how many runners have ended with theirs."""
    from torc.api.allocations import ListAllocations

    if not opened.send(ListAllocations(workflow_id=number, active_only=True, limit=1)).items:
        return 0
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.schedulers.slurm.polling import poll

    return poll(opened, SlurmBackend(), [number], heal=False).runners_ended


def open_allocations(opened: Torc, number: int) -> list[Any]:
    """Return the allocations of a workflow that have not ended."""
    from torc.api.allocations import ListAllocations

    return list(opened.send(ListAllocations(workflow_id=number, active_only=True, limit=1000)).items)


def shown_state(workflow: Any, allocations: Sequence[Any]) -> str:
    """Return the state of a workflow for people: what is not begun, or was interrupted, may only wait for its allocations."""
    if workflow.state not in {"interrupted", "idle"} or workflow.ended_at is not None or not allocations:
        return str(workflow.state)
    from torc.schedulers.slurm.follow import is_to_come

    return "waits for allocations" if any(map(is_to_come, allocations)) else str(workflow.state)


def summary_lines(opened: Torc, number: int) -> list[str]:
    """Return what `torc status` says of the allocations of a workflow that have not ended."""
    items = open_allocations(opened, number)
    lines = []
    places = _places(items[:_MOST_TOLD])
    for item in items[:_MOST_TOLD]:
        size = (
            f"{item.num_nodes} node{'s' if item.num_nodes > 1 else ''} for {rendering.duration(item.walltime_seconds)}"
        )
        where = _where(item, places)
        lines.append(
            f"allocation {item.id} (job {item.cluster_job_id or '-'}): {item.state.value}, {size}{': ' + where if where else ''}"
        )
    if len(items) > _MOST_TOLD:
        lines.append(f"and {len(items) - _MOST_TOLD} more: torc slurm list {number}")
    return lines


COMMANDS = {
    "schedule-nodes": schedule_nodes,
    "list": list_,
    "show": show,
    "sync": sync,
    "cancel": cancel,
    "autoscale": autoscale,
}
