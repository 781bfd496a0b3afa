"""`torc slurm run-node`: what `srun` starts on the nodes of an allocation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torc.cli.commands.run import (
    MaxJobs,
    OutputDir,
    output_folder,
)
from torc.cli.store_wait import ServerWait

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
    from torc.cli.run_node import run_on_node
    from torc.schedulers.inside_job import NodeOptions
    from torc.schedulers.slurm.inside_job import SlurmJob

    options = NodeOptions(
        output_dir=output_folder(output_dir),
        allocation_id=allocation,
        scheduler=scheduler,
        max_parallel_jobs=max_parallel_jobs,
        pool=pool,
        execution=execution,
        scratch=None if scratch is None else str(scratch),
        tasks_per_node=tasks_per_node,
        visibility_delay_seconds=output_wait,
    )
    run_on_node(SlurmJob(), workflow, options, server_wait)


COMMANDS = {"run-node": run_node}
