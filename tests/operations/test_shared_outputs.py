"""Two workflows that run at the same time do not write the same file."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.workflows import create, exchange, finish, get, run_all, runner
from torc.api.allocations import NewAllocation, RecordAllocations
from torc.api.runs import EndRunner, NodeCapacity, RegisterRunner, StartRun
from torc.api.workflows import CancelWorkflow
from torc.client.embedded import Embedded
from torc.errors import Conflict


def writes(torc: Embedded, path: str, directory: str = "/work", **fields: Any) -> int:
    document = {
        "name": f"writes {path}",
        "files": [{"name": "f", "path": path}],
        "jobs": [{"name": "w", "command": "true", "output_files": ["f"]}],
        **fields,
    }
    return create(torc, document, directory=directory).id


SAME = [
    ("out.txt", "/work", "out.txt", "/work"),
    ("out.txt", "/work", "./a/../out.txt", "/work"),
    ("out.txt", "/work", "/work/out.txt", "/else"),
    ("out.txt", "/work", "../work/out.txt", "/else"),
    ("out", "/work", "out/deep/x.txt", "/work"),
    ("out/x.txt", "/work", "out", "/work"),
]


@pytest.mark.parametrize("paths", SAME, ids=[f"{c[0]}-{c[2]}" for c in SAME])
def test_the_second_to_run_is_refused_while_the_first_runs(torc: Embedded, paths: tuple[str, str, str, str]) -> None:
    first, second = writes(torc, paths[0], paths[1]), writes(torc, paths[2], paths[3])
    held = runner(torc, first)
    with pytest.raises(Conflict) as error:
        torc.send(StartRun(workflow_id=second))
    assert f"workflow {first} (writes {paths[0]}) runs and writes" in error.value.message
    assert f"workflow {second} (writes {paths[2]})" in error.value.message
    assert paths[0] in error.value.message or paths[2] in error.value.message
    assert f"torc workflows cancel {first}" in (error.value.hint or "")
    assert get(torc, second).run_id == 0, "nothing has begun"
    finish(torc, first, "w")
    exchange(torc, first, held, limit=1)
    run_all(torc, second)
    assert get(torc, second).state == "completed"


@pytest.mark.parametrize("other", [("b.txt", "/work"), ("out.txt", "/else"), ("out.txt.bak", "/work")])
def test_workflows_that_write_other_files_run_beside_each_other(torc: Embedded, other: tuple[str, str]) -> None:
    first, second = writes(torc, "out.txt"), writes(torc, *other)
    runner(torc, first)
    runner(torc, second)


def test_who_only_reads_is_not_refused(torc: Embedded) -> None:
    first = writes(torc, "out.txt")
    runner(torc, first)
    document = {
        "name": "r",
        "files": [{"name": "f", "path": "out.txt"}],
        "jobs": [{"name": "r", "command": "true", "input_files": ["f"]}],
    }
    runner(torc, create(torc, document, directory="/work").id)


def test_an_interrupted_or_canceled_run_holds_nothing(torc: Embedded) -> None:
    first, second, third = writes(torc, "out.txt"), writes(torc, "out.txt"), writes(torc, "out.txt")
    torc.send(EndRunner(workflow_id=first, runner_id=runner(torc, first), reason="stopped"))
    runner(torc, second)
    with pytest.raises(Conflict):
        runner(torc, first)
    torc.send(CancelWorkflow(workflow_id=second))
    runner(torc, third)


def test_a_queued_allocation_holds_the_outputs(torc: Embedded) -> None:
    first, second = writes(torc, "out.txt"), writes(torc, "out.txt")
    torc.send(StartRun(workflow_id=first))
    torc.send(
        RecordAllocations(
            workflow_id=first, allocations=[NewAllocation(name="a", request={}, num_nodes=1, walltime_seconds=60)]
        )
    )
    with pytest.raises(Conflict, match=f"workflow {first} "):
        torc.send(StartRun(workflow_id=second))


def test_of_two_that_begin_at_the_same_moment_one_gets_a_runner(torc: Embedded) -> None:
    numbers = [writes(torc, "out.txt") for _ in range(4)]
    for number in numbers:
        torc.send(StartRun(workflow_id=number))  # none has a runner yet
    registered: list[int] = []
    refused: list[int] = []
    gate = threading.Barrier(len(numbers))

    def register(number: int) -> None:
        request = RegisterRunner(
            workflow_id=number,
            host="h",
            pid=1,
            process_started="1",
            boot_id="b",
            capacity=NodeCapacity(num_cpus=1, memory_bytes=1 << 30),
        )
        gate.wait()
        try:
            torc.send(request)
            registered.append(number)
        except Conflict:
            refused.append(number)

    threads = [threading.Thread(target=register, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(registered), len(refused)) == (1, 3)
