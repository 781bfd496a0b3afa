"""`torc results`, `events` and `compute-nodes`: what happened and what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from torc.api.events import GetEvent, ListEvents
from torc.api.runs import GetResult, GetRunner, ListResults, ListRunners
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.session import SESSION, torc, workflow_id
from torc.cli.terminal import must_be_heard, print_json
from torc.units import human_bytes
from torc.workflow.states import State

results = App("How attempts ended, and what they used.")
events = App("What happened, and who did it.")
compute_nodes = App("The runners of a workflow.")

Limit = Annotated[int, typer.Option("--limit", min=1)]
_WAIT_SECONDS = 10.0
_RESULTS = [
    *rendering.columns("id", "job_id", "job_name", "run_id", "attempt", "state", "return_code"),
    ("time", lambda r: rendering.duration(r.wall_seconds)),
    ("cpu", lambda r: rendering.duration(r.usage.user_cpu_seconds + r.usage.system_cpu_seconds)),
    ("peak memory", lambda r: rendering.memory(r.usage.peak_memory_bytes)),
    ("why", lambda r: r.detail or r.reason or ""),
]
#: shown where anything of it is known
_MEASURED: list[tuple[str, Callable[[Any], Any], Callable[[Any], str]]] = [
    ("average memory", lambda u: u.average_memory_bytes, rendering.memory),
    ("processes", lambda u: u.max_processes, str),
    ("read", lambda u: u.read_bytes, human_bytes),
    ("written", lambda u: u.written_bytes, human_bytes),
    ("GPUs busy", lambda u: u.average_gpus_busy, lambda busy: f"{busy:.2f}"),
    ("GPU memory", lambda u: u.peak_gpu_memory_bytes, rendering.memory),
]
_EVENTS = [
    ("id", rendering.attribute("id")),
    ("time", lambda e: rendering.when(e.time)),
    ("type", rendering.attribute("type")),
    ("actor", rendering.attribute("actor")),
    ("data", lambda e: json.dumps(e.data, ensure_ascii=False)),
]
_RUNNERS = [
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


@results.command("list")
def list_results(
    workflow: Which = None,
    state: Annotated[State | None, typer.Option("--status", "--state", "-s")] = None,
    job: Annotated[int | None, typer.Option("--job", "-j", help="Only of this job.")] = None,
    run: Annotated[int | None, typer.Option("--run", help="Only of this run.")] = None,
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only attempts that did not complete.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="Only the last attempt of each job.")] = False,
    limit: Limit = 1000,
) -> None:
    """List how attempts ended, oldest first.

    Example: torc results list 3 --failed-only
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                ListResults(
                    workflow_id=number,
                    state=state,
                    job_id=job,
                    run_id=run,
                    failed_only=failed_only,
                    latest_only=latest,
                    limit=min(limit, 10_000),
                    cursor=cursor,
                )
            ),
            limit,
        )
    rendering.show_list(items, _with_measured(items), empty="no results", more=more)


def _with_measured(items: Sequence[Any]) -> list[Any]:
    """Give the columns of a table of results: what was measured of none of them is left out."""

    def column(name: str, take: Callable[[Any], Any], show: Callable[[Any], str]) -> Any:
        return name, lambda result: "" if take(result.usage) is None else show(take(result.usage))

    known = [entry for entry in _MEASURED if any(entry[1](item.usage) for item in items)]
    return [*_RESULTS[:-1], *(column(*entry) for entry in known), _RESULTS[-1]]


@results.command("get")
def get_result(result_id: int) -> None:
    """Show one result.

    Example: torc results get 40
    """
    with torc(create=False) as opened:
        found = opened.send(GetResult(result_id=result_id))
    fields = [
        *_with_measured([found]),
        ("started", lambda r: rendering.when(r.started_at)),
        ("ended", lambda r: rendering.when(r.ended_at)),
        ("stderr", rendering.attribute("stderr_tail")),
    ]
    rendering.show_one(found, fields)


@events.command("list")
def list_events(
    workflow: Which = None,
    kind: Annotated[str | None, typer.Option("--type", "-t", help="Only events of this type.")] = None,
    newest_first: Annotated[bool, typer.Option("--newest-first")] = False,
    limit: Limit = 1000,
) -> None:
    """List events, oldest first.

    Example: torc events list 3 --type jobs_failed
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                ListEvents(
                    workflow_id=number, type=kind, newest_first=newest_first, limit=min(limit, 10_000), cursor=cursor
                )
            ),
            limit,
        )
    rendering.show_list(items, _EVENTS, empty="no events", more=more)


@events.command("get")
def get_event(event_id: int) -> None:
    """Show one event.

    Example: torc events get 7
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(GetEvent(event_id=event_id)), _EVENTS)


@events.command()
def monitor(workflow: Which = None) -> None:
    """Print events as they come, until the workflow ends or Ctrl-C.

    Example: torc events monitor 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        after = 0
        while True:
            page = opened.send(ListEvents(workflow_id=number, after=after, wait_seconds=_WAIT_SECONDS, limit=1000))
            for event in page.items:
                after = event.id
                _print_event(event)
            if any(event.type == "run_ended" for event in page.items):
                return


def _print_event(event: Any) -> None:
    if SESSION.json:
        print_json(event.model_dump_json())
    else:
        print(
            f"{rendering.when(event.time)}  {event.type}  {event.actor}  {json.dumps(event.data, ensure_ascii=False)[:200]}"
        )
    must_be_heard()


@compute_nodes.command("list")
def list_compute_nodes(
    workflow: Which = None, active: Annotated[bool, typer.Option("--active", help="Only active ones.")] = False
) -> None:
    """List the runners of a workflow, newest first.

    Example: torc compute-nodes list 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        page = opened.send(ListRunners(workflow_id=number, active_only=active, limit=10_000))
    rendering.show_list(page.items, _RUNNERS, empty="no runners")


@compute_nodes.command("get")
def get_compute_node(runner_id: int) -> None:
    """Show one runner.

    Example: torc compute-nodes get 2
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(GetRunner(runner_id=runner_id)), _RUNNERS)
