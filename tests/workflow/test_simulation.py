"""The simulator: times, peaks and final states, on small stories and random workloads."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.graphs import acyclic_prerequisites, graph_from, plain_graph
from torc.workflow.graph import JobGraph, critical_path
from torc.workflow.packing import Candidate, offer_key
from torc.workflow.progress import Progress
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.simulation import ResourceUse, Simulation, Workload, simulate
from torc.workflow.states import JobEvent, State

GIB = 1 << 30


def workload(graph: JobGraph, *requests: ResourceRequest, of: Sequence[int] | None = None) -> Workload:
    """Return jobs of one class each in turn, or as `of` says, all with priority 0 and canceled by failures."""
    classes = requests or (ResourceRequest(runtime_seconds=10),)
    count = len(graph)
    numbers = [job % len(classes) for job in range(count)] if of is None else of
    return Workload(graph, classes, numbers, [0] * count, [True] * count)


def node(num_cpus: int, **rest: int) -> Capacity:
    return Capacity(num_cpus, rest.pop("memory_bytes", 64 * GIB), **rest)


def test_jobs_run_side_by_side_as_far_as_the_node_goes() -> None:
    graph = plain_graph([[]] * 5)
    result = simulate(workload(graph), [node(2)])
    assert result.makespan_seconds == 30
    assert result.peak == ResourceUse(2, 2, 2 << 20, 0)
    assert list(result.starts) == [0, 0, 10, 10, 20]


def test_without_nodes_only_prerequisites_count() -> None:
    graph, _ = graph_from("a -> b c -> d")
    result = simulate(workload(graph))
    assert result.makespan_seconds == 30
    assert result.peak.num_jobs == 2


def test_a_job_that_fits_nowhere_is_named_and_those_behind_it_wait() -> None:
    graph, names = graph_from("a -> b, c")
    requests = (ResourceRequest(num_cpus=8), ResourceRequest(num_cpus=1))
    result = simulate(workload(graph, *requests, of=[0, 1, 1]), [node(4)])
    assert [names[job] for job in result.unplaced] == ["a"]
    assert result.states == [State.READY, State.BLOCKED, State.COMPLETED]


def test_priority_goes_first_and_small_jobs_pass_those_that_do_not_fit() -> None:
    requests = (ResourceRequest(4, runtime_seconds=10), ResourceRequest(1, runtime_seconds=10))
    base = workload(plain_graph([[]] * 3), *requests, of=[0, 0, 1])
    load = Workload(base.graph, base.requests, base.request_of, [0, 5, 0], base.cancels)
    result = simulate(load, [node(5)])
    assert list(result.starts) == [10, 0, 0]


def test_max_parallel_jobs_ignores_resources() -> None:
    result = simulate(workload(plain_graph([[]] * 6), ResourceRequest(99, runtime_seconds=1)), max_parallel_jobs=3)
    assert (result.makespan_seconds, result.peak.num_jobs) == (2, 3)


def test_a_job_of_several_nodes_takes_a_share_of_each() -> None:
    wide = ResourceRequest(num_cpus=2, num_nodes=2, runtime_seconds=10)
    small = ResourceRequest(num_cpus=3, runtime_seconds=10)
    load = workload(plain_graph([[]] * 3), wide, small, of=[0, 1, 1])
    assert list(simulate(load, [node(4), node(4)]).starts) == [0, 10, 10]
    assert simulate(load, [node(4)]).unplaced == (0,)


def test_a_node_that_leaves_takes_no_job_that_would_outlive_it() -> None:
    graph = plain_graph([[]] * 3)
    leaving = Capacity(1, GIB, runtime_seconds=25)
    result = simulate(workload(graph), [leaving])
    assert result.states.count(State.COMPLETED) == 2
    assert len(result.unplaced) == 1


def test_a_job_that_overruns_its_node_is_interrupted_when_the_node_leaves() -> None:
    graph, _ = graph_from("a -> b")
    leaving = Capacity(1, GIB, runtime_seconds=25)
    result = simulate(workload(graph), [leaving], ending=lambda job, attempt: (100.0, JobEvent.SUCCEEDED))
    assert result.states == [State.TERMINATED, State.BLOCKED]
    assert (result.makespan_seconds, list(result.ends)) == (25, [25, -1])


def test_a_retried_job_runs_again_and_its_attempts_are_counted() -> None:
    graph, _ = graph_from("a -> b")

    def ending(job: int, attempt: int) -> tuple[float, JobEvent]:
        return 1.0, JobEvent.RETRIED if job == 0 and attempt < 3 else JobEvent.SUCCEEDED

    result = simulate(workload(graph), [node(1)], ending=ending)
    assert list(result.attempts) == [3, 1]
    assert (result.makespan_seconds, list(result.starts)) == (4, [2, 3])


def test_what_was_done_before_is_not_done_again_and_what_was_held_is() -> None:
    graph, _ = graph_from("a -> b -> c, d")
    states = [State.COMPLETED, State.RUNNING, State.BLOCKED, State.PENDING]
    result = simulate(workload(graph), [node(1)], states=states)
    assert list(result.attempts) == [0, 1, 1, 1]
    assert result.makespan_seconds == 30


def test_room_that_came_free_while_no_job_of_a_class_was_ready_is_seen() -> None:
    graph, _ = graph_from("a, b, d -> c")
    big, middle, small = (ResourceRequest(cpus, runtime_seconds=seconds) for cpus, seconds in ((4, 5), (2, 10), (1, 7)))
    load = workload(graph, big, middle, small, of=[0, 1, 2, 1])
    result = simulate(load, [node(4), node(2), node(1)])
    assert list(result.starts) == [0, 0, 0, 7]  # c on the node that a left at 5


requests_strategy = st.builds(
    ResourceRequest,
    num_cpus=st.integers(1, 4),
    num_gpus=st.integers(0, 2),
    num_nodes=st.sampled_from((1, 1, 1, 2)),
    memory_bytes=st.integers(1, 4),
    runtime_seconds=st.integers(1, 5),
)
nodes_strategy = st.lists(st.builds(Capacity, st.integers(1, 6), st.integers(1, 6), st.integers(0, 3)), max_size=4)
events_strategy = st.sampled_from(
    (
        JobEvent.SUCCEEDED,
        JobEvent.FAILED,
        JobEvent.TERMINATED,
        JobEvent.INTERRUPTED,
        JobEvent.AWAITED_DECISION,
        JobEvent.CANCELED,
    )
)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    prerequisites = draw(acyclic_prerequisites())
    count = len(prerequisites)
    requests = draw(st.lists(requests_strategy, min_size=1, max_size=3))
    return Workload(
        graph=plain_graph(prerequisites),
        requests=requests,
        request_of=[draw(st.integers(0, len(requests) - 1)) for _ in range(count)],
        priorities=[draw(st.integers(0, 2)) for _ in range(count)],
        cancels=[draw(st.booleans()) for _ in range(count)],
        method=draw(st.sampled_from(("none", "gpus_runtime_memory", "gpus_memory_runtime"))),
    )


def _in_use(load: Workload, result: Simulation, at: float) -> ResourceUse:
    use = ResourceUse()
    for job, start in enumerate(result.starts):
        if start >= 0 and start <= at < result.ends[job]:
            use = use.plus(load.request(job))
    return use


@given(workloads(), nodes_strategy)
@settings(deadline=None)
def test_nothing_runs_before_its_prerequisites_end_nor_beyond_what_the_nodes_have(
    load: Workload, nodes: list[Capacity]
) -> None:
    result = simulate(load, nodes)
    for job, start in enumerate(result.starts):
        if start >= 0:
            assert all(0 <= result.ends[other] <= start for other in load.graph.prerequisites(job))
    moments = [_in_use(load, result, start) for start in result.starts if start >= 0]
    peak = ResourceUse()
    for use in moments:
        assert use.num_cpus <= sum(node.num_cpus for node in nodes)
        assert use.memory_bytes <= sum(node.memory_bytes for node in nodes)
        assert use.num_gpus <= sum(node.num_gpus for node in nodes)
        peak = peak.maximum(use)
    assert result.peak == peak
    for job in result.unplaced:
        single = load.request(job)._replace(num_nodes=1)
        assert sum(node.fits(single) for node in nodes) < load.request(job).num_nodes


def _plain_starts(load: Workload, nodes: list[Capacity]) -> list[float]:
    """Return the starts of a run by the rule itself: at each moment each ready job, in order, on the first free nodes."""
    starts, ends, free, now = [-1.0] * len(load.graph), dict[int, tuple[float, list[int]]](), list(nodes), 0.0
    done: set[int] = set()
    while True:
        ready = [
            Candidate(job, load.request(job), load.priorities[job])
            for job, start in enumerate(starts)
            if start < 0 and done.issuperset(load.graph.prerequisites(job))
        ]
        for candidate in sorted(ready, key=lambda one: offer_key(one, load.method)):
            single = candidate.request._replace(num_nodes=1)
            place = [at for at, room in enumerate(free) if room.fits(single)][: candidate.request.num_nodes]
            if len(place) == candidate.request.num_nodes:
                for at in place:
                    free[at] = free[at].take(single)
                starts[candidate.id] = now
                ends[candidate.id] = (now + candidate.request.runtime_seconds, place)
        if not ends:
            return starts
        now = min(end for end, _ in ends.values())
        for job in [job for job, (end, _) in ends.items() if end == now]:
            for at in ends.pop(job)[1]:
                free[at] = free[at].give_back(load.request(job))
            done.add(job)


@given(workloads(), nodes_strategy)
@settings(deadline=None)
def test_jobs_start_when_and_in_the_order_that_plain_packing_would_start_them(
    load: Workload, nodes: list[Capacity]
) -> None:
    assert list(simulate(load, nodes).starts) == _plain_starts(load, nodes)


@given(st.data())
@settings(deadline=None, max_examples=examples(20))
def test_many_classes_that_fit_nowhere_hide_none_that_fits(data: st.DataObject) -> None:
    memory = data.draw(st.lists(st.integers(1, 200), min_size=80, max_size=120, unique=True))
    gpus = [data.draw(st.integers(0, 2)) for _ in memory]
    requests = [ResourceRequest(1, gpu, 1, amount, 1 + amount % 7) for gpu, amount in zip(gpus, memory, strict=True)]
    count = len(requests)
    load = Workload(plain_graph([[]] * count), requests, range(count), [0] * count, [True] * count)
    nodes = [Capacity(8, 150, 1), Capacity(8, 60, 2)]
    assert list(simulate(load, nodes).starts) == _plain_starts(load, nodes)


@given(workloads())
@settings(deadline=None)
def test_without_limits_the_makespan_is_the_critical_path(load: Workload) -> None:
    result = simulate(load)
    runtimes = [float(load.request(job).runtime_seconds) for job in range(len(load.graph))]
    assert result.makespan_seconds == critical_path(load.graph, runtimes).seconds
    assert set(result.states) <= {State.COMPLETED}


@given(workloads(), st.data())
@settings(deadline=None)
def test_final_states_depend_on_endings_alone_not_on_order(load: Workload, data: st.DataObject) -> None:
    endings = [(float(data.draw(st.integers(0, 3))), data.draw(events_strategy)) for _ in range(len(load.graph))]
    result = simulate(load, max_parallel_jobs=data.draw(st.integers(1, 3)), ending=lambda job, attempt: endings[job])
    board = Progress(load.graph, load.cancels)
    while ready := [job for job, state in enumerate(board.states) if state is State.READY]:
        job = data.draw(st.sampled_from(ready))
        board.apply(JobEvent.CLAIMED, (job,))
        board.apply(endings[job][1], (job,))
    assert result.states == board.states
    assert result.unplaced == ()


@given(st.integers(1, 200), st.integers(1, 8))
def test_equal_jobs_take_as_many_rounds_as_they_need(count: int, cpus: int) -> None:
    result = simulate(workload(plain_graph([[]] * count), ResourceRequest(runtime_seconds=7)), [node(cpus)])
    assert result.makespan_seconds == 7 * -(-count // cpus)
    assert result.peak.num_cpus == min(count, cpus)
