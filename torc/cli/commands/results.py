"""`torc results`: how attempts ended, and what they used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from torc.api.runs import GetResult, ListResults
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.named_objects import Limit
from torc.units import human_bytes
from torc.workflow.states import State

results = App("List how attempts ended, and what they used.")
_COLUMNS = [
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


@results.command("list")
def list_results(
    workflow: Which = None,
    state: Annotated[State | None, typer.Option("--status", "--state", "-s")] = None,
    job: Annotated[int | None, typer.Option("--job", "-j", help="Only attempts of this job.")] = None,
    run: Annotated[int | None, typer.Option("--run", help="Only attempts of this run.")] = None,
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only attempts that did not complete.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="Only the last attempt of each job.")] = False,
    limit: Limit = 1000,
) -> None:
    """List the results of attempts, oldest first.

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
    """Return the columns of a table of results: what was measured of none of them is left out."""

    def column(name: str, take: Callable[[Any], Any], show: Callable[[Any], str]) -> Any:
        return name, lambda result: "" if take(result.usage) is None else show(take(result.usage))

    known = [entry for entry in _MEASURED if any(entry[1](item.usage) for item in items)]
    return [*_COLUMNS[:-1], *(column(*entry) for entry in known), _COLUMNS[-1]]


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
