"""What a workflow will take, worked out before it runs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.graphs import graph_from, plain_graph
from tests.workflow.test_simulation import nodes_strategy, workloads
from torc.planning import analysis
from torc.planning.analysis import Stage, UnrunnableClass, analyze
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.simulation import ResourceUse, Workload, simulate
from torc.workflow.states import State

GIB = 1 << 30
SMALL = ResourceRequest(1, 0, 1, GIB, 60)
LARGE = ResourceRequest(4, 1, 1, 8 * GIB, 600)
NODE = Capacity(8, 64 * GIB, 2)


def diamond() -> tuple[Workload, tuple[str, ...]]:
    graph, names = graph_from("a -> b c -> d")
    return Workload(graph, (SMALL, LARGE), [0, 1, 0, 0], [0] * 4, [True] * 4), names


def test_a_diamond_is_three_stages_with_the_larger_branch_on_its_critical_path() -> None:
    load, names = diamond()
    result = analyze(load, [NODE])
    assert result.stages == (
        Stage(0, 1, ((0, 1),), ResourceUse(1, 1, GIB, 0), 60),
        Stage(1, 2, ((1, 1), (0, 1)), ResourceUse(2, 5, 9 * GIB, 1), 600),
        Stage(2, 1, ((0, 1),), ResourceUse(1, 1, GIB, 0), 60),
    )
    assert [names[job] for job in result.critical_path.jobs] == ["a", "b", "d"]
    assert result.critical_path.seconds == result.makespan_seconds == result.lower_bound_seconds == 720
    assert result.peak == ResourceUse(2, 5, 9 * GIB, 1)
    assert (result.cpu_seconds, result.gpu_seconds) == (3 * 60 + 4 * 600, 600)


def test_finished_jobs_are_left_out_of_every_figure() -> None:
    load, names = diamond()
    states = [State.COMPLETED, State.COMPLETED, State.READY, State.BLOCKED]
    result = analyze(load, [NODE], states=states)
    assert (result.num_jobs, result.num_finished) == (2, 2)
    assert [stage.num_jobs for stage in result.stages] == [1, 1]
    assert [names[job] for job in result.critical_path.jobs] == ["c", "d"]
    assert result.makespan_seconds == result.critical_path.seconds == 120
    assert result.cpu_seconds == 120


def test_a_class_that_no_node_can_start_is_named_with_the_reason_and_there_is_no_makespan() -> None:
    load, _ = diamond()
    result = analyze(load, [Capacity(2, 64 * GIB, 1), Capacity(1, GIB)])
    assert result.misfits == (UnrunnableClass(1, 1, "needs 4 CPUs (there are 2)"),)
    assert result.makespan_seconds is None


def test_a_job_of_several_nodes_needs_as_many() -> None:
    load = Workload(plain_graph([[]]), (ResourceRequest(num_nodes=2),), [0], [0], [True])
    assert analyze(load, [NODE]).misfits == (UnrunnableClass(0, 1, "needs 2 nodes (there are 1)"),)
    assert analyze(load, [NODE, NODE]).makespan_seconds == 3600


def test_max_parallel_jobs_bounds_the_time_by_number_alone() -> None:
    load = Workload(plain_graph([[]] * 10), (LARGE,), [0] * 10, [0] * 10, [True] * 10)
    result = analyze(load, [Capacity(1, 1)], max_parallel_jobs=5)
    assert result.misfits == ()
    assert result.makespan_seconds == result.lower_bound_seconds == 1200


def test_of_more_jobs_than_can_be_simulated_in_time_there_is_a_lower_bound_only() -> None:
    count = analysis.MOST_SIMULATED + 1
    load = Workload(plain_graph([()] * count), (SMALL,), [0] * count, [0] * count, [True] * count)
    result = analyze(load, [NODE])
    assert result.makespan_seconds is None
    assert result.lower_bound_seconds == count * 60 / 8
    assert result.peak.num_jobs == count


def test_nothing_to_do_takes_no_time() -> None:
    load = Workload(plain_graph([]), (SMALL,), [], [], [])
    result = analyze(load, [NODE])
    assert (result.num_jobs, result.stages, result.critical_path.seconds, result.makespan_seconds) == (0, (), 0, 0)


@given(workloads(), nodes_strategy)
@settings(deadline=None)
def test_no_simulated_run_beats_the_lower_bound_and_peaks_are_those_of_a_free_run(
    load: Workload, nodes: list[Capacity]
) -> None:
    result = analyze(load, nodes)
    assert result.peak == simulate(load).peak
    assert sum(stage.num_jobs for stage in result.stages) == result.num_jobs == len(load.graph)
    run = simulate(load, nodes)
    assert bool(result.misfits) == bool(run.unplaced)
    if result.misfits:
        assert result.makespan_seconds is None
    else:
        assert result.makespan_seconds == run.makespan_seconds
        assert result.lower_bound_seconds <= run.makespan_seconds + 1e-9
        assert result.peak_on_nodes == run.peak


@given(workloads(), st.data())
@settings(deadline=None)
def test_a_resumed_run_is_analyzed_as_it_is_simulated(load: Workload, data: st.DataObject) -> None:
    done = [data.draw(st.booleans()) for _ in range(len(load.graph))]
    for job in range(len(done)):  # what is behind an unfinished job has not finished
        done[job] = done[job] and all(done[other] for other in load.graph.prerequisites(job) if other < job)
    states = [State.COMPLETED if out else State.UNINITIALIZED for out in done]
    nodes = [Capacity(4, 4, 2)] * 2
    result = analyze(load, nodes, states=states)
    assert result.num_finished == sum(done)
    assert result.cpu_seconds == sum(
        load.request(job).num_cpus * load.request(job).num_nodes * load.request(job).runtime_seconds
        for job, out in enumerate(done)
        if not out
    )
