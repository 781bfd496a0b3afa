"""Compare two runs, of one workflow or of two. Sums come from the store; only failures are examined individually."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.context import context, find_workflow
from mcp_server.formatting import Reply, plain
from mcp_server.registry import tool
from mcp_server.tools.inspect import WorkflowId
from torc.api.runs import ListResults
from torc.api.utilization import CheckUtilization, ClassUse
from torc.api.workflows import Workflow
from torc.errors import Invalid
from torc.units import human_bytes, human_duration

_MOST_FAILED = 2000
_MOST_NAMES = 15


class ClassChange(Reply):
    """What the attempts of a class used in both runs."""

    requirement: str
    attempts: list[int]
    median_time: list[str]
    longest_time: list[str]
    most_memory: list[str]


class Comparison(Reply):
    """Two runs side by side; each list is [first, second]."""

    runs: list[str]
    attempts: list[int]
    failed: list[int]
    newly_failed: list[str]
    no_longer_failed: list[str]
    classes: list[ClassChange]
    note: str | None = None


@tool("Compare runs")
def compare_runs(
    workflow_id: WorkflowId,
    run_id: Annotated[int | None, Field(ge=1, description="the first run; default: the one before the last")] = None,
    other_run_id: Annotated[int | None, Field(ge=1, description="the second run; default: the last one")] = None,
    other_workflow_id: Annotated[int | str | None, Field(description="take the second run from this workflow")] = None,
) -> Comparison:
    """Compare two runs: what failed newly or no longer, and time and memory by class. Use it after a change, to see what it
    did. Jobs of two workflows are matched by name."""
    first = find_workflow(workflow_id)
    second = first if other_workflow_id is None else find_workflow(other_workflow_id)
    sides = _sides(first, second, run_id, other_run_id)
    uses = [context().torc.send(CheckUtilization(workflow_id=number, run_id=run, limit=0)) for number, run in sides]
    failed = [_failed(number, run) for number, run in sides]
    classes = [{use.requirement: use for use in found.classes} for found in uses]
    names = list(dict.fromkeys([*classes[0], *classes[1]]))[:_MOST_NAMES]
    return Comparison(
        runs=[f"workflow {number}, run {run}" for number, run in sides],
        attempts=[found.num_attempts for found in uses],
        failed=[len(found) for found in failed],
        newly_failed=_some(failed[1] - failed[0]),
        no_longer_failed=_some(failed[0] - failed[1]),
        classes=[_change(name, [side.get(name) for side in classes]) for name in names],
        note=f"only the first {_MOST_FAILED} failures of each run were compared"
        if max(map(len, failed)) >= _MOST_FAILED
        else None,
    )


def _sides(first: Workflow, second: Workflow, run_id: int | None, other_run_id: int | None) -> list[tuple[int, int]]:
    """Return the workflow and run of both sides. Raises Invalid if there are not two runs."""
    is_one = second.id == first.id
    run_b = other_run_id or second.run_id
    run_a = run_id or (first.run_id - 1 if is_one else first.run_id)
    for workflow in (first, second):
        if workflow.run_id < 1:
            raise Invalid(
                f"workflow {workflow.id} has not run: there are no two runs to compare",
                hint="run_workflow starts a run",
            )
    if is_one and (run_a < 1 or run_a == run_b):
        had = f"workflow {first.id} has had one run" if first.run_id == 1 else f"both are run {run_b}"
        raise Invalid(
            f"run_id: {had}: there are not two runs to compare",
            hint="give two runs (run_id, other_run_id) or another workflow (other_workflow_id), or run it again",
        )
    for field, workflow, run in (("run_id", first, run_a), ("other_run_id", second, run_b)):
        if run > workflow.run_id:
            raise Invalid(
                f"{field}: workflow {workflow.id} has no run {run}", hint=f"its runs are 1 to {workflow.run_id}"
            )
    return [(first.id, run_a), (second.id, run_b)]


def _failed(workflow_id: int, run_id: int) -> set[str]:
    request = ListResults(
        workflow_id=workflow_id, run_id=run_id, failed_only=True, latest_only=True, limit=_MOST_FAILED
    )
    return {result.job_name for result in context().torc.send(request).items}


def _some(names: set[str]) -> list[str]:
    shown = [plain(name, 80) for name in sorted(names)[:_MOST_NAMES]]
    return [*shown, f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else shown


def _change(name: str, sides: list[ClassUse | None]) -> ClassChange:
    return ClassChange(
        requirement=plain(name, 80),
        attempts=[use.num_attempts if use else 0 for use in sides],
        median_time=[human_duration(use.wall.median) if use else "-" for use in sides],
        longest_time=[human_duration(use.wall.most) if use else "-" for use in sides],
        most_memory=[human_bytes(use.memory.most) if use else "-" for use in sides],
    )
