"""What a large workflow will need, estimated from sums over stages and classes instead of a simulation (`analysis`).

The lower figure is a bound. The upper figure is the length of a feasible schedule, but not a bound for runners: they start jobs as
they become ready, which may take longer (R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc.planning.demand import StageDemand
from torc.workflow.packing import how_many_fit
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.simulation import ResourceUse


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimates for a workload, in seconds, based on the requested runtimes."""

    longest_path_seconds: int  # no chain of jobs takes longer
    lower_seconds: float  # no schedule on the node is shorter
    upper_seconds: float | None  # runs stage after stage, class after class; None: a class does not fit
    peak: ResourceUse  # of the largest stage, when all of it runs at once
    cpu_seconds: int
    gpu_seconds: int


def estimate(
    requests: Sequence[ResourceRequest], cells: Sequence[StageDemand], path_seconds: float, node: Capacity
) -> Estimate:
    """Estimate a workload on one node. `path_seconds`: the length of some chain of its jobs."""
    cpu = gpu = memory = 0
    longest: dict[int, int] = {}
    uses: dict[int, ResourceUse] = {}
    upper: float | None = 0.0
    for stage, number, count in cells:
        request = requests[number]
        seconds = count * request.num_nodes * request.runtime_seconds
        cpu += seconds * request.num_cpus
        gpu += seconds * request.num_gpus
        memory += seconds * request.memory_bytes
        longest[stage] = max(longest.get(stage, 0), request.runtime_seconds)
        uses[stage] = uses.get(stage, ResourceUse()).plus(request, count)
        at_once = how_many_fit(request, node)
        upper = None if upper is None or not at_once else upper + -(-count // at_once) * request.runtime_seconds
    peak = ResourceUse()
    for use in uses.values():
        peak = peak.maximum(use)
    supplies = ((cpu, node.num_cpus), (memory, node.memory_bytes), (gpu, node.num_gpus))
    area = max((work / supply for work, supply in supplies if supply), default=0.0)
    lower = max(area, path_seconds, *longest.values(), 0.0)
    return Estimate(sum(longest.values()), lower, upper, peak, cpu, gpu)
