"""What a workflow will need, before it runs: stages, critical path, resource peaks, hours, expected makespan.

All figures depend on the requested runtimes, which are upper limits in most specs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torc.workflow.graph import CriticalPath, critical_path, earliest_ends, stages
from torc.workflow.packing import never_fits
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.simulation import ResourceUse, Workload, simulate
from torc.workflow.states import FINISHED, State

#: Simulating more jobs than this takes longer than people want to wait.
MOST_SIMULATED = 250_000


@dataclass(frozen=True, slots=True)
class Stage:
    """The jobs at the same distance from the start. They do not wait for each other."""

    number: int
    num_jobs: int
    classes: tuple[tuple[int, int], ...]  # (requirement class, its jobs in this stage), most jobs first
    use: ResourceUse  # when all of them run at once
    longest_seconds: int


@dataclass(frozen=True, slots=True)
class UnrunnableClass:
    """A requirement class that fits on no node."""

    request: int
    num_jobs: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkflowAnalysis:
    """The analysis of a workflow. Finished jobs are left out of every figure."""

    num_jobs: int
    num_finished: int
    stages: tuple[Stage, ...]
    critical_path: CriticalPath
    peak: ResourceUse  # when every ready job runs at once
    cpu_seconds: int
    gpu_seconds: int
    lower_bound_seconds: float  # no schedule on the nodes is shorter
    makespan_seconds: float | None  # on the nodes; None: a job fits nowhere, or there are too many jobs
    peak_on_nodes: ResourceUse | None
    misfits: tuple[UnrunnableClass, ...]


def analyze(
    workload: Workload,
    nodes: Sequence[Capacity],
    *,
    states: Sequence[State] | None = None,
    max_parallel_jobs: int | None = None,
) -> WorkflowAnalysis:
    """Analyze a workload on nodes. Raises Invalid when jobs wait for each other in a cycle."""
    todo = [True] * len(workload.graph) if states is None else [state not in FINISHED for state in states]
    runtimes = [float(workload.request(job).runtime_seconds) if due else 0.0 for job, due in enumerate(todo)]
    path = critical_path(workload.graph, runtimes)
    path = CriticalPath(path.seconds, tuple(job for job in path.jobs if todo[job]))
    counts = Counter(workload.request_of[job] for job, due in enumerate(todo) if due)
    cpu_seconds, gpu_seconds = _work(workload, counts)
    unfit = () if max_parallel_jobs is not None else misfits(workload.requests, nodes, counts)
    makespan, peak_on_nodes = None, None
    if not unfit and sum(todo) <= MOST_SIMULATED:
        simulation = simulate(workload, nodes, states=states, max_parallel_jobs=max_parallel_jobs)
        if not simulation.unplaced:
            makespan, peak_on_nodes = simulation.makespan_seconds, simulation.peak
    return WorkflowAnalysis(
        num_jobs=sum(todo),
        num_finished=len(todo) - sum(todo),
        stages=_stages(workload, todo),
        critical_path=path,
        peak=_peak(workload, runtimes, todo),
        cpu_seconds=cpu_seconds,
        gpu_seconds=gpu_seconds,
        lower_bound_seconds=max(path.seconds, _area_bound(workload, nodes, counts, max_parallel_jobs)),
        makespan_seconds=makespan,
        peak_on_nodes=peak_on_nodes,
        misfits=unfit,
    )


def _stages(workload: Workload, todo: Sequence[bool]) -> tuple[Stage, ...]:
    by_stage: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for job, number in enumerate(stages(workload.graph)):
        if todo[job]:
            by_stage[number][workload.request_of[job]] += 1
    found = []
    for number, counts in sorted(by_stage.items()):
        use = ResourceUse()
        for request, count in counts.items():
            use = use.plus(workload.requests[request], count)
        longest = max(workload.requests[request].runtime_seconds for request in counts)
        found.append(Stage(number, counts.total(), tuple(counts.most_common()), use, longest))
    return tuple(found)


def _peak(workload: Workload, runtimes: Sequence[float], todo: Sequence[bool]) -> ResourceUse:
    """Return the peak use of a run delayed only by prerequisites, by sweeping over its starts and ends."""
    ends, _ = earliest_ends(workload.graph, runtimes)
    deltas: Counter[tuple[float, int]] = Counter()
    for job, end in enumerate(ends):
        if todo[job]:
            deltas[end, workload.request_of[job]] -= 1
            deltas[end - runtimes[job], workload.request_of[job]] += 1
    use = peak = ResourceUse()
    at = 0.0
    for (time, request), count in sorted(deltas.items()):
        if time != at:
            peak, at = peak.maximum(use), time
        use = use.plus(workload.requests[request], count)
    return peak.maximum(use)


def _work(workload: Workload, counts: Counter[int]) -> tuple[int, int]:
    cpu_seconds = gpu_seconds = 0
    for number, count in counts.items():
        request = workload.requests[number]
        seconds = count * request.num_nodes * request.runtime_seconds
        cpu_seconds += seconds * request.num_cpus
        gpu_seconds += seconds * request.num_gpus
    return cpu_seconds, gpu_seconds


def _area_bound(
    workload: Workload, nodes: Sequence[Capacity], counts: Counter[int], max_parallel_jobs: int | None
) -> float:
    """Return the least time in which the nodes can supply all requested CPU, memory and GPU seconds."""
    asked = [(count, workload.requests[number]) for number, count in counts.items()]
    if max_parallel_jobs is not None:
        return sum(count * request.runtime_seconds for count, request in asked) / max_parallel_jobs
    areas = [(count * request.num_nodes * request.runtime_seconds, request) for count, request in asked]
    pairs = (
        (sum(area * request.num_cpus for area, request in areas), sum(node.num_cpus for node in nodes)),
        (sum(area * request.memory_bytes for area, request in areas), sum(node.memory_bytes for node in nodes)),
        (sum(area * request.num_gpus for area, request in areas), sum(node.num_gpus for node in nodes)),
    )
    return max((work / supply for work, supply in pairs if supply), default=0.0)


def misfits(
    requests: Sequence[ResourceRequest], nodes: Sequence[Capacity], counts: Counter[int]
) -> tuple[UnrunnableClass, ...]:
    """Return the classes with jobs that fit on no node."""
    found = []
    for number, count in sorted(counts.items()):
        request = requests[number]
        single = request._replace(num_nodes=1)
        if sum(node.fits(single) for node in nodes) >= request.num_nodes:
            continue
        reasons = [reason for node in nodes if (reason := never_fits(single, node))]
        reason = min(reasons, key=len) if reasons else f"needs {request.num_nodes} nodes (there are {len(nodes)})"
        found.append(UnrunnableClass(number, count, reason))
    return tuple(found)
