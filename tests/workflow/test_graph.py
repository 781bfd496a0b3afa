"""Gates and the graph: order, stages, cycles, critical path, closures, against plain definitions on random graphs."""

from __future__ import annotations

import random
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import acyclic_prerequisites, any_prerequisites, graph_from, plain_graph
from torc.errors import Invalid
from torc.workflow.gates import build_gates
from torc.workflow.graph import (
    critical_path,
    cycle_text,
    downstream,
    find_cycle,
    gate_stages,
    graph_of,
    partial_order,
    stages,
    topological_order,
    upstream,
)


@given(st.lists(st.lists(st.integers(0, 20), max_size=30)))
def test_each_job_gets_the_gate_of_its_prerequisites(prerequisites: list[list[int]]) -> None:
    gates, gate_of = build_gates(prerequisites)
    for members, gate in zip(prerequisites, gate_of, strict=True):
        assert (() if gate is None else gates[gate]) == tuple(sorted(set(members)))
    assert len(set(gates)) == len(gates)
    assert all(gates)


@given(st.lists(st.lists(st.integers(0, 40), min_size=17, max_size=40).map(frozenset), max_size=20))
def test_sets_that_live_only_for_a_moment_are_not_mistaken_for_each_other(sets: list[frozenset[int]]) -> None:
    gates, gate_of = build_gates(frozenset(list(members)) for members in sets)
    assert [gates[gate] for gate in gate_of if gate is not None] == [tuple(sorted(members)) for members in sets]


def test_a_set_that_is_changed_and_used_again_is_two_gates() -> None:
    members = set(range(50))

    def growing() -> object:
        for number in range(50, 53):
            members.add(number)
            yield members

    gates, gate_of = build_gates(growing())  # type: ignore[arg-type]
    assert gate_of == [0, 1, 2]
    assert [len(gate) for gate in gates] == [51, 52, 53]


def test_jobs_that_share_one_large_tuple_do_not_cost_a_look_into_it_each() -> None:
    class Counting(int):
        comparisons = 0

        def __hash__(self) -> int:
            Counting.comparisons += 1
            return int.__hash__(self)

    shared = tuple(Counting(number) for number in range(1000))
    gates, gate_of = build_gates([shared] * 1000)
    assert (len(gates), set(gate_of)) == (1, {0})
    assert Counting.comparisons < 5 * len(shared)


@given(acyclic_prerequisites())
def test_the_graph_knows_gates_and_waiters_both_ways(prerequisites: list[list[int]]) -> None:
    graph = plain_graph(prerequisites)
    for job, members in enumerate(prerequisites):
        assert graph.prerequisites(job) == tuple(sorted(members))
    edges = {(a, b) for a in range(len(graph)) for gate in graph.gates_held_by(a) for b in graph.waiters(gate)}
    assert edges == {(a, b) for b, members in enumerate(prerequisites) for a in members}


@given(acyclic_prerequisites())
def test_in_topological_order_each_job_stands_behind_its_prerequisites(prerequisites: list[list[int]]) -> None:
    order = topological_order(plain_graph(prerequisites))
    assert sorted(order) == list(range(len(prerequisites)))
    at = {job: position for position, job in enumerate(order)}
    assert all(at[a] < at[b] for b, members in enumerate(prerequisites) for a in members)


@given(acyclic_prerequisites())
def test_a_stage_is_one_more_than_the_last_stage_before(prerequisites: list[list[int]]) -> None:
    stage = stages(plain_graph(prerequisites))
    for job, members in enumerate(prerequisites):
        assert stage[job] == (1 + max(stage[member] for member in members) if members else 0)


def test_stages_of_a_diamond() -> None:
    graph, names = graph_from("a -> b c -> d")
    assert dict(zip(names, stages(graph), strict=True)) == {"a": 0, "b": 1, "c": 1, "d": 2}


def _closure(prerequisites: list[list[int]]) -> set[tuple[int, int]]:
    """Return all (a, b) where b waits for a, directly or not, by Warshall's algorithm."""
    behind = {(a, b) for b, members in enumerate(prerequisites) for a in members}
    for k, a, b in product(range(len(prerequisites)), repeat=3):
        if (a, k) in behind and (k, b) in behind:
            behind.add((a, b))
    return behind


@given(any_prerequisites())
def test_a_cycle_is_found_exactly_when_there_is_one(prerequisites: list[list[int]]) -> None:
    graph = plain_graph(prerequisites)
    behind = _closure(prerequisites)
    path = find_cycle(graph)
    assert (path is not None) == any((job, job) in behind for job in range(len(graph)))
    if path is None:
        return
    assert path[0] == path[-1] == min(path)
    assert len(set(path)) == len(path) - 1
    assert all(a in prerequisites[b] for a, b in pairwise(path))
    with pytest.raises(Invalid, match="cycle"):
        topological_order(graph)


@given(any_prerequisites())
def test_a_partial_order_holds_just_the_jobs_that_are_behind_no_cycle(prerequisites: list[list[int]]) -> None:
    behind = _closure(prerequisites)
    looped = {job for job in range(len(prerequisites)) if (job, job) in behind}
    stuck = looped | {b for a, b in behind if a in looped}
    assert set(partial_order(plain_graph(prerequisites))) == set(range(len(prerequisites))) - stuck


def test_a_shortest_cycle_is_shown_from_its_first_job() -> None:
    graph, names = graph_from("x -> c -> a -> b -> c, b -> y")
    path = find_cycle(graph)
    assert path is not None
    assert cycle_text(path, names) == "c -> a -> b -> c"


def test_a_job_that_waits_for_itself_is_a_cycle() -> None:
    assert find_cycle(plain_graph([[0]])) == (0, 0)


def test_a_long_cycle_is_shown_without_its_middle() -> None:
    text = cycle_text([*range(100), 0], [f"j{number}" for number in range(100)], most=4)
    assert text == "j0 -> j1 -> ... (97 more) ... -> j99 -> j0"


@given(acyclic_prerequisites(), st.data())
def test_no_chain_is_longer_than_the_critical_path(prerequisites: list[list[int]], data: st.DataObject) -> None:
    runtimes = [float(data.draw(st.integers(0, 9))) for _ in prerequisites]
    longest: dict[int, float] = {}

    def end(job: int) -> float:
        if job not in longest:
            longest[job] = runtimes[job] + max((end(member) for member in prerequisites[job]), default=0.0)
        return longest[job]

    path = critical_path(plain_graph(prerequisites), runtimes)
    assert path.seconds == max((end(job) for job in range(len(prerequisites))), default=0.0)
    assert path.seconds == sum(runtimes[job] for job in path.jobs)
    assert all(a in prerequisites[b] for a, b in pairwise(path.jobs))


@given(acyclic_prerequisites(), st.data())
def test_downstream_and_upstream_are_the_closure(prerequisites: list[list[int]], data: st.DataObject) -> None:
    count = len(prerequisites)
    roots = data.draw(st.lists(st.integers(0, count - 1))) if count else []
    behind = _closure(prerequisites)
    graph = plain_graph(prerequisites)
    assert sorted(downstream(graph, roots)) == sorted({*roots, *(b for a, b in behind if a in roots)})
    assert sorted(upstream(graph, roots)) == sorted({*roots, *(a for a, b in behind if b in roots)})


@pytest.mark.usefixtures("large")
def test_a_chain_of_100_000_jobs_needs_no_recursion() -> None:
    count = 100_000
    graph = plain_graph([[]] + [[job] for job in range(count - 1)])
    assert stages(graph)[-1] == count - 1
    assert critical_path(graph, [1.0] * count).seconds == count
    assert len(downstream(graph, [0])) == len(upstream(graph, [count - 1])) == count
    ring = plain_graph([[count - 1]] + [[job] for job in range(count - 1)])
    path = find_cycle(ring)
    assert path is not None
    assert len(path) == count + 1


def test_a_barrier_costs_its_members_and_its_waiters_not_their_product() -> None:
    size = 1000
    gates, gate_of = build_gates([()] * size + [tuple(range(size))] * size)
    graph = graph_of(gates, gate_of)
    assert sum(len(members) for members in graph.gates) == size
    assert sum(len(graph.waiters(gate)) for gate in range(len(graph.gates))) == size
    assert set(stages(graph)) == {0, 1}


@given(st.integers(0, 2**32))
def test_stages_by_gates_are_those_by_jobs(seed: int) -> None:
    chosen = random.Random(seed)
    size = chosen.randint(1, 30)
    order = chosen.sample(range(size), size)  # ids say nothing about who waits for whom
    gates: list[tuple[int, ...]] = []
    gate_of: list[int | None] = [None] * size
    for at in range(1, size):
        if chosen.random() < 0.7:
            gate_of[order[at]] = len(gates)
            gates.append(tuple(sorted(chosen.sample(order[:at], chosen.randint(1, min(at, 4))))))
    by_gates = gate_stages(gates, gate_of)
    assert stages(graph_of(gates, gate_of)) == [0 if gate is None else by_gates[gate] for gate in gate_of]
