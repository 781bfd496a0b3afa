"""The remaining work of a workflow, in sums: how many jobs of each class, in which stage.

Allocation plans are made from this, so that their cost does not grow with the number of jobs. The plans themselves are in
`torc.schedulers.allocation_planning`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from torc.workflow.graph import JobGraph
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import FINISHED, State

#: finished, or will not run unless somebody resets it
_NOT_DUE = FINISHED | {State.PENDING_FAILED}


class StageDemand(NamedTuple):
    """The jobs of one class in one stage. They do not wait for each other."""

    stage: int  # 0: waits for nothing unfinished
    requirement: int  # index of the class
    num_jobs: int


class Demand(NamedTuple):
    """The remaining work. Cells are ordered by stage, then class."""

    names: tuple[str, ...]  # of the classes
    requests: tuple[ResourceRequest, ...]
    cells: tuple[StageDemand, ...]

    @property
    def num_jobs(self) -> int:
        return sum(cell.num_jobs for cell in self.cells)


class DemandPart(NamedTuple):
    """Jobs for which allocations are requested once all of them are ready."""

    jobs: tuple[int, ...]
    num_allocations: int


def due_jobs(states: Sequence[State] | None, num_jobs: int) -> Sequence[bool]:
    """Return for each job whether it still has to run; with None, all do."""
    return [True] * num_jobs if states is None else [state not in _NOT_DUE for state in states]


def sums(stage: Iterable[int], requirement_of: Iterable[int]) -> tuple[StageDemand, ...]:
    """Count jobs by stage and class."""
    counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    for key in zip(stage, requirement_of, strict=True):
        counts[key] += 1
    return tuple(StageDemand(*key, count) for key, count in sorted(counts.items()) if key[0] >= 0)


def jobs_in(cells: Collection[tuple[int, int]], stage: Sequence[int], requirement_of: Sequence[int]) -> list[int]:
    """Return the jobs of cells (stage, class), in order."""
    wanted = set(cells)
    return [job for job, key in enumerate(zip(stage, requirement_of, strict=True)) if key in wanted]


def parts(graph: JobGraph, jobs: Sequence[int], num_allocations: int, most_parts: int) -> list[DemandPart]:
    """Divide allocations among jobs that become ready at different times, so that each is requested when there is work for it.

    Jobs with the same prerequisites become ready together, so one stands for all. If that is true of all jobs, there is one part.
    """
    by_gate: defaultdict[int | None, list[int]] = defaultdict(list)
    for job in jobs:
        by_gate[graph.gate_of[job]].append(job)
    first = [(members[0], len(members)) for members in by_gate.values()]
    wanted = max(1, min(num_allocations, most_parts, len(first)))
    made, at, seen = [], 0, 0
    for number in range(1, wanted + 1):
        chosen: list[int] = []
        # each part takes gates up to its share of the jobs, at least one, and leaves one for each following part
        while at < len(first) - (wanted - number) and (
            not chosen or seen + first[at][1] <= len(jobs) * number / wanted
        ):
            chosen.append(first[at][0])
            seen += first[at][1]
            at += 1
        if number == wanted:
            chosen += [job for job, _ in first[at:]]
        upto, before = num_allocations * number // wanted, num_allocations * (number - 1) // wanted
        made.append(DemandPart(tuple(chosen), upto - before))
    return made
