"""`torc status` and `torc watch`: how a workflow stands, and how it goes on."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from torc.api.events import ListEvents
from torc.api.workflows import GetWorkflow, ListWorkflows
from torc.cli import render
from torc.cli.run import output_folder, summarize
from torc.cli.session import SESSION, torc, workflow_id
from torc.core.states import FINISHED, State

Which = Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: the active one here.")]
_WAIT_SECONDS = 2.0


def status(workflow: Which = None) -> None:
    """Show how a workflow stands: counts by state, times, what it waits for.

    Example: torc status 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        found = opened.send(GetWorkflow(workflow_id=number))
        if SESSION.json:
            render.show_json(found)
            return
        _print(found)
        summarize_failures(opened, number)


def _print(workflow: Any) -> None:
    total = workflow.counts.total
    finished = sum(workflow.counts[state] for state in FINISHED)
    print(f"workflow {workflow.id} ({workflow.name}): {render.colored(workflow.state, workflow.state)}")
    print(f"  {finished:,} of {total:,} jobs finished ({100 * finished / max(total, 1):.0f}%), run {workflow.run_id}")
    for state in State:
        if workflow.counts[state]:
            print(f"  {workflow.counts[state]:>9,}  {render.colored(state.value, state.value)}")
    if workflow.started_at is not None:
        ended = workflow.ended_at or time.time()
        until = f"ended {render.when(workflow.ended_at)}" if workflow.ended_at else "not ended"
        print(f"  started {render.when(workflow.started_at)}, {until}, {render.duration(ended - workflow.started_at)}")
    if workflow.state in {"interrupted", "idle"}:
        print(f"  go on with: torc run {workflow.id}")


def summarize_failures(opened: Any, number: int) -> None:
    """Print the first failures."""
    from torc.api.runs import SummarizeRun
    from torc.cli.run import why

    summary = opened.send(SummarizeRun(workflow_id=number, limit=5))
    for result in summary.failed:
        print(f"  {result.job_name} (job {result.job_id}) {result.state}: {why(result)}")
    if summary.num_failed > len(summary.failed):
        print(f"  and {summary.num_failed - len(summary.failed)} more: torc results list {number} --failed-only")
    for name, count in summary.blocked_by.items():
        print(f"  {count} job(s) wait for {name}")


def watch(workflow: Which = None) -> None:
    """Follow a workflow to its end, and exit as `torc run` would.

    Example: torc watch 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        last = opened.send(ListEvents(workflow_id=number, newest_first=True, limit=1)).items
        after = last[0].id if last else 0
        shown = None
        while True:
            found = opened.send(GetWorkflow(workflow_id=number))
            line = _line(found)
            if line != shown:
                print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr)
                shown = line
            if found.state not in {"running"}:
                break
            page = opened.send(ListEvents(workflow_id=number, after=after, wait_seconds=_WAIT_SECONDS, limit=10_000))
            after = page.items[-1].id if page.items else after
        raise typer.Exit(summarize(opened, number, output_folder()))


def _line(workflow: Any) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(workflow.counts.by_state.items()))
    return f"{workflow.name} {workflow.state}: {counts}"


__all__ = ["ListWorkflows", "status", "watch"]
