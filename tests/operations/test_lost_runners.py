"""What becomes of jobs whose runner was lost: they run again, but not for ever."""

from __future__ import annotations

import pytest

from tests.support.workflows import claim, exchange, jobs, make, run_all, runner, states, workflow
from torc.api.runs import EndRunner, JobAttempt, ListResults, Started
from torc.api.workflows import CheckWorkflow
from torc.client.embedded import Embedded
from torc.failures.retry import DIED, MAX_LOSSES
from torc.workflow.states import State


def lose(torc: Embedded, workflow_id: int, how: str) -> None:
    runner_id = runner(torc, workflow_id)
    claim(torc, workflow_id, runner_id)
    torc.send(EndRunner(workflow_id=workflow_id, runner_id=runner_id, reason=how))


def test_a_job_that_loses_runner_after_runner_is_given_up_with_the_reason(torc: Embedded) -> None:
    number = workflow(torc, "a -> b")
    for _ in range(MAX_LOSSES):
        lose(torc, number, "lease ended")
        assert states(torc, number) == "a:ready b:blocked"
    lose(torc, number, "lease ended")
    assert states(torc, number) == "a:terminated b:canceled"
    assert jobs(torc, number)["a"].reason == "runner_lost"


def test_runners_that_died_before_another_run_was_asked_for_are_no_reason_to_give_a_job_up(torc: Embedded) -> None:
    number = workflow(torc, "a -> b")
    for _ in range(3 * MAX_LOSSES):
        lose(torc, number, DIED)
        assert states(torc, number) == "a:ready b:blocked"
    for _ in range(MAX_LOSSES):
        lose(torc, number, "lease ended")
    assert states(torc, number) == "a:ready b:blocked", "only the leases that ended are counted"
    assert run_all(torc, number).state == "completed"


@pytest.mark.parametrize("how", [DIED, "lease ended"])
def test_a_lost_attempt_is_told_and_what_was_only_claimed_is_none(torc: Embedded, how: str) -> None:
    number = workflow(torc, "begun claimed")
    runner_id = runner(torc, number)
    given = {item.name: item for item in exchange(torc, number, runner_id, limit=2).assignments}
    begun = Started(job_id=given["begun"].job_id, attempt=given["begun"].attempt, started_at=1.0)
    exchange(torc, number, runner_id, started=[begun])
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason=how))
    assert states(torc, number) == "begun:ready claimed:ready"
    told = torc.send(ListResults(workflow_id=number)).items
    assert [(result.job_name, result.state, result.reason) for result in told] == [
        ("begun", State.TERMINATED, "runner_lost")
    ]


def test_what_a_runner_at_rest_does_not_know_of_is_due_again(torc: Embedded) -> None:
    """A store that crashed may have forgotten an end that it had been told of: nobody else would ever end that job."""
    number = make(torc, "a b").id
    runner_id = runner(torc, number)
    given = {job.name: job for job in exchange(torc, number, runner_id, limit=2).assignments}
    begun = Started(job_id=given["a"].job_id, attempt=1, started_at=1.0)
    exchange(torc, number, runner_id, started=[begun], limit=0)
    holds = [JobAttempt(job_id=job.job_id, attempt=1) for job in given.values()]
    exchange(torc, number, runner_id, held=holds, limit=0)
    assert states(torc, number) == "a:running b:pending"
    again = exchange(torc, number, runner_id, held=[], limit=2).assignments
    assert {(job.name, job.attempt) for job in again} == {("a", 2), ("b", 2)}


def test_what_a_runner_gives_back_unstarted_does_not_count_as_an_attempt(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    first, second = runner(torc, wf, 1), runner(torc, wf, 2)
    (given,) = exchange(torc, wf, first, limit=1).assignments
    back = JobAttempt(job_id=given.job_id, attempt=given.attempt)
    exchange(torc, wf, first, released=[back], limit=0)
    exchange(torc, wf, first, released=[back], limit=0)  # its first message was answered, and the answer lost
    (again,) = exchange(torc, wf, second, limit=1).assignments
    assert (given.attempt, again.attempt) == (1, 1), (
        "a job takes a number above 1 for a reason to go on with what it saved"
    )
    exchange(torc, wf, first, released=[back], limit=0)
    assert states(torc, wf) == "a:pending", "another runner holds it now"
    assert torc.send(CheckWorkflow(workflow_id=wf)) == []
