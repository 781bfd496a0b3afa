"""The reactor of a runner that has several nodes."""

from __future__ import annotations

from tests.runner.harness import GIB, Reactor, job
from torc.runner.state import Launched, StartAttempt
from torc.workflow.resources import Capacity, Pool

TWO = Pool((Capacity(2, 8 * GIB, 1), Capacity(2, 8 * GIB, 1)))


def _started(reactor: Reactor) -> list[tuple[int, tuple[int, ...]]]:
    found = [(start.assignment.job_id, start.nodes) for start in reactor.take(StartAttempt)]
    for number, _ in found:
        reactor.tell(Launched(number, started_at=1.0))
    return found


def test_a_job_of_several_nodes_gets_them_all_and_others_wait_for_room() -> None:
    r = Reactor(total=TWO)
    r.answered(job(1, num_cpus=1, num_gpus=1), job(2, num_nodes=2, num_cpus=2), job(3, num_cpus=1))
    assert _started(r) == [(1, (0,)), (3, (0,))]
    assert r.ended(1) == []
    assert r.ended(3) == [2] and r.state.running[2].nodes == (0, 1)
    assert [node.num_cpus for node in r.state.free.nodes] == [0, 0]  # type: ignore[union-attr]
    r.ended(2)
    assert r.state.free == TWO


def test_what_is_free_on_each_node_is_told() -> None:
    r = Reactor(total=TWO, leave_at=1100.0)
    r.replied(job(1, num_cpus=2), waiting=3)
    request = r.sent()
    assert [request.free.num_cpus, *(other.num_cpus for other in request.free.others)] == [0, 2]
    assert request.total is not None and [other.num_cpus for other in request.total.others] == [2]
    assert request.free.others[0].runtime_seconds == 100.0


def test_with_a_limit_of_jobs_a_pool_keeps_account_of_its_nodes_still() -> None:
    r = Reactor(total=TWO, max_parallel_jobs=3)
    assert not r.sent().ignore_resources
    r.answered(*(job(number, num_cpus=2) for number in range(1, 5)))
    assert [number for number, _ in _started(r)] == [1, 2]
    r = Reactor(total=TWO, max_parallel_jobs=1)
    r.answered(job(1), job(2))
    assert [number for number, _ in _started(r)] == [1]
