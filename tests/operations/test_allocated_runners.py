"""What runners inside allocations are given: by their nodes, their time, and what other allocations left unfinished."""

from __future__ import annotations

from typing import Any

from tests.support.workflows import create, ended, exchange, states
from torc.api.runs import Exchange, NodeCapacity, RegisterRunner, StartRun
from torc.client.embedded import Embedded

GIB = 1 << 30


def _runner(torc: Embedded, workflow_id: int, kind: Any = "slurm") -> int:
    request = RegisterRunner(
        workflow_id=workflow_id, kind=kind, host="h", pid=1, process_started="1", boot_id="b", capacity=_node()
    )
    return torc.send(request).id


def _node(*others: NodeCapacity, **fields: Any) -> NodeCapacity:
    return NodeCapacity(**{"num_cpus": 4, "memory_bytes": 8 * GIB, "others": list(others), **fields})


def _given(torc: Embedded, workflow_id: int, runner_id: int, free: NodeCapacity, **fields: Any) -> list[str]:
    request = Exchange(workflow_id=workflow_id, runner_id=runner_id, free=free, total=free, **{"limit": 100, **fields})
    return [item.name for item in torc.send(request).assignments]


def test_jobs_of_several_nodes_go_to_runners_that_have_so_many(torc: Embedded) -> None:
    classes = [{"name": "mpi", "num_nodes": 2, "num_cpus": 3}, {"name": "one", "num_cpus": 1}]
    jobs = [
        {"name": "wide", "command": "true", "resource_requirements": "mpi", "priority": 1},
        *({"name": f"narrow{n}", "command": "true", "resource_requirements": "one"} for n in range(9)),
    ]
    number = create(torc, {"name": "w", "resource_requirements": classes, "jobs": jobs}).id
    torc.send(StartRun(workflow_id=number))
    alone = _runner(torc, number)
    assert "wide" not in _given(torc, number, alone, _node())
    pool = _runner(torc, number)
    assert _given(torc, number, pool, _node(_node(num_cpus=2))) == [f"narrow{n}" for n in range(4, 9)]
    assert _given(torc, number, pool, _node(_node())) == ["wide"]


def test_with_a_limit_of_jobs_the_time_and_the_nodes_of_an_allocation_count_still(torc: Embedded) -> None:
    classes = [{"name": "long", "runtime": "PT2H"}, {"name": "wide", "num_nodes": 2}, {"name": "big", "num_cpus": 64}]
    jobs = [{"name": item["name"], "command": "true", "resource_requirements": item["name"]} for item in classes]
    number = create(torc, {"name": "w", "resource_requirements": classes, "jobs": jobs}).id
    torc.send(StartRun(workflow_id=number))
    hour = _node(runtime_seconds=3700.0)
    assert _given(torc, number, _runner(torc, number), hour, ignore_resources=True) == ["big"]
    assert _given(torc, number, _runner(torc, number, "local"), hour, ignore_resources=True) == ["long", "wide"]


def test_what_the_end_of_an_allocation_interrupted_goes_on_in_another_that_has_room(torc: Embedded) -> None:
    number = create(
        torc, {"name": "w", "jobs": [{"name": "a", "command": "true"}, {"name": "b", "command": "true"}]}
    ).id
    torc.send(StartRun(workflow_id=number))
    first, second, local = _runner(torc, number), _runner(torc, number), _runner(torc, number, "local")
    given = exchange(torc, number, first, limit=2).assignments
    exchange(torc, number, first, finished=[ended(item, "interrupted", -15) for item in given], stopping=True)
    assert states(torc, number) == "a:terminated b:terminated"
    assert _given(torc, number, local, _node()) == []
    assert _given(torc, number, second, _node(num_cpus=0)) == []
    assert _given(torc, number, second, _node()) == ["a", "b"]
