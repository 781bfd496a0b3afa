"""Run jobs inside an allocation: what `torc slurm run-node` calls, once on each node or once for the whole allocation.

Normally each node has its own runner. When the workflow has multi-node jobs that fit into the allocation, the first runner
manages all nodes as a pool and starts everything as steps, and the others exit immediately. What is specific to the scheduler
is provided by a `JobEnvironment`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from torc.api.base import Torc
from torc.api.data import ListRequirements
from torc.api.jobs import ListJobs
from torc.api.pagination import items_of
from torc.api.runs import GetRunnerSettings
from torc.planning.scheduler_types import SchedulerType
from torc.runner.context import AllocationContext
from torc.runner.launcher import DirectLauncher, pinnable
from torc.runner.local_run import RunOptions, RunOutcome, run_here
from torc.runner.store_wait import PatientTorc
from torc.schedulers.allotment import Allotment, seconds_kept
from torc.units import human_duration
from torc.workflow.resources import Capacity, Pool

_LOG = logging.getLogger(__name__)
#: reserved before the end for reporting, after jobs have had their time to save
_REPORT_SECONDS = 5.0
_LEAST_GRACE = 2.0
_IDLE_SECONDS = 60.0
_SEE_SECONDS = 30.0
_PAGE = 1000


class StepOptions(NamedTuple):
    """How steps are started. `counts_only`: by number, so that they share what there is."""

    counts_only: bool = False
    scratch: str | None = None
    tasks_per_node: int = 1


class JobEnvironment(Protocol):
    """What a scheduler is asked from inside one of its allocations."""

    @property
    def type(self) -> SchedulerType:
        """Its names."""
        ...

    def allotment(self, environ: Mapping[str, str], *, num_cpus: int, memory_bytes: int) -> Allotment | None:
        """Read what the allocation gives from its variables; None: this is none. The machine itself has these CPUs and bytes."""
        ...

    def end_time(self, job_id: str) -> float | None:
        """Ask when an allocation ends, where no variable says so; None: it has no limit, or nobody can tell now."""
        ...

    def environ_of_jobs(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what of a runner's environment its jobs get."""
        ...

    def step_launcher(self, allotment: Allotment, options: StepOptions) -> Callable[[], DirectLauncher]:
        """Return what has the scheduler start jobs, on any node of the allocation. Raises Invalid where it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How to run in an allocation. None means detect it. `pool`: one runner for all nodes instead of one per node."""

    output_dir: Path
    allocation_id: int | None = None
    scheduler: str | None = None
    max_parallel_jobs: int | None = None
    pool: bool | None = None
    execution: str | None = None
    scratch: str | None = None
    tasks_per_node: int = 1
    visibility_delay_seconds: float = _SEE_SECONDS
    store_variables: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    server_wait_seconds: float = 0.0


def run_in_allocation(
    torc: Torc,
    workflow_id: int,
    allotment: Allotment,
    options: NodeOptions,
    inside: JobEnvironment,
) -> RunOutcome | None:
    """Run jobs here until nothing is left or the allocation ends; return None if another runner already has this node."""
    patient = PatientTorc(torc, options.server_wait_seconds)
    settings = patient.send(GetRunnerSettings(workflow_id=workflow_id)).settings
    is_pool = _is_pool(patient, workflow_id, allotment, options.pool, options.scheduler)
    if is_pool and allotment.task > 0:
        return None
    kept, leave_at = _end(allotment, settings.get("compute_node_expiration_buffer_seconds"))
    by_step = is_pool or (options.execution or settings.get("execution")) == "step"
    scratch = options.scratch or allotment.scratch
    wait = settings.get("compute_node_wait_for_new_jobs_seconds")
    _widen_affinity()
    pinned = () if by_step else pinnable(settings)
    given = AllocationContext(
        capacity=_capacity(allotment, is_pool),
        gpus=() if by_step else allotment.gpus,
        node=allotment.node,
        allocation_id=options.allocation_id,
        environ=inside.environ_of_jobs(os.environ),
        launcher=inside.step_launcher(
            allotment,
            StepOptions(options.max_parallel_jobs is not None and not is_pool, scratch, options.tasks_per_node),
        )
        if by_step
        else lambda: DirectLauncher(scratch, pinned),
        grace_seconds=max(_LEAST_GRACE, kept - _REPORT_SECONDS),
        gpu_variables=allotment.gpu_variables,
        lines_up=not by_step,
        visibility_delay_seconds=options.visibility_delay_seconds,
        idle_seconds=float(_IDLE_SECONDS if wait is None else wait),
    )
    return run_here(
        torc,
        workflow_id,
        RunOptions(
            output_dir=options.output_dir,
            max_parallel_jobs=options.max_parallel_jobs,
            kind=inside.type.name,
            labels={**options.labels, **({"scheduler": options.scheduler} if options.scheduler else {})},
            leave_at=leave_at,
            store_variables=options.store_variables,
            given=given,
            server_wait_seconds=options.server_wait_seconds,
        ),
    )


def _is_pool(torc: Torc, workflow_id: int, allotment: Allotment, wanted: bool | None, scheduler: str | None) -> bool:
    """Return whether the first runner manages all nodes. All runners must agree, whatever has already finished."""
    if len(allotment.nodes) == 1:
        return False
    if wanted is not None or allotment.is_alone:
        return True if wanted is None else wanted
    classes = items_of(torc, ListRequirements(workflow_id=workflow_id, limit=_PAGE))
    return any(
        job.scheduler in {None, scheduler}
        for each in classes
        if 1 < each.num_nodes <= len(allotment.nodes)
        for job in items_of(torc, ListJobs(workflow_id=workflow_id, requirement_id=each.id, limit=_PAGE))
    )


def _capacity(allotment: Allotment, is_pool: bool) -> Capacity | Pool:
    return Pool(allotment.capacities) if is_pool else allotment.here


def _end(allotment: Allotment, buffer_seconds: float | None) -> tuple[float, float | None]:
    """Return how many seconds before the end jobs must stop, and when the allocation ends on the monotonic clock."""
    if allotment.end_time is None:
        _LOG.warning("the end time of allocation %s is unknown: relying on its signals", allotment.job_id)
        return seconds_kept(0.0, buffer_seconds), None
    left = allotment.end_time - time.time()
    kept = seconds_kept(left, buffer_seconds)
    _LOG.info(
        "allocation %s ends in %s; jobs may run until %s before that", allotment.job_id, human_duration(left), kept
    )
    return kept, time.monotonic() + max(0.0, left - kept)


def _widen_affinity() -> None:
    """Use all CPUs of the allocation: `srun` may have bound the runner to one CPU, and jobs would inherit that."""
    count = os.cpu_count() or 1
    try:
        os.sched_setaffinity(0, range(count))  # the kernel drops what the control group does not allow
    except OSError:
        return
