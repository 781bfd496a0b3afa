"""Small and random graphs for the tests of the core: `a b -> c` in one line, and hypothesis strategies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from hypothesis import strategies as st

from torc.workflow.gates import build_gates
from torc.workflow.graph import JobGraph, graph_of


class NamedGraph(NamedTuple):
    """A graph with the names of its jobs, in order of their indexes."""

    graph: JobGraph
    names: tuple[str, ...]

    def jobs(self, names: str) -> list[int]:
        """Return the indexes of `a b c`."""
        return [self.names.index(name) for name in names.split()]

    def called(self, jobs: Sequence[int]) -> str:
        """Return `a b c` for indexes."""
        return " ".join(self.names[job] for job in jobs)


def graph_from(text: str) -> NamedGraph:
    """Return the graph of `a b -> c, c -> d e`: each job on the right of an arrow waits for all on its left."""
    waits: dict[str, set[str]] = {}
    for part in text.split(","):
        columns = [column.split() for column in part.split("->")]
        for column in columns:
            for name in column:
                waits.setdefault(name, set())
        for before, behind in pairwise(columns):
            for name in behind:
                waits[name].update(before)
    names = tuple(waits)
    return NamedGraph(plain_graph([[names.index(other) for other in waits[name]] for name in names]), names)


def plain_graph(prerequisites: Sequence[Sequence[int]]) -> JobGraph:
    """Return the graph of the prerequisites of each job."""
    return graph_of(*build_gates([tuple(members) for members in prerequisites]))


@st.composite
def acyclic_prerequisites(draw: st.DrawFn, fewest_jobs: int = 0, most_jobs: int = 12) -> list[list[int]]:
    """Return prerequisites without a cycle. Sets recur, so that gates are shared, and order is no topological order."""
    count = draw(st.integers(fewest_jobs, most_jobs))
    rank = draw(st.permutations(range(count)))
    shared: list[list[int]] = []
    prerequisites: list[list[int]] = []
    for job in range(count):
        before = [other for other in range(count) if rank[other] < rank[job]]
        usable = [members for members in shared if all(rank[member] < rank[job] for member in members)]
        share = draw(st.booleans())
        if usable and share:
            members = draw(st.sampled_from(usable))
        else:
            members = draw(st.lists(st.sampled_from(before), unique=True, max_size=4)) if before else []
            shared.append(members)
        prerequisites.append(members)
    return prerequisites


def any_prerequisites(most_jobs: int = 8) -> st.SearchStrategy[list[list[int]]]:
    """Return prerequisites that may well contain cycles, of one job with itself too."""
    return st.integers(1, most_jobs).flatmap(
        lambda count: st.lists(
            st.lists(st.integers(0, count - 1), unique=True, max_size=3), min_size=count, max_size=count
        )
    )
