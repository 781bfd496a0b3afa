"""Exchanges that a network delivers late, twice or in another order than they were sent."""

from __future__ import annotations

from tests.support.workflows import NODE, ended, exchange, job, runner, workflow
from torc.api.base import Torc
from torc.api.runs import Exchange, JobAttempt, Started


def test_an_exchange_that_was_overtaken_takes_nothing_back_and_gives_nothing(torc: Torc) -> None:
    wf = workflow(torc, "a b")
    own = runner(torc, wf)
    late = Exchange(workflow_id=wf, runner_id=own, number=1, held=[], free=NODE, limit=1)
    given = exchange(torc, wf, own, number=2, limit=1).assignments
    (claimed,) = given
    assert torc.send(late).assignments == []
    assert job(torc, wf, claimed.name).state == "pending", "it belongs to the runner that knows of it"
    started = [Started(job_id=claimed.job_id, attempt=claimed.attempt, started_at=1.0)]
    exchange(torc, wf, own, number=3, started=started)
    assert torc.send(late).assignments == []
    assert job(torc, wf, claimed.name).state == "running"
    held = [JobAttempt(job_id=claimed.job_id, attempt=claimed.attempt)]
    exchange(torc, wf, own, number=4, held=held, finished=[ended(held[0])])
    assert job(torc, wf, claimed.name).state == "completed"


def test_an_exchange_that_arrives_twice_claims_once(torc: Torc) -> None:
    wf = workflow(torc, "a b")
    own = runner(torc, wf)
    asked = Exchange(workflow_id=wf, runner_id=own, number=1, free=NODE, limit=1)
    assert len(torc.send(asked).assignments) == 1
    assert torc.send(asked).assignments == []
    # the server asks again by itself for a runner that waits
    assert len(torc.send(asked.model_copy(update={"asked_again": True})).assignments) == 1


def test_a_runner_that_does_not_count_is_answered_as_before(torc: Torc) -> None:
    wf = workflow(torc, "a b")
    own = runner(torc, wf)
    assert [len(exchange(torc, wf, own, limit=1).assignments) for _ in range(3)] == [1, 1, 0]
