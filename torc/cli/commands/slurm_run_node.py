"""`torc slurm run-node`: what `srun` starts on the nodes of an allocation."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.commands.run import (
    MaxJobs,
    OutputDir,
    output_folder,
    plot_where_wanted,
    store_variables,
    summarize,
    tell_what_is_left,
)
from torc.cli.session import SESSION
from torc.cli.store_wait import DEFAULT_SECONDS, ServerWait, torc_when_it_answers, wait_seconds
from torc.errors import Invalid
from torc.schedulers.allotment import Allotment
from torc.schedulers.inside_job import JobEnvironment, NodeOptions, run_in_allocation

Allocation = Annotated[int | None, typer.Option("--allocation", metavar="ID", help="Torc's id of the allocation.")]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Take jobs that name this Slurm scheduler, in addition to those that name none."),
]
Pooled = Annotated[
    bool | None,
    typer.Option(
        "--pool/--runner-per-node",
        help="One runner for all nodes, which starts steps on them, or one runner per node. Default: a pool if "
        "jobs on several nodes fit into the allocation.",
    ),
]
Execution = Annotated[
    str | None,
    typer.Option("--execution", metavar="direct|step", help="How to start jobs; default: as the workflow sets it."),
]
Scratch = Annotated[
    Path | None,
    typer.Option(
        "--scratch", help="Folder on a local disk in which each attempt gets its own TMPDIR; default: SLURM_TMPDIR."
    ),
]
TasksPerNode = Annotated[
    int, typer.Option("--ntasks-per-node", min=1, help="Tasks per node for jobs on several nodes.")
]
OutputWait = Annotated[
    float,
    typer.Option(
        "--output-wait", min=0, help="Seconds to wait for an output that appears late on a shared file system."
    ),
]


def run_node(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: Annotated[str, typer.Argument(help="Id or name of the workflow.")],
    allocation: Allocation = None,
    scheduler: Scheduler = None,
    max_parallel_jobs: MaxJobs = None,
    pool: Pooled = None,
    execution: Execution = None,
    scratch: Scratch = None,
    tasks_per_node: TasksPerNode = 1,
    output_wait: OutputWait = 30.0,
    server_wait: ServerWait = None,
    output_dir: OutputDir = None,
) -> None:
    """Run jobs in this allocation until none are left or its time is over. Torc's batch scripts call this with srun.

    Exit code 0, whatever the results of the jobs; 5 if the server or database still does not answer after a wait.

    Example: srun --ntasks-per-node=1 --wait=0 --kill-on-bad-exit=0 --overlap torc slurm run-node 12
    """
    from torc.cli.allocation_upkeep import scheduling
    from torc.schedulers.slurm.inside_job import SlurmJob

    if execution not in {None, "direct", "step"}:
        raise Invalid(f"--execution: there is no `{execution}`", hint="direct or step")
    wait = wait_seconds(server_wait, default=DEFAULT_SECONDS)
    inside = SlurmJob()
    allotment = _allotment(inside)
    options = NodeOptions(
        output_dir=output_folder(output_dir),
        allocation_id=allocation,
        scheduler=scheduler,
        max_parallel_jobs=max_parallel_jobs,
        pool=pool,
        execution=execution,
        scratch=None if scratch is None else str(scratch),
        tasks_per_node=tasks_per_node,
        see_seconds=output_wait,
    )
    wait = allotment.at_most(wait, time.time())
    with torc_when_it_answers(workflow, wait) as (opened, number):
        options = replace(options, store_variables=store_variables(opened), server_wait_seconds=wait)
        with scheduling(number, options.output_dir, is_on=allotment.task == 0):
            outcome: Any = run_in_allocation(opened, number, allotment, options, inside)
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
    """Read what this allocation gives, and ask Slurm when it ends where no variable says so."""
    from torc.runner import hardware

    capacity, _ = hardware.node()
    found = inside.allotment(os.environ, num_cpus=capacity.num_cpus, memory_bytes=hardware.memory_limit())
    if found is None:
        raise Invalid(
            "this is no allocation of Slurm: SLURM_JOB_ID is not set",
            hint="`torc submit` makes one and calls this in it; `torc run` runs a workflow here",
        )
    return found if found.end_time is not None else replace(found, end_time=inside.end_time(found.job_id))


COMMANDS = {"run-node": run_node}
