"""Retries that have to wait: nobody gets them before they are due, others go on, and the store remembers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.wait import wait_until
from tests.support.workflows import ended, exchange, get, jobs, run_all, runner, states, workflow
from torc.api.base import Torc
from torc.api.diagnosis import ExplainJob
from torc.api.jobs import ActOnJobs
from torc.api.runs import Assignment, EndRunner, NodeCapacity
from torc.failures.retry import JITTER

LONG = 1000.0


def delayed(torc: Torc, chains: str, *, seconds: float, **rule: Any) -> int:
    """Store a workflow whose job `a` is retried after a delay."""
    rules = [{"match_all_exit_codes": True, "max_retries": 5, "delay_seconds": seconds, **rule}]
    own = {"a": {"failure_handler": "later"}}
    return workflow(torc, chains, failure_handlers=[{"name": "later", "rules": rules}], jobs=own)


def fail_a(torc: Torc, wf: int, number: int, *, limit: int = 10) -> Any:
    """Claim `a`, have it fail, and give what the store says."""
    (given,) = [item for item in exchange(torc, wf, number, limit=limit).assignments if item.name == "a"]
    report = ended(given, "failed", 1, stderr_tail="curl: (7) Connection refused")
    return exchange(torc, wf, number, finished=[report], limit=limit)


def test_a_retry_that_has_to_wait_is_given_to_nobody_and_the_run_goes_on(torc: Torc) -> None:
    wf = delayed(torc, "a b -> c", seconds=LONG)
    number = runner(torc, wf)
    reply = fail_a(torc, wf, number)
    assert reply.assignments == [] and not reply.done and not reply.stuck
    assert LONG - 60 < reply.due_seconds <= LONG * (1 + JITTER)
    assert states(torc, wf) == "a:ready b:pending c:blocked"
    found = jobs(torc, wf)["a"]
    assert found.due_at is not None and found.due_at >= time.time() + LONG - 60
    told = torc.send(ExplainJob(job_id=found.id))
    assert told.summary.startswith("retry due in 1") and "connection did not answer" in told.summary
    assert told.diagnosis is not None and told.diagnosis.category == "network"
    torc.send(EndRunner(workflow_id=wf, runner_id=number))
    another = runner(torc, wf)
    assert [item.name for item in exchange(torc, wf, another, limit=10).assignments] == ["b"]
    assert get(torc, wf).ended_at is None, "the run is not over while a retry waits"
    torc.send(EndRunner(workflow_id=wf, runner_id=another))


def test_a_retry_that_waits_is_not_given_to_a_runner_that_ends_before_it_either(torc: Torc) -> None:
    rules = [{"match_all_exit_codes": True, "delay_seconds": LONG}]
    own: dict[str, Any] = {"a": {"failure_handler": "later", "supports_termination": True}}
    own["b"] = {"supports_termination": True}
    wf = workflow(torc, "a b", failure_handlers=[{"name": "later", "rules": rules}], jobs=own)
    number = runner(torc, wf)
    short = NodeCapacity(num_cpus=8, memory_bytes=1 << 30, runtime_seconds=600.0)
    (given,) = exchange(torc, wf, number, limit=1, free=short).assignments
    report = ended(given, "failed", 1)
    reply = exchange(torc, wf, number, finished=[report], limit=10, free=short)
    assert (given.name, [item.name for item in reply.assignments]) == ("a", ["b"])
    torc.send(EndRunner(workflow_id=wf, runner_id=number))


def test_it_is_given_as_soon_as_it_is_due(torc: Torc) -> None:
    wf = delayed(torc, "a", seconds=0.2)
    number = runner(torc, wf)
    begun = time.time()
    reply = fail_a(torc, wf, number)
    assert reply.assignments == [] and reply.due_seconds is not None
    given: list[Assignment] = []

    def is_given() -> bool:
        given.extend(exchange(torc, wf, number, limit=1).assignments)
        return bool(given)

    wait_until(is_given, what="the retry is due")
    assert time.time() >= begun + 0.2 and given[0].attempt == 2
    reply = exchange(torc, wf, number, finished=[ended(given[0])])
    assert reply.done and reply.due_seconds is None


def test_each_retry_waits_longer(torc: Torc) -> None:
    wf = delayed(torc, "a", seconds=LONG, backoff=3.0)
    number = runner(torc, wf)
    for factor in (1, 3, 9):
        reply = fail_a(torc, wf, number)
        assert factor * LONG - 60 < reply.due_seconds <= factor * LONG * (1 + JITTER)
        torc.send(ActOnJobs(workflow_id=wf, job_ids=[jobs(torc, wf)["a"].id], action="reset"))
        assert jobs(torc, wf)["a"].due_at is None, "somebody wants it now"


@pytest.mark.parametrize("action", ["cancel", "disable"])
def test_what_waits_can_be_called_off(torc: Torc, action: Any) -> None:
    wf = delayed(torc, "a b", seconds=LONG)
    number = runner(torc, wf)
    fail_a(torc, wf, number)
    torc.send(EndRunner(workflow_id=wf, runner_id=number))
    torc.send(ActOnJobs(workflow_id=wf, job_ids=[jobs(torc, wf)["a"].id], action=action))
    assert run_all(torc, wf).ended_at is not None
    assert "a:ready" not in states(torc, wf)
