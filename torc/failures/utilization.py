"""Compare what jobs used with what they requested: too much, or far too little. `resource_adjustment` changes requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc.units import human_bytes, human_duration
from torc.workflow.resources import ResourceRequest

#: below these shares a smaller request is worthwhile: more jobs fit on a node, and a queue starts them sooner
_LITTLE_MEMORY, _LITTLE_TIME, _LITTLE_CPU = 0.5, 0.25, 0.5
_LEAST_MEMORY, _LEAST_SECONDS = 256 << 20, 600
#: even a single-threaded process uses slightly more than one CPU: its start counts, and clocks are coarse
_CPU_SLACK = 1.1
_LEAST_CPU_SECONDS = 1.0
#: a job that ran out of memory at this share was stopped at its limit, which its peak cannot exceed
_NEARLY = 0.9


@dataclass(frozen=True, slots=True)
class UsageSpread:
    """Distribution of use: the median, the 95th percentile and the maximum."""

    median: float
    p95: float
    most: float


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    memory_bytes: int
    wall_seconds: float
    cpu_seconds: float
    ran_out_of_memory: bool = False

    @property
    def cpus(self) -> float:
        """Return the average number of busy CPUs."""
        return self.cpu_seconds / self.wall_seconds if self.wall_seconds > 0 else 0.0


def spread(values: Sequence[float]) -> UsageSpread:
    """Summarize values, of which there must be at least one. Quantiles use the nearest rank, so they are actual values."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return UsageSpread(ordered[last // 2], ordered[min(last, -(-95 * len(ordered) // 100) - 1)], ordered[last])


def exceeded(request: ResourceRequest, used: AttemptUsage) -> list[tuple[str, float, float]]:
    """Return (resource, requested, used) for each resource of which an attempt used more than it requested, or all of it."""
    found: list[tuple[str, float, float]] = []
    least = _NEARLY * request.memory_bytes if used.ran_out_of_memory else request.memory_bytes + 1
    if request.asks_memory and used.memory_bytes >= least:
        found.append(("memory", request.memory_bytes, used.memory_bytes))
    if used.wall_seconds > request.runtime_seconds:
        found.append(("runtime", request.runtime_seconds, used.wall_seconds))
    if used.cpu_seconds >= _LEAST_CPU_SECONDS and used.cpus > _CPU_SLACK * request.num_cpus:
        found.append(("cpus", request.num_cpus, used.cpus))
    return found


def advice(request: ResourceRequest, memory: UsageSpread, wall: UsageSpread, cpus: UsageSpread) -> list[str]:
    """Return the resources of which a class requests far more than its jobs use."""
    found = []
    if request.memory_bytes >= _LEAST_MEMORY and memory.most < _LITTLE_MEMORY * request.memory_bytes:
        found.append(f"requests {human_bytes(request.memory_bytes)}, used at most {human_bytes(memory.most)}")
    if request.runtime_seconds >= _LEAST_SECONDS and wall.most < _LITTLE_TIME * request.runtime_seconds:
        asked, most = human_duration(request.runtime_seconds), human_duration(max(1, int(wall.most)))
        found.append(f"requests {asked}, ran at most {most}")
    if request.num_cpus > 1 and cpus.p95 < _LITTLE_CPU * request.num_cpus:
        found.append(f"requests {request.num_cpus} CPUs, kept {cpus.p95:.1f} busy")
    return found
