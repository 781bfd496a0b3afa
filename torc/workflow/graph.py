"""The dependency graph: order, stages, cycles, the critical path, and what is upstream or downstream of a job.

Everything here walks gates (distinct prerequisite sets, see `gates`), never single edges, and takes time linear in the number
of jobs and gate members: a barrier of M jobs before N jobs is M + N steps. Nothing recurses. Jobs and gates are
indexes. Job states are in `progress`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from torc.errors import Invalid


@dataclass(frozen=True, slots=True)
class JobGraph:
    """Jobs and gates, indexed in both directions. Created by `graph_of`."""

    gates: Sequence[tuple[int, ...]]  # the prerequisites of each gate
    gate_of: Sequence[int | None]  # the gate that each job waits for
    _held: array[int]  # gates that each job is a member of, concatenated
    _held_from: array[int]
    _waiters: array[int]  # jobs that wait for each gate, concatenated
    _waiters_from: array[int]

    def __len__(self) -> int:
        return len(self.gate_of)

    def gates_held_by(self, job: int) -> Sequence[int]:
        """Return the gates that have the job as a member."""
        return self._held[self._held_from[job] : self._held_from[job + 1]]

    def waiters(self, gate: int) -> Sequence[int]:
        return self._waiters[self._waiters_from[gate] : self._waiters_from[gate + 1]]

    def prerequisites(self, job: int) -> tuple[int, ...]:
        """Return the jobs that the job waits for, in order."""
        gate = self.gate_of[job]
        return () if gate is None else self.gates[gate]


def graph_of(gates: Sequence[tuple[int, ...]], gate_of: Sequence[int | None]) -> JobGraph:
    """Index gates (without duplicate members) and the gate of each job in both directions."""
    num_jobs, num_gates = len(gate_of), len(gates)
    held_from = _starts(num_jobs, chain.from_iterable(gates))
    held = array("q", bytes(8 * held_from[-1]))
    at = held_from[:-1]
    for number, members in enumerate(gates):
        for job in members:
            held[at[job]] = number
            at[job] += 1
    waiters_from = _starts(num_gates, (gate for gate in gate_of if gate is not None))
    waiters = array("q", bytes(8 * waiters_from[-1]))
    at = waiters_from[:-1]
    for job, gate in enumerate(gate_of):
        if gate is not None:
            waiters[at[gate]] = job
            at[gate] += 1
    return JobGraph(gates, gate_of, held, held_from, waiters, waiters_from)


def _starts(size: int, values: Iterable[int]) -> array[int]:
    """Count values below `size`; return where each value's run starts in a flat list, and the total at the end."""
    counts = array("q", bytes(8 * (size + 1)))
    for value in values:
        counts[value + 1] += 1
    return array("q", accumulate(counts))


def partial_order(graph: JobGraph) -> list[int]:
    """Return the jobs with each after its prerequisites. Jobs in or behind a cycle are left out."""
    remaining = [len(members) for members in graph.gates]
    order = [job for job, gate in enumerate(graph.gate_of) if gate is None]
    for job in order:  # grows during the loop
        for gate in graph.gates_held_by(job):
            remaining[gate] -= 1
            if not remaining[gate]:
                order.extend(graph.waiters(gate))
    return order


def topological_order(graph: JobGraph) -> list[int]:
    """Return all jobs with each after its prerequisites. Raises Invalid when there is a cycle."""
    order = partial_order(graph)
    if len(order) < len(graph):
        path = find_cycle(graph, order) or ()
        raise Invalid(
            f"{len(path) - 1} jobs wait for each other in a cycle: {' -> '.join(map(str, path))}",
            hint="call find_cycle first, which gives the jobs on the path",
            cycle=path,
        )
    return order


def find_cycle(graph: JobGraph, order: Sequence[int] | None = None) -> tuple[int, ...] | None:
    """Return a cycle as a path: each job is a prerequisite of the next, and the last is the first. None: no cycle.

    Returns a shortest cycle through the first job found, starting at its smallest job. `order` saves work if the caller
    already has `partial_order(graph)`.
    """
    if order is None:
        order = partial_order(graph)
    if len(order) == len(graph):
        return None
    stuck = bytearray(b"\1") * len(graph)
    for job in order:
        stuck[job] = 0
    # Every stuck job has a stuck prerequisite, so walking upstream must eventually repeat a job.
    job, seen = stuck.index(1), set[int]()
    while job not in seen:
        seen.add(job)
        job = next(member for member in graph.prerequisites(job) if stuck[member])
    path = _shortest_way_back(graph, job, stuck)
    smallest = path.index(min(path))
    return (*path[smallest:], *path[:smallest], path[smallest])


def _shortest_way_back(graph: JobGraph, start: int, stuck: bytearray) -> list[int]:
    """Return the jobs of a shortest cycle through `start`, which is known to be on one."""
    came_from: dict[int, int] = {}
    passed: set[int] = set()
    queue = deque((start,))
    while queue and start not in came_from:
        job = queue.popleft()
        for gate in graph.gates_held_by(job):
            if gate in passed:
                continue
            passed.add(gate)
            for behind in graph.waiters(gate):
                if stuck[behind] and behind not in came_from:
                    came_from[behind] = job
                    queue.append(behind)
    path, job = [start], came_from[start]
    while job != start:
        path.append(job)
        job = came_from[job]
    return path[::-1]


def cycle_text(path: Sequence[int], names: Sequence[str], *, most: int = 12) -> str:
    """Format a cycle: `a -> b -> a`, abbreviated in the middle if it is long."""
    shown = [names[job] for job in path]
    if len(shown) > most:
        half = most // 2
        shown[half:-half] = [f"... ({len(shown) - 2 * half} more) ..."]
    return " -> ".join(shown)


def stages(graph: JobGraph, due: Sequence[bool] | None = None) -> list[int]:
    """Return the stage of each job: 0 without prerequisites, otherwise one more than the highest among them. Raises Invalid.

    `due`: jobs that are not due have stage -1, and nothing waits for them. None: all are due.
    """
    stage = [-1] * len(graph)
    gate_stage: list[int | None] = [None] * len(graph.gates)
    for job in topological_order(graph):
        if due is not None and not due[job]:
            continue
        gate = graph.gate_of[job]
        if gate is None:
            stage[job] = 0
            continue
        known = gate_stage[gate]
        if known is None:
            known = gate_stage[gate] = 1 + max(stage[member] for member in graph.gates[gate])
        stage[job] = known
    return stage


def gate_stages(gates: Sequence[Sequence[int]], gate_of: Sequence[int | None]) -> list[int]:
    """Return the stage of the jobs behind each gate, like `stages`. The graph must be acyclic."""
    stage = [0] * len(gates)  # 0: unknown
    for first in range(len(gates)):
        path = [] if stage[first] else [first]
        while path:
            gate = path[-1]
            before = {at for job in gates[gate] if (at := gate_of[job]) is not None}
            unknown = [at for at in before if not stage[at]]
            if unknown:
                path += unknown
                continue
            stage[gate] = 1 + max((stage[at] for at in before), default=0)
            path.pop()
    return stage


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The longest chain of jobs, each of which waits for the one before."""

    seconds: float
    jobs: tuple[int, ...]


def earliest_ends(graph: JobGraph, runtimes: Sequence[float]) -> tuple[list[float], list[int | None]]:
    """Return when each job ends if only its prerequisites delay it, and for each gate the member that ends last.

    Times are in seconds since the start. Raises Invalid when there is a cycle.
    """
    end = [0.0] * len(graph)
    last: list[int | None] = [None] * len(graph.gates)
    for job in topological_order(graph):
        gate = graph.gate_of[job]
        start = 0.0
        if gate is not None:
            blocker = last[gate]
            if blocker is None:
                blocker = last[gate] = max(graph.gates[gate], key=end.__getitem__)
            start = end[blocker]
        end[job] = start + runtimes[job]
    return end, last


def critical_path(graph: JobGraph, runtimes: Sequence[float]) -> CriticalPath:
    """Return the longest chain: no schedule on any machine ends earlier. Runtimes are in seconds.

    Ties are resolved in favor of smaller indexes. Raises Invalid when there is a cycle.
    """
    end, last = earliest_ends(graph, runtimes)
    if not end:
        return CriticalPath(0.0, ())
    final = max(range(len(end)), key=end.__getitem__)
    path, gate = [final], graph.gate_of[final]
    while gate is not None:
        before = last[gate]
        assert before is not None, "a gate of a job that has an end has a last member"
        path.append(before)
        gate = graph.gate_of[before]
    return CriticalPath(end[final], tuple(reversed(path)))


def downstream(graph: JobGraph, jobs: Iterable[int]) -> list[int]:
    """Return the jobs and all that depend on them, directly or indirectly, each once, in the order found."""
    found = list(dict.fromkeys(jobs))
    met = bytearray(len(graph))
    for job in found:
        met[job] = 1
    passed = bytearray(len(graph.gates))
    for job in found:  # grows during the loop
        for gate in graph.gates_held_by(job):
            if passed[gate]:
                continue
            passed[gate] = 1
            for behind in graph.waiters(gate):
                if not met[behind]:
                    met[behind] = 1
                    found.append(behind)
    return found


def upstream(graph: JobGraph, jobs: Iterable[int]) -> list[int]:
    """Return the jobs and all that they depend on, directly or indirectly, each once, in the order found."""
    found = list(dict.fromkeys(jobs))
    met = bytearray(len(graph))
    for job in found:
        met[job] = 1
    passed = bytearray(len(graph.gates))
    for job in found:  # grows during the loop
        gate = graph.gate_of[job]
        if gate is None or passed[gate]:
            continue
        passed[gate] = 1
        for before in graph.gates[gate]:
            if not met[before]:
                met[before] = 1
                found.append(before)
    return found
