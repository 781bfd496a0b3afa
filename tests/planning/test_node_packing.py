"""Packing of jobs on nodes over time: everything is placed, nothing beyond what a node has, and as little as that takes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from torc.planning.node_packing import Packing, pack_nodes, shortest
from torc.workflow.resources import Capacity, ResourceRequest

NODE = Capacity(num_cpus=8, memory_bytes=64, num_gpus=2)
REQUESTS = st.builds(
    ResourceRequest,
    num_cpus=st.integers(1, 8),
    num_gpus=st.integers(0, 2),
    memory_bytes=st.integers(1, 64),
    runtime_seconds=st.integers(1, 100),
)
CASES = st.lists(st.tuples(REQUESTS, st.integers(1, 10_000)), min_size=1, max_size=6)


def check(packing: Packing, requests: list[ResourceRequest], counts: dict[int, int], seconds: int) -> None:
    placed: Counter[int] = Counter()
    for load, times in packing.loads:
        assert times > 0
        for number, jobs in load.counts().items():
            placed[number] += jobs * times
        assert NODE.num_cpus >= load.peak().num_cpus
        assert NODE.memory_bytes >= load.peak().memory_bytes
        assert NODE.num_gpus >= load.peak().num_gpus
        for lane in load.lanes:
            assert lane.seconds == sum(requests[number].runtime_seconds * jobs for number, jobs in lane.jobs) <= seconds
            for number, _ in lane.jobs:
                assert requests[number].num_cpus <= lane.room.num_cpus
                assert requests[number].memory_bytes <= lane.room.memory_bytes
                assert requests[number].num_gpus <= lane.room.num_gpus
    assert placed == Counter(counts)


@given(CASES, st.integers(100, 1000))
def test_each_job_is_placed_once_and_no_node_is_overfull_at_any_time(
    case: list[tuple[ResourceRequest, int]], seconds: int
) -> None:
    requests, counts = [request for request, _ in case], {at: jobs for at, (_, jobs) in enumerate(case)}
    packing = pack_nodes(requests, counts, NODE, seconds)
    check(packing, requests, counts, seconds)
    for supply, asked in (
        (NODE.num_cpus, [request.num_cpus for request in requests]),
        (NODE.memory_bytes, [request.memory_bytes for request in requests]),
        (NODE.num_gpus, [request.num_gpus for request in requests]),
    ):
        area = sum(counts[at] * requests[at].runtime_seconds * amount for at, amount in enumerate(asked))
        assert packing.num_nodes * supply * seconds >= area


@given(CASES, st.integers(1, 20))
def test_the_shortest_packing_keeps_to_the_nodes_where_that_can_be(
    case: list[tuple[ResourceRequest, int]], most_nodes: int
) -> None:
    requests, counts = [request for request, _ in case], {at: jobs for at, (_, jobs) in enumerate(case)}
    packing = shortest(requests, counts, NODE, most_nodes, (100, 5000))
    check(packing, requests, counts, 5000)
    longest = pack_nodes(requests, counts, NODE, 5000)
    assert packing.num_nodes <= max(most_nodes, longest.num_nodes)
    assert packing.seconds <= longest.seconds


def test_small_jobs_run_beside_large_ones_and_after_them() -> None:
    gpu = ResourceRequest(num_cpus=4, num_gpus=2, memory_bytes=32, runtime_seconds=60)
    small = ResourceRequest(num_cpus=1, memory_bytes=1, runtime_seconds=20)
    packing = pack_nodes([gpu, small], {0: 2, 1: 24}, NODE, 60)
    assert packing.num_nodes == 2  # 4 CPUs are left beside each GPU job: 12 small ones in three rounds


def test_few_jobs_run_side_by_side_rather_than_in_turn() -> None:
    request = ResourceRequest(num_cpus=2, memory_bytes=1, runtime_seconds=10)
    assert pack_nodes([request], {0: 3}, NODE, 1000).seconds == 30
    assert shortest([request], {0: 3}, NODE, 1, (10, 1000)).seconds == 10


def test_the_cost_does_not_grow_with_the_jobs() -> None:
    requests = [ResourceRequest(num_cpus=1 + at % 8, memory_bytes=1 + at, runtime_seconds=10 + at) for at in range(40)]
    counts = dict.fromkeys(range(40), 10**9)
    packing = pack_nodes(requests, counts, NODE, 500)
    check(packing, requests, counts, 500)
    assert len(packing.loads) <= 3 * 40
