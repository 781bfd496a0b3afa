"""What charts show: attempts as they ended, and what was seen of them while they ran. Times are in seconds since the run began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torc.workflow.resources import ResourceRequest


@dataclass(frozen=True, slots=True)
class ChartedAttempt:
    """One execution of a job. `state` is what it ended as: completed, failed, terminated, canceled; or running."""

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
        """Return how long it ran."""
        return max(0.0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Series:
    """What an attempt used over its time, sample by sample. `times` begin at its start; `cpus` are those that were busy since
    the sample before."""

    job_id: int
    attempt: int
    name: str
    group: str
    start: float
    request: ResourceRequest
    times: Sequence[float]
    cpus: Sequence[float]
    memory_bytes: Sequence[int]
    gpus: Sequence[float] = ()  # busy ones; empty where there are none
    gpu_memory_bytes: Sequence[int] = ()


_Item = TypeVar("_Item", ChartedAttempt, Series)


def by_group(items: Sequence[_Item]) -> dict[str, list[_Item]]:
    """Sort by requirement class, the largest class first."""
    found: dict[str, list[_Item]] = {}
    for item in items:
        found.setdefault(item.group, []).append(item)
    return dict(sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0])))
