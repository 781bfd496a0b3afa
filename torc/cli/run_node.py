"""A runner on a node of an allocation, for the `run-node` command of each batch scheduler."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.commands.run import plot_where_wanted, store_variables, summarize, tell_what_is_left
from torc.cli.session import SESSION
from torc.cli.store_wait import DEFAULT_SECONDS, torc_when_it_answers, wait_seconds
from torc.errors import Invalid
from torc.schedulers.allotment import Allotment
from torc.schedulers.inside_job import JobEnvironment, NodeOptions, run_in_allocation


def run_on_node(inside: JobEnvironment, workflow: str, options: NodeOptions, server_wait: str | None) -> None:
    """Run jobs here until nothing is left or the time of the allocation is over. Raises Invalid outside of one."""
    from torc.cli.allocation_upkeep import scheduling

    if options.execution not in {None, "direct", "step"}:
        raise Invalid(f"--execution: there is no `{options.execution}`", hint="direct or step")
    wait = wait_seconds(server_wait, default=DEFAULT_SECONDS)
    allotment = _allotment(inside)
    wait = allotment.at_most(wait, time.time())
    with torc_when_it_answers(workflow, wait) as (opened, number):
        options = replace(options, store_variables=store_variables(opened), server_wait_seconds=wait)
        with scheduling(number, options.output_dir, is_on=allotment.task == 0):
            outcome = run_in_allocation(opened, number, allotment, options, inside)
        if outcome is None:
            rendering.note(f"the runner of {allotment.nodes[0]} has all nodes of this allocation")
            return
        if outcome.is_stuck and outcome.runner_id is not None and not SESSION.json:
            tell_what_is_left(opened, number, outcome.runner_id)
        if allotment.task == 0 and not SESSION.json:
            summarize(opened, number, options.output_dir)
        _plot_after_the_last(opened, number, options.output_dir)


def _plot_after_the_last(opened: Torc, number: int, folder: Path) -> None:
    """Plot the run where its spec asks for it, when it is over and no other runner is left that would."""
    from torc.api.runs import ListRunners
    from torc.api.workflows import GetWorkflow

    workflow = opened.send(GetWorkflow(workflow_id=number))
    is_over = workflow.state in {"completed", "failed"}
    if is_over and not any(runner.is_active for runner in opened.send(ListRunners(workflow_id=number)).items):
        plot_where_wanted(opened, workflow, folder)


def _allotment(inside: JobEnvironment) -> Allotment:
    """Read what this allocation gives, and ask the scheduler when it ends where no variable says so."""
    from torc.runner import hardware

    capacity, _ = hardware.node()
    found = inside.allotment(os.environ, num_cpus=capacity.num_cpus, memory_bytes=hardware.memory_limit())
    if found is None:
        raise Invalid(
            f"this is no allocation of {inside.type.label}: {inside.type.job_variable} is not set",
            hint="`torc submit` makes one and calls this in it; `torc run` runs a workflow here",
        )
    return found if found.end_time is not None else replace(found, end_time=inside.end_time(found.job_id))
