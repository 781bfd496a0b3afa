"""What a runner in an allocation of Slurm is given, what it asks, and how it has Slurm start jobs as steps.

When the allocation ends, and to signal one of its steps: one command each, seldom.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torc.errors import Invalid, Unavailable
from torc.planning.scheduler_types import SCHEDULER_TYPES, SchedulerType
from torc.runner.launcher import DirectLauncher
from torc.schedulers.allotment import Allotment
from torc.schedulers.inside_job import StepOptions
from torc.schedulers.slurm import commands, fields
from torc.schedulers.slurm import environ as variables
from torc.schedulers.slurm.step.launcher import StepAllocation, StepLauncher

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """An allocation of Slurm from inside: a `torc.schedulers.inside_job.JobEnvironment`."""

    type: SchedulerType = SCHEDULER_TYPES["slurm"]

    def allotment(self, environ: Mapping[str, str], *, num_cpus: int, memory_bytes: int) -> Allotment | None:
        """Read SLURM_JOB_ID and the other variables."""
        return variables.read(environ, num_cpus=num_cpus, memory_bytes=memory_bytes)

    def end_time(self, job_id: str) -> float | None:
        """Ask squeue for the time that is left."""
        return _end_time(job_id)

    def environ_of_jobs(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Leave out the step that the runner itself is."""
        return variables.environ_of_jobs(environ)

    def step_launcher(self, allotment: Allotment, options: StepOptions) -> Callable[[], DirectLauncher]:
        """Have srun start jobs."""
        srun = shutil.which("srun")
        if srun is None:
            raise Invalid(
                "`srun` is not installed on this node", hint="set `execution: direct`, or have Slurm's commands in PATH"
            )
        allocated = StepAllocation(
            srun=srun,
            job_id=allotment.job_id,
            node=allotment.node,
            nodes=allotment.nodes,
            signal_step=lambda name, number: _signal_step(allotment.job_id, name, number),
            counts_memory=allotment.counts_memory,
            counts_only=options.counts_only,
            scratch=options.scratch,
            tasks_per_node=options.tasks_per_node,
        )
        return lambda: StepLauncher(allocated)


def _end_time(job_id: str) -> float | None:
    """Return when an allocation ends, in seconds since the epoch; None: it has no limit, or Slurm cannot tell now."""
    ask = ["squeue", "--noheader", f"--jobs={job_id}", "--format=%L"]
    try:
        left = fields.duration(commands.run(ask, patience=_PATIENCE_SECONDS))
    except (Unavailable, Invalid):
        return None
    return None if left is None else time.time() + left


def _signal_step(job_id: str, name: str, number: str | None) -> None:
    """Send SIGTERM to the processes of a step, by its number, or by its name where that is not known.

    What goes wrong is borne: SIGKILL follows.
    """
    try:
        if number is None:
            number = _number_of(job_id, name)
        if number is not None:
            commands.run(["scancel", "--signal=TERM", f"{job_id}.{number}"], patience=0.0)
    except (Unavailable, Invalid):
        return


def _number_of(job_id: str, name: str) -> str | None:
    listed = commands.run(["squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%i|%j"], patience=0.0)
    for line in listed.splitlines():
        step, _, named = line.strip().partition("|")
        if named == name:
            return step.rpartition(".")[2]
    return None
