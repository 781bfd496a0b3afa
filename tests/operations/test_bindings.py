"""Which runner may take which job: what is bound to a scheduler goes to the runners of that scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import NODE, create, ended, exchange
from torc.api.runs import RegisterRunner, StartRun
from torc.client.embedded import Embedded


@pytest.fixture
def number(torc: Embedded) -> int:
    """Return a begun workflow with jobs that are bound to one scheduler, to another, and to none."""
    jobs: list[dict[str, Any]] = [
        {
            "name": f"{scheduler or 'free'}{n}",
            "command": "true",
            "priority": n,
            **({"scheduler": scheduler} if scheduler else {}),
        }
        for n in range(3)
        for scheduler in ("gpu", "cpu", None)
    ]
    schedulers = [{"name": name, "account": "a"} for name in ("gpu", "cpu")]
    made = create(torc, {"name": "w", "slurm_schedulers": schedulers, "jobs": jobs}).id
    torc.send(StartRun(workflow_id=made))
    return made


def _taken(torc: Embedded, number: int, kind: Any, limit: int = 100, **labels: str) -> list[str]:
    request = RegisterRunner(
        workflow_id=number, kind=kind, host="h", pid=1, process_started="1", boot_id="b", capacity=NODE, labels=labels
    )
    runner = torc.send(request).id
    return [job.name for job in exchange(torc, number, runner, limit=limit).assignments]


def test_a_local_run_takes_all(torc: Embedded, number: int) -> None:
    assert len(_taken(torc, number, "local")) == 9


@pytest.mark.parametrize("kind", ["worker", "slurm", "ssh"])
def test_a_runner_without_a_scheduler_takes_what_is_bound_to_none(torc: Embedded, number: int, kind: str) -> None:
    assert _taken(torc, number, kind) == ["free2", "free1", "free0"]


def test_a_runner_of_a_scheduler_takes_its_own_and_what_is_bound_to_none_in_order_of_priority(
    torc: Embedded, number: int
) -> None:
    taken = _taken(torc, number, "slurm", limit=4, scheduler="gpu")
    assert {name[:-1] for name in taken} == {"gpu", "free"}
    assert [name[-1] for name in taken] == ["2", "2", "1", "1"]
    rest = _taken(torc, number, "slurm", scheduler="gpu")
    assert sorted(rest) == ["free0", "gpu0"]
    assert sorted(_taken(torc, number, "worker", scheduler="cpu")) == ["cpu0", "cpu1", "cpu2"]


def test_a_label_that_names_no_scheduler_gives_nothing_more(torc: Embedded, number: int) -> None:
    assert _taken(torc, number, "worker", scheduler="x' OR 1=1 --") == ["free2", "free1", "free0"]


def test_a_runner_that_may_take_nothing_that_is_left_is_told_so(torc: Embedded, number: int) -> None:
    request = RegisterRunner(
        workflow_id=number, kind="worker", host="h", pid=1, process_started="1", boot_id="b", capacity=NODE
    )
    runner = torc.send(request).id
    given = exchange(torc, number, runner, limit=10).assignments
    finished = [ended(job) for job in given]
    reply = exchange(torc, number, runner, limit=10, finished=finished)
    assert (len(given), reply.stuck, reply.waiting) == (3, True, 6)
