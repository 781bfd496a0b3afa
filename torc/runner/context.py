"""Where a runner works, and what a display shows about it. Values only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torc.runner.launcher import DirectLauncher
from torc.runner.monitor import Monitoring
from torc.workflow.resources import Capacity, Pool


@dataclass(frozen=True, slots=True)
class RunnerContext:
    run_id: int
    output_dir: str
    mark: str  # identifies this runner in TORC_RUNNER; runners can be nested
    environ: Mapping[str, str]
    monitoring: Monitoring = field(default_factory=Monitoring)
    clock: Callable[[], float] = time.time
    gpu_variables: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES",)
    visibility_delay_seconds: float = 0.0  # output written by a job may appear this much later here
    warning_seconds: float = 0.0  # after a warning nothing runs longer than this
    signal_seconds: float = 0.0  # the runner may receive a signal this much later than the job that it ended


@dataclass(frozen=True, slots=True)
class RunnerView:
    running: tuple[tuple[int, str, float, int], ...]  # job id, name, elapsed seconds, memory in bytes
    queued: int
    num_completed: int
    num_failed: int
    unreachable_seconds: float | None


@dataclass(frozen=True, slots=True)
class AllocationContext:
    """What an allocation provides to a runner, in addition to the settings of all runners."""

    capacity: Capacity | Pool
    gpus: tuple[str, ...]  # device names, where the runner assigns GPUs to jobs
    node: str  # the cluster's name for it
    allocation_id: int | None
    environ: Mapping[str, str]
    launcher: Callable[[], DirectLauncher]
    grace_seconds: float
    gpu_variables: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES",)
    lines_up: bool = True
    visibility_delay_seconds: float = 0.0
    signal_seconds: float = 3.0
    warning_seconds: float = 60.0
    idle_seconds: float = 60.0
