"""`torc slurm run-node`: what `srun` starts on the nodes of an allocation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import render
from torc.cli.run import output_folder, store_variables, summarize
from torc.cli.session import SESSION, torc, workflow_id
from torc.core.allotment import read
from torc.errors import Invalid


def run_node(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: Annotated[str, typer.Argument(help="Id or name of the workflow.")],
    allocation: Annotated[
        int | None, typer.Option("--allocation", metavar="ID", help="The allocation, as Torc numbers it.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Take jobs that name this Slurm scheduler, beside those that name none.")
    ] = None,
    max_parallel_jobs: Annotated[
        int | None, typer.Option("--max-parallel-jobs", "-j", min=1, help="Run this many at once, whatever they ask for.")
    ] = None,
    pool: Annotated[
        bool | None,
        typer.Option(
            "--pool/--runner-per-node",
            help="One runner for all nodes, which starts steps on them, or one for each node. Default: a pool where jobs of "
            "several nodes fit into the allocation.",
        ),
    ] = None,
    execution: Annotated[
        str | None, typer.Option("--execution", metavar="direct|step", help="How to start jobs; default: as the workflow says.")
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", help="Folder on local disk in which each attempt gets a TMPDIR of its own; default: SLURM_TMPDIR."),
    ] = None,
    tasks_per_node: Annotated[
        int, typer.Option("--ntasks-per-node", min=1, help="Tasks on each node of jobs of several nodes.")
    ] = 1,
    see_seconds: Annotated[
        float, typer.Option("--output-wait", min=0, help="Seconds to wait for an output that a shared file system shows late.")
    ] = 30.0,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder for logs; default: torc_output.", show_default=False)
    ] = None,
) -> None:  # fmt: skip
    """Run jobs in this allocation until nothing is left or its time is over. The batch scripts of Torc call this with srun.

    Exit code 0, whatever became of the jobs: the store knows.

    Example: srun --ntasks-per-node=1 --wait=0 --kill-on-bad-exit=0 --overlap torc slurm run-node 12
    """
    from dataclasses import replace

    from torc.runner import hardware
    from torc.runner.allocation import NodeOptions, run_in_allocation
    from torc.slurm import node

    if execution not in {None, "direct", "step"}:
        raise Invalid(f"--execution: there is no `{execution}`", hint="direct or step")
    capacity, _ = hardware.node()
    allotment = read(os.environ, num_cpus=capacity.num_cpus, memory_bytes=hardware.memory_limit())
    if allotment is None:
        raise Invalid(
            "this is no allocation of Slurm: SLURM_JOB_ID is not set",
            hint="`torc submit` makes one and calls this in it; `torc run` runs a workflow here",
        )
    if allotment.end_time is None:
        allotment = replace(allotment, end_time=node.end_time(allotment.job_id))
    options = NodeOptions(
        output_dir=output_folder(output_dir),
        allocation_id=allocation,
        scheduler=scheduler,
        max_parallel_jobs=max_parallel_jobs,
        pool=pool,
        execution=execution,
        scratch=None if scratch is None else str(scratch),
        tasks_per_node=tasks_per_node,
        see_seconds=see_seconds,
    )
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        options = replace(options, store_variables=store_variables(opened))
        outcome: Any = run_in_allocation(opened, number, allotment, options, node.signal_step)
        if outcome is None:
            render.note(f"the runner of {allotment.nodes[0]} has all nodes of this allocation")
            return
        if allotment.task == 0 and not SESSION.json:
            summarize(opened, number, options.output_dir)
