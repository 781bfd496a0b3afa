"""What runners inside allocations are given: by their nodes, their time, and what other allocations left unfinished."""

from __future__ import annotations

from typing import Any

from tests.support.workflows import create, ended, exchange, states
from torc.api.allocations import NewAllocation, RecordAllocations
from torc.api.runs import ActionFinished, Exchange, JobAttempt, NodeCapacity, RegisterRunner, StartRun
from torc.client.embedded import Embedded

GIB = 1 << 30


def _runner(torc: Embedded, workflow_id: int, kind: Any = "slurm", **fields: Any) -> int:
    request = RegisterRunner(
        workflow_id=workflow_id,
        kind=kind,
        host="h",
        pid=1,
        process_started="1",
        boot_id="b",
        capacity=_node(),
        **fields,
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


def test_small_jobs_do_not_take_the_nodes_that_one_of_several_nodes_before_them_waits_for(torc: Embedded) -> None:
    classes = [{"name": "mpi", "num_nodes": 2, "num_cpus": 3}, {"name": "one", "num_cpus": 1}]
    jobs = [
        {"name": "wide", "command": "true", "resource_requirements": "mpi"},
        *({"name": f"narrow{n}", "command": "true", "resource_requirements": "one"} for n in range(9)),
    ]
    number = create(torc, {"name": "w", "resource_requirements": classes, "jobs": jobs}).id
    torc.send(StartRun(workflow_id=number))
    pool, total = _runner(torc, number), _node(_node(), _node())
    busy = {"total": total, "workflow_id": number, "runner_id": pool, "limit": 100}
    one, two = _node(num_cpus=1), _node(num_cpus=2)
    given = torc.send(Exchange(free=two.model_copy(update={"others": [one, one]}), **busy)).assignments
    assert [item.name for item in given] == ["narrow0"], "two nodes are kept, the third is not"
    given = torc.send(Exchange(free=one.model_copy(update={"others": [_node(), _node()]}), **busy)).assignments
    assert [item.name for item in given] == ["wide", "narrow1", "narrow2", "narrow3"]


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


def test_a_job_that_saves_its_work_begins_where_it_cannot_end_when_some_of_its_time_is_left(torc: Embedded) -> None:
    classes = [{"name": "long", "runtime": "PT10H"}, {"name": "short", "runtime": "PT1M"}]
    jobs = [
        {"name": "saves", "command": "true", "resource_requirements": "long", "supports_termination": True},
        {"name": "other", "command": "true", "resource_requirements": "long", "priority": 9},
        {"name": "brief", "command": "true", "resource_requirements": "short"},
    ]
    number = create(torc, {"name": "w", "resource_requirements": classes, "jobs": jobs}).id
    torc.send(StartRun(workflow_id=number))
    assert _given(torc, number, _runner(torc, number, "worker"), _node(runtime_seconds=3000.0), limit=0) == []
    assert _given(torc, number, _runner(torc, number), _node(runtime_seconds=50.0)) == []
    assert _given(torc, number, _runner(torc, number), _node(runtime_seconds=3000.0)) == ["saves", "brief"]
    assert _given(torc, number, _runner(torc, number, "worker"), _node(runtime_seconds=3000.0)) == []


def test_a_runner_is_told_when_nothing_runs_in_its_allocation(torc: Embedded) -> None:
    number = create(torc, {"name": "w", "jobs": [{"name": "a", "command": "true"}]}).id
    torc.send(StartRun(workflow_id=number))
    new = NewAllocation(name="w", walltime_seconds=600, num_nodes=2)
    (allocation,) = torc.send(RecordAllocations(workflow_id=number, allocations=[new]))
    first, second = (_runner(torc, number, allocation_id=allocation.id, node=f"n{n}") for n in range(2))
    alone = _runner(torc, number)
    (given,) = exchange(torc, number, first, limit=1).assignments
    assert not exchange(torc, number, second, limit=1).idle_around
    assert exchange(torc, number, alone, limit=1).idle_around
    exchange(torc, number, first, finished=[ended(given)])
    assert exchange(torc, number, second, limit=1).idle_around


def test_a_runner_in_an_allocation_is_told_what_others_have_written_for_its_jobs(torc: Embedded) -> None:
    files = [{"name": name, "path": f"{name}.txt"} for name in ("a", "b", "given")]
    jobs = [
        {"name": "first", "command": "true", "output_files": ["a", "b"]},
        {"name": "then", "command": "true", "input_files": ["a", "b", "given"]},
    ]
    number = create(torc, {"name": "w", "files": files, "jobs": jobs}).id
    torc.send(StartRun(workflow_id=number))
    here, local = _runner(torc, number), _runner(torc, number, "local")
    (first,) = exchange(torc, number, here, limit=9).assignments
    assert first.inputs == [] and first.outputs == ["a.txt", "b.txt"]
    (then,) = exchange(torc, number, here, limit=9, finished=[ended(first)]).assignments
    assert sorted(then.inputs) == ["a.txt", "b.txt"]
    exchange(torc, number, here, released=[JobAttempt(job_id=then.job_id, attempt=then.attempt)])
    assert exchange(torc, number, local, limit=9).assignments[0].inputs == []


def test_each_runner_carries_out_what_is_persistent_and_one_of_them_the_rest(torc: Embedded) -> None:
    def action(trigger: str, name: str, persistent: bool = False, **more: Any) -> dict[str, Any]:
        return {
            "trigger_type": trigger,
            "action_type": "run_commands",
            "commands": [name],
            "persistent": persistent,
            **more,
        }

    document = {
        "name": "w",
        "jobs": [{"name": "a", "command": "true"}, {"name": "b", "command": "true", "depends_on": ["a"]}],
        "actions": [
            action("on_workflow_start", "module", True),
            action("on_workflow_start", "once"),
            action("on_jobs_complete", "after", True, jobs=["a"]),
            action("on_worker_start", "worker"),
        ],
    }
    number = create(torc, document).id
    torc.send(StartRun(workflow_id=number))

    def carried_out(runner_id: int) -> list[str]:
        """Carry out all that a runner is given; returns the commands."""
        given, actions = list[str](), exchange(torc, number, runner_id).actions
        while actions:
            given += [command for item in actions for command in item.commands]
            done = [ActionFinished(firing_id=item.firing_id, return_code=0) for item in actions]
            actions = exchange(torc, number, runner_id, actions_finished=done).actions
        return given

    first = _runner(torc, number)
    assert carried_out(first) == ["module", "once", "worker"]
    (given,) = exchange(torc, number, first, limit=9).assignments
    exchange(torc, number, first, finished=[ended(given)])
    second = _runner(torc, number)
    assert sorted(carried_out(second)) == ["after", "module", "worker"]
    assert carried_out(first) == ["after"] and carried_out(second) == []
