"""Where a runner works, and what a display may show of it. Values only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torc.runner.monitor import Monitoring


@dataclass(frozen=True, slots=True)
class Place:
    """Where attempts run and write."""

    run_id: int
    output_dir: str
    mark: str  # names this runner in TORC_RUNNER, beside runners that it runs in
    environ: Mapping[str, str]
    monitoring: Monitoring = field(default_factory=Monitoring)
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class View:
    """What a display may show of a runner."""

    running: tuple[tuple[int, str, float, int], ...]  # job id, name, elapsed seconds, memory in bytes
    queued: int
    num_completed: int
    num_failed: int
    unreachable_seconds: float | None
