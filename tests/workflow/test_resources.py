"""Resources: several nodes of one runner, and how jobs are placed on them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.workflow.packing import Candidate, how_many_fit, never_fits, pack
from torc.workflow.resources import Capacity, Pool, ResourceRequest

requests = st.builds(
    ResourceRequest,
    num_cpus=st.integers(1, 5),
    num_gpus=st.integers(0, 2),
    num_nodes=st.integers(1, 4),
    memory_bytes=st.integers(1, 9),
    runtime_seconds=st.integers(1, 9),
)
nodes = st.builds(Capacity, st.integers(0, 6), st.integers(0, 12), st.integers(0, 3), st.none() | st.floats(0, 9))
pools = st.builds(Pool, st.lists(nodes, min_size=1, max_size=4).map(tuple))


@given(requests, pools)
def test_a_request_is_placed_on_as_many_nodes_as_it_asks_for_when_so_many_fit(
    request: ResourceRequest, pool: Pool
) -> None:
    fitting = {at for at, node in enumerate(pool.nodes) if node.fits(request._replace(num_nodes=1))}
    placed = pool.place(request)
    assert (placed is not None) == (len(fitting) >= request.num_nodes) == pool.fits(request)
    if placed is not None:
        assert set(placed) <= fitting and len(set(placed)) == len(placed) == request.num_nodes


@given(st.lists(requests, max_size=10), pools)
def test_no_node_of_a_pool_is_ever_given_more_than_it_has_and_all_comes_back(
    asked: list[ResourceRequest], pool: Pool
) -> None:
    free, running = pool, list[tuple[ResourceRequest, tuple[int, ...]]]()
    for request in asked:
        placed = free.place(request)
        if placed is not None:
            free = free.take_at(request, placed)
            running.append((request, placed))
        assert all(min(node.num_cpus, node.memory_bytes, node.num_gpus) >= 0 for node in free.nodes)
    for request, placed in running:
        free = free.give_back_at(request, placed)
    assert free == pool


@given(st.lists(requests.map(lambda request: request._replace(num_nodes=1)), max_size=8), nodes)
def test_a_pool_of_one_node_packs_like_the_node(asked: list[ResourceRequest], node: Capacity) -> None:
    candidates = [Candidate(number, request) for number, request in enumerate(asked)]
    assert pack(candidates, Pool((node,)), 9) == pack(candidates, node, 9)


@given(requests, pools)
def test_as_many_at_most_fit_into_a_pool_as_are_said_and_a_reason_is_given_when_none_does(
    request: ResourceRequest, pool: Pool
) -> None:
    packed = pack([Candidate(number, request) for number in range(30)], pool, 30)
    assert len(packed) <= how_many_fit(request, pool)
    assert request.num_nodes > 1 or len(packed) == how_many_fit(request, pool)
    assert (never_fits(request, pool) is None) == pool.fits(request)


def test_small_jobs_leave_whole_nodes_to_those_that_need_them() -> None:
    pool = Pool((Capacity(4, 8), Capacity(2, 8), Capacity(4, 8)))
    small = ResourceRequest(num_cpus=1, memory_bytes=1)
    for _ in range(2):
        placed = pool.place(small)
        assert placed == (1,)
        pool = pool.take_at(small, placed)
    assert pool.place(ResourceRequest(num_cpus=4, num_nodes=2, memory_bytes=1)) == (0, 2)
