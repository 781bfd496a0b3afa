"""Where a runner works, and what a display may show of it. Values only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torc.runner.launcher import DirectLauncher
from torc.runner.monitor import Monitoring
from torc.workflow.resources import Capacity, Pool


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """Where attempts run and write."""

    run_id: int
    output_dir: str
    mark: str  # names this runner in TORC_RUNNER, beside runners that it runs in
    environ: Mapping[str, str]
    monitoring: Monitoring = field(default_factory=Monitoring)
    clock: Callable[[], float] = time.time
    gpu_variables: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES",)
    see_seconds: float = 0.0  # what a job wrote may show so much later here
    warned_seconds: float = 0.0  # after a warning, nothing runs longer
    signal_seconds: float = 0.0  # a signal that ended a job may reach the runner so much later


@dataclass(frozen=True, slots=True)
class RunnerView:
    """What a display may show of a runner."""

    running: tuple[tuple[int, str, float, int], ...]  # job id, name, elapsed seconds, memory in bytes
    queued: int
    num_completed: int
    num_failed: int
    unreachable_seconds: float | None


@dataclass(frozen=True, slots=True)
class AllocationContext:
    """What an allocation gives to a runner, beside what is set for all runners."""

    capacity: Capacity | Pool
    gpus: tuple[str, ...]  # by name, where the runner gives them to jobs
    node: str  # as the cluster names it
    allocation_id: int | None
    environ: Mapping[str, str]
    launcher: Callable[[], DirectLauncher]
    grace_seconds: float
    gpu_variables: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES",)
    lines_up: bool = True
    see_seconds: float = 0.0
    signal_seconds: float = 3.0
    warned_seconds: float = 60.0
    idle_seconds: float = 60.0
