"""Packing: what a node is given, in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.workflow.packing import Candidate, SortMethod, how_many_fit, never_fits, offer_key, pack, pack_sorted
from torc.workflow.resources import Capacity, Pool, ResourceRequest

MIB = 1 << 20
NODE = Capacity(num_cpus=4, memory_bytes=8 * MIB, num_gpus=1)

requests = st.builds(
    ResourceRequest,
    num_cpus=st.integers(1, 5),
    num_gpus=st.integers(0, 2),
    num_nodes=st.sampled_from((1, 1, 1, 2)),
    memory_bytes=st.integers(1, 9),
    runtime_seconds=st.integers(1, 9),
)
capacities = st.builds(Capacity, st.integers(0, 12), st.integers(0, 20), st.integers(0, 4), st.none() | st.floats(0, 9))
methods = st.sampled_from(("none", "gpus_runtime_memory", "gpus_memory_runtime"))


def candidates_of(requested: list[ResourceRequest], priorities: list[int]) -> list[Candidate]:
    return [Candidate(job, request, priorities[job]) for job, request in enumerate(requested)]


@given(st.lists(st.tuples(requests, st.integers(0, 2)), max_size=12), capacities, st.integers(0, 6), methods)
def test_packing_is_taking_each_candidate_in_order_that_still_fits(
    offered: list[tuple[ResourceRequest, int]], capacity: Capacity, limit: int, method: SortMethod
) -> None:
    candidates = candidates_of([request for request, _ in offered], [priority for _, priority in offered])
    expected, left = list[Candidate](), capacity
    for candidate in sorted(candidates, key=lambda one: offer_key(one, method)):
        if len(expected) < limit and left.fits(candidate.request):
            expected.append(candidate)
            left = left.take(candidate.request)
    assert pack(reversed(candidates), capacity, limit, method=method) == expected


@given(st.lists(requests, max_size=12), st.integers(0, 6))
def test_without_resources_only_the_number_counts(requested: list[ResourceRequest], limit: int) -> None:
    candidates = candidates_of(requested, [0] * len(requested))
    assert pack(candidates, Capacity(0, 0), limit, ignore_resources=True) == candidates[:limit]


def test_a_full_node_is_offered_nothing_more() -> None:
    taken = []

    def endless() -> object:
        job = 0
        while True:
            taken.append(job)
            yield Candidate(job, ResourceRequest(num_cpus=2))
            job += 1

    assert [one.id for one in pack_sorted(endless(), NODE, 100)] == [0, 1]  # type: ignore[arg-type]
    assert taken == [0, 1]


def test_a_small_job_passes_a_large_one_that_does_not_fit() -> None:
    large, small = ResourceRequest(num_cpus=5), ResourceRequest(num_cpus=1)
    assert [one.id for one in pack(candidates_of([large, small, large, small], [9, 0, 0, 0]), NODE, 10)] == [1, 3]


@pytest.mark.parametrize(
    ("method", "order"),
    [("none", [0, 1, 2, 3]), ("gpus_runtime_memory", [3, 2, 1, 0]), ("gpus_memory_runtime", [3, 1, 2, 0])],
)
def test_within_a_priority_the_sort_method_puts_the_largest_first(method: SortMethod, order: list[int]) -> None:
    requested = [
        ResourceRequest(memory_bytes=1, runtime_seconds=1),
        ResourceRequest(memory_bytes=9, runtime_seconds=5),
        ResourceRequest(memory_bytes=5, runtime_seconds=9),
        ResourceRequest(num_gpus=1, memory_bytes=1, runtime_seconds=1),
    ]
    candidates = candidates_of(requested, [0] * 4)
    assert [one.id for one in sorted(candidates, key=lambda one: offer_key(one, method))] == order
    important = Candidate(7, requested[0], priority=1)
    assert min([*candidates, important], key=lambda one: offer_key(one, method)) is important


@given(requests, capacities)
def test_as_many_fit_side_by_side_as_can_be_packed(request: ResourceRequest, capacity: Capacity) -> None:
    packed = pack([Candidate(job, request) for job in range(30)], capacity, 30)
    assert how_many_fit(request, capacity) == len(packed)


@given(requests, capacities)
def test_there_is_a_reason_exactly_when_a_request_does_not_fit(request: ResourceRequest, capacity: Capacity) -> None:
    assert (never_fits(request, capacity) is None) == capacity.fits(request)


def test_the_reason_names_all_that_is_short_and_what_there_is() -> None:
    reason = never_fits(ResourceRequest(8, 2, 1, 16 * MIB, 7200), Capacity(4, 8 * MIB, 1, 3600))
    assert reason == (
        "needs 8 CPUs (there are 4), 16 MiB of memory (there are 8 MiB), 2 GPUs (there are 1), "
        "2h 00m of time (there are 1h 00m)"
    )
    assert never_fits(ResourceRequest(num_nodes=2), NODE) == "needs 2 nodes (this is one)"


@given(requests, capacities)
def test_what_is_taken_and_given_back_leaves_the_capacity_as_it_was(
    request: ResourceRequest, capacity: Capacity
) -> None:
    assert capacity.take(request).give_back(request) == capacity
    if capacity.fits(request):
        left = capacity.take(request)
        assert min(left.num_cpus, left.memory_bytes, left.num_gpus) >= 0


@given(
    st.integers(2, 4),
    st.integers(2, 4),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=4, max_size=12),
    st.integers(1, 4),
)
def test_a_job_of_several_nodes_starts_however_many_small_ones_come_behind_it(
    num_nodes: int, wide_nodes: int, small: list[tuple[int, int]], wide_cpus: int
) -> None:
    total = Pool(tuple(Capacity(4, 64 * MIB) for _ in range(num_nodes)))
    wide = Candidate(1000, ResourceRequest(num_cpus=wide_cpus, num_nodes=min(wide_nodes, num_nodes)))
    free, running = total, list[tuple[int, ResourceRequest, tuple[int, ...]]]()
    for clock in range(120):
        for ended in [job for job in running if job[0] <= clock]:
            free = free.give_back_at(*ended[1:])
            running.remove(ended)
        # there is never a lack of small ones; the first begin before the wide one comes
        behind = [Candidate(2000 + at, ResourceRequest(num_cpus=cpus)) for at, (cpus, _) in enumerate(small)]
        chosen = pack([wide, *behind] if clock else behind, free, 100, total=total)
        if wide in chosen:
            return
        for job in chosen:
            places = free.place(job.request) or ()
            free = free.take_at(job.request, places)
            running.append((clock + small[job.id - 2000][1], job.request, places))
    raise AssertionError("it starved")


def test_other_nodes_go_on_while_one_waits_for_two_and_a_job_that_comes_before_it_may_take_them() -> None:
    total = Pool((Capacity(2, 8 * MIB),) * 3)
    free = Pool((Capacity(1, 8 * MIB), Capacity(2, 8 * MIB), Capacity(1, 8 * MIB)))
    wide = Candidate(1, ResourceRequest(num_cpus=2, num_nodes=2))
    small = [Candidate(number, ResourceRequest()) for number in (2, 3, 4)]
    assert [job.id for job in pack([wide, *small], free, 9)] == [2, 3, 4]
    assert [job.id for job in pack([wide, *small], free, 9, total=total)] == [2], "the third node is not kept"
    before = [Candidate(0, ResourceRequest()), Candidate(9, ResourceRequest(num_cpus=2), priority=1)]
    assert [job.id for job in pack([wide, *small, *before], free, 9, total=total)] == [9, 0]
    never = Candidate(1, ResourceRequest(num_cpus=3, num_nodes=2))
    assert [job.id for job in pack([never, *small], free, 9, total=total)] == [2, 3, 4], "it would wait for ever"
