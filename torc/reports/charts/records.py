"""The data of charts: attempts, and samples of their use. Times are in seconds since the start of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torc.workflow.resources import ResourceRequest


@dataclass(frozen=True, slots=True)
class ChartedAttempt:
    """One execution of a job. `state` is its final state (completed, failed, terminated, canceled) or running."""

    job_id: int
    attempt: int
    name: str
    group: str  # name of its requirement class
    state: str
    start: float
    end: float
    request: ResourceRequest
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    why: str = ""

    @property
    def seconds(self) -> float:
        return max(0.0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of an attempt's use. `times` are since its start; `cpus` are the CPUs busy since the previous sample."""

    job_id: int
    attempt: int
    name: str
    group: str
    start: float
    request: ResourceRequest
    times: Sequence[float]
    cpus: Sequence[float]
    memory_bytes: Sequence[int]
    gpus: Sequence[float] = ()  # busy GPUs; empty without GPUs
    gpu_memory_bytes: Sequence[int] = ()


_Item = TypeVar("_Item", ChartedAttempt, Series)


def by_group(items: Sequence[_Item]) -> dict[str, list[_Item]]:
    """Group by requirement class, the largest class first."""
    found: dict[str, list[_Item]] = {}
    for item in items:
        found.setdefault(item.group, []).append(item)
    return dict(sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0])))
