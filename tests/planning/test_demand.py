"""What is left of a workflow in sums, and which jobs make later allocations due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.planning.demand import StageDemand, due_jobs, jobs_in, parts, sums
from torc.workflow.graph import graph_of, stages
from torc.workflow.states import State

#: 0, 1 -> 2, 3 (both wait for both); 4 waits for 2; 5 waits for 3
GRAPH = graph_of([(0, 1), (2,), (3,)], [None, None, 0, 0, 1, 2])


def test_stages_count_from_what_is_left() -> None:
    assert stages(GRAPH, due_jobs(None, 6)) == [0, 0, 1, 1, 2, 2]
    states = [State.COMPLETED, State.COMPLETED, State.READY, State.COMPLETED, State.BLOCKED, State.READY]
    assert stages(GRAPH, due_jobs(states, 6)) == [-1, -1, 0, -1, 1, 0]
    assert not any(due_jobs([State.PENDING_FAILED, State.FAILED, State.DISABLED], 3))


def test_jobs_are_counted_by_stage_and_class() -> None:
    stage, classes = [0, 0, 1, 1, -1, 2], [0, 1, 1, 1, 1, 0]
    assert sums(stage, classes) == (
        StageDemand(0, 0, 1),
        StageDemand(0, 1, 1),
        StageDemand(1, 1, 2),
        StageDemand(2, 0, 1),
    )
    assert jobs_in([(1, 1), (2, 0)], stage, classes) == [2, 3, 5]


def test_jobs_behind_one_barrier_make_all_allocations_due_together() -> None:
    graph = graph_of([(0,)], [None, *[0] * 100])
    (part,) = parts(graph, range(1, 101), 8, 20)
    assert part.jobs == (1,)
    assert part.num_allocations == 8


def test_allocations_for_jobs_that_become_ready_one_by_one_are_asked_for_in_turn() -> None:
    graph = graph_of([(at,) for at in range(10)], [None] * 10 + list(range(10)))
    made = parts(graph, range(10, 20), 5, 20)
    assert [part.jobs for part in made] == [(10, 11), (12, 13), (14, 15), (16, 17), (18, 19)]
    assert [part.num_allocations for part in made] == [1] * 5


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 30), st.integers(1, 8))
def test_every_gate_and_every_allocation_is_in_some_part(gates: list[int], allocations: int, most: int) -> None:
    graph = graph_of([(at,) for at in range(13)], [None] * 13 + list(gates))
    jobs = range(13, 13 + len(gates))
    made = parts(graph, jobs, allocations, most)
    assert len(made) <= min(most, allocations)
    assert sum(part.num_allocations for part in made) == allocations
    assert all(part.jobs and part.num_allocations for part in made)
    assert sorted(graph.gate_of[job] for part in made for job in part.jobs) == sorted(set(gates))  # type: ignore[type-var]
