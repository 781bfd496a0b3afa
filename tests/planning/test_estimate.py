"""Estimates from sums agree with what a simulation finds, as far as they claim to."""

from __future__ import annotations

import random

import pytest

from torc.planning.analysis import analyze
from torc.planning.demand import sums
from torc.planning.estimate import estimate
from torc.workflow.graph import graph_of, stages
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.simulation import Workload

NODE = Capacity(num_cpus=8, memory_bytes=64 << 30)


@pytest.mark.parametrize("seed", range(40))
def test_the_bounds_hold_the_path_and_the_makespan(seed: int) -> None:
    chosen = random.Random(seed)
    requests = [ResourceRequest(chosen.randint(1, 8), 0, 1, 1 << 30, chosen.randint(1, 9)) for _ in range(3)]
    layers = [chosen.randint(1, 12) for _ in range(chosen.randint(1, 4))]
    gates: list[tuple[int, ...]] = []
    gate_of: list[int | None] = []
    for number, size in enumerate(layers):
        first = len(gate_of)
        if number:
            gates.append(tuple(range(first - layers[number - 1], first)))
        gate_of += [len(gates) - 1 if number else None] * size
    graph = graph_of(gates, gate_of)
    classes = [chosen.randrange(3) for _ in gate_of]
    found = analyze(Workload(graph, requests, classes, [0] * len(gate_of), [True] * len(gate_of)), [NODE])
    path = found.critical_path.seconds
    told = estimate(requests, sums(stages(graph), classes), path, NODE)
    assert path <= told.longest_path_seconds
    assert (told.cpu_seconds, told.gpu_seconds) == (found.cpu_seconds, found.gpu_seconds)
    assert found.makespan_seconds is not None
    assert told.upper_seconds is not None
    assert told.lower_seconds <= found.makespan_seconds
    assert found.lower_bound_seconds == told.lower_seconds <= told.upper_seconds


@pytest.mark.parametrize("seed", range(200))
def test_the_lower_bound_holds_for_any_graph_and_the_upper_figure_mostly(seed: int) -> None:
    chosen = random.Random(seed)
    requests = [
        ResourceRequest(chosen.randint(1, 8), 0, 1, chosen.randint(1, 32) << 30, chosen.randint(1, 60))
        for _ in range(4)
    ]
    gates: list[tuple[int, ...]] = []
    gate_of: list[int | None] = []
    for job in range(chosen.randint(2, 30)):
        before = chosen.sample(range(job), chosen.randint(0, min(job, 3)))
        if before:
            gates.append(tuple(sorted(before)))
        gate_of.append(len(gates) - 1 if before else None)
    graph = graph_of(gates, gate_of)
    classes = [chosen.randrange(4) for _ in gate_of]
    found = analyze(Workload(graph, requests, classes, [0] * len(gate_of), [True] * len(gate_of)), [NODE])
    told = estimate(requests, sums(stages(graph), classes), found.critical_path.seconds, NODE)
    assert found.makespan_seconds is not None
    assert told.upper_seconds is not None
    assert told.lower_seconds <= found.makespan_seconds
    assert found.critical_path.seconds <= told.longest_path_seconds <= told.upper_seconds
    assert found.makespan_seconds <= 1.5 * told.upper_seconds, (
        "of what runners do, this is no bound, but not far from it"
    )


def test_what_does_not_fit_has_no_upper_bound() -> None:
    told = estimate([ResourceRequest(16, 0, 1, 1, 60)], sums([0], [0]), 60, NODE)
    assert (told.upper_seconds, told.lower_seconds) == (None, 120.0)
