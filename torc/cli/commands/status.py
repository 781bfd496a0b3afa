"""`torc status`: how a workflow stands."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.api.workflows import GetWorkflow
from torc.cli import rendering
from torc.cli.allocations import open_allocations, shown_state, summary_lines
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.workflow.states import FINISHED, State

Which = Annotated[
    str | None, typer.Argument(metavar="[WORKFLOW]", help="Id or name; default: the only active workflow here.")
]


def status(workflow: Which = None) -> None:
    """Show the state of a workflow: jobs by state, times, and what it waits for.

    Example: torc status 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        found = opened.send(GetWorkflow(workflow_id=number))
        if SESSION.json:
            rendering.show_json(found)
            return
        allocations = open_allocations(opened, number)
        _print(found, allocations)
        if found.state in {"interrupted", "idle"}:
            print(f"  {_how_to_go_on(opened, number, is_submitted=bool(allocations))} {number}")
        for line in summary_lines(opened, number):
            print(f"  {line}")
        summarize_failures(opened, number)


def _print(workflow: Any, allocations: list[Any]) -> None:
    total = workflow.counts.total
    # in a run that was interrupted, terminated jobs are those that go on
    over = FINISHED - {State.TERMINATED} if workflow.state == "interrupted" else FINISHED
    finished = sum(workflow.counts[state] for state in over)
    state = rendering.colored(shown_state(workflow, allocations), workflow.state)
    print(f"workflow {workflow.id} ({workflow.name}): {state}")
    print(f"  {finished:,} of {total:,} jobs finished ({100 * finished / max(total, 1):.0f}%), run {workflow.run_id}")
    for state in State:
        if workflow.counts[state]:
            print(f"  {workflow.counts[state]:>9,}  {rendering.colored(state.value, state.value)}")
    if workflow.started_at is not None:
        ended = workflow.ended_at or time.time()
        until = f"ended {rendering.when(workflow.ended_at)}" if workflow.ended_at else "not ended"
        print(
            f"  started {rendering.when(workflow.started_at)}, {until}, {rendering.duration(ended - workflow.started_at)}"
        )


def _how_to_go_on(opened: Torc, number: int, *, is_submitted: bool) -> str:
    """Say how to get a workflow going: as it was done before."""
    from torc.api.allocations import ListAllocations

    if is_submitted:
        return "follow it with: torc watch"
    before = opened.send(ListAllocations(workflow_id=number, limit=1)).items
    return "continue in new allocations with: torc submit" if before else "continue with: torc run"


def summarize_failures(opened: Torc, number: int) -> None:
    """Print the first failures."""
    from torc.api.runs import SummarizeRun
    from torc.cli.commands.run import waits, why

    summary = opened.send(SummarizeRun(workflow_id=number, limit=5))
    for result in summary.failed:
        print(f"  {result.job_name} (job {result.job_id}) {result.state}: {why(result)}")
    if summary.num_failed > len(summary.failed):
        print(f"  and {summary.num_failed - len(summary.failed)} more: torc results list {number} --failed-only")
    for line in waits(summary):
        print(f"  {line}")
