"""Results that come after their runner was given up, or to a store that is older than they are: each counts once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.workflows import claim, create, exchange, jobs, runner, states, workflow
from torc.api.data import ListUserData, SetUserData
from torc.api.events import ListEvents
from torc.api.jobs import ActOnJobs, UpdateJob
from torc.api.runs import Assignment, Delivered, DeliverResults, EndRunner, Finished, GetRunner, ListResults, StartRun
from torc.api.workflows import (
    CancelWorkflow,
    CheckWorkflow,
    GetWorkflow,
    ReinitializeWorkflow,
    ResetWorkflow,
    UpdateWorkflow,
)
from torc.client.embedded import Embedded
from torc.errors import Conflict
from torc.failures.retry import DIED
from torc.runner.outcomes import fingerprint_of
from torc.workflow.states import State


def succeeded(job_id: int, attempt: int = 1) -> Finished:
    return Finished(
        job_id=job_id,
        attempt=attempt,
        outcome="succeeded",
        return_code=0,
        started_at=1.0,
        ended_at=2.0,
        wall_seconds=1.0,
    )


def deliver(torc: Embedded, number: int, runner_id: int, *finished: Finished, **fields: float | None) -> Delivered:
    created = torc.send(GetWorkflow(workflow_id=number)).created_at
    request = DeliverResults(
        workflow_id=number, runner_id=runner_id, finished=list(finished), **{"workflow_created_at": created, **fields}
    )
    return torc.send(request)


def begin(torc: Embedded, number: int, runner_id: int) -> int:
    """Have a runner begin one job; returns the job."""
    (given,) = claim(torc, number, runner_id).values()
    return given.job_id


@pytest.mark.parametrize("how", [DIED, "lease ended", "allocation ended: TIMEOUT"])
def test_a_result_counts_after_its_runner_was_given_up_while_nobody_has_begun_another_attempt(
    torc: Embedded, how: str
) -> None:
    number = workflow(torc, "a -> b")
    runner_id = runner(torc, number)
    job_id = begin(torc, number, runner_id)
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason=how))
    assert states(torc, number) == "a:ready b:blocked"
    assert deliver(torc, number, runner_id, succeeded(job_id)).num_counted == 1
    assert states(torc, number) == "a:completed b:ready"
    assert deliver(torc, number, runner_id, succeeded(job_id)).num_counted == 0, "it counts once"
    (result,) = torc.send(ListResults(workflow_id=number)).items
    assert (result.state, result.attempt, result.runner_id, result.is_current) == (State.COMPLETED, 1, runner_id, True)
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


def test_a_result_counts_though_not_even_the_start_of_its_attempt_was_reported(torc: Embedded) -> None:
    number = workflow(torc, "a")
    runner_id = runner(torc, number)
    (given,) = exchange(torc, number, runner_id, limit=1).assignments
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    assert states(torc, number) == "a:ready"
    assert deliver(torc, number, runner_id, succeeded(given.job_id)).num_counted == 1
    assert states(torc, number) == "a:completed"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


def test_a_runner_that_comes_back_before_its_job_was_given_to_another_has_done_it(torc: Embedded) -> None:
    number = workflow(torc, "a")
    runner_id = runner(torc, number)
    job_id = begin(torc, number, runner_id)
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    assert exchange(torc, number, runner_id, finished=[succeeded(job_id)]).runner_is_lost
    assert states(torc, number) == "a:completed"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


def test_a_result_changes_nothing_once_another_runner_has_the_job(torc: Embedded) -> None:
    number = workflow(torc, "a")
    first, second = runner(torc, number, 1), runner(torc, number, 2)
    job_id = begin(torc, number, first)
    torc.send(EndRunner(workflow_id=number, runner_id=first, reason="lease ended"))
    claim(torc, number, second)
    assert deliver(torc, number, first, succeeded(job_id)).num_counted == 0
    assert states(torc, number) == "a:running"
    exchange(torc, number, second, finished=[succeeded(job_id, 2)], limit=0)
    assert states(torc, number) == "a:completed"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


def test_a_result_from_before_a_reset_changes_nothing(torc: Embedded) -> None:
    number = workflow(torc, "a")
    runner_id = runner(torc, number)
    job_id = begin(torc, number, runner_id)
    torc.send(ResetWorkflow(workflow_id=number, force=True))
    assert deliver(torc, number, runner_id, succeeded(job_id)).num_counted == 0
    assert states(torc, number) == "a:ready"


def _reset(torc: Embedded, number: int, job_id: int) -> None:
    torc.send(ResetWorkflow(workflow_id=number))


def _run_again(torc: Embedded, number: int, job_id: int) -> None:
    torc.send(ActOnJobs(workflow_id=number, job_ids=[job_id], action="run-again"))


def _change(torc: Embedded, number: int, job_id: int) -> None:
    torc.send(UpdateJob(job_id=job_id, command="echo other"))


def _reinitialize(torc: Embedded, number: int, job_id: int) -> None:
    torc.send(ReinitializeWorkflow(workflow_id=number))


@pytest.mark.parametrize("is_known", [True, False], ids=["start reported", "start not reported"])
@pytest.mark.parametrize("what", [_reset, _run_again, _change, _reinitialize])
def test_a_result_from_before_its_job_was_reset_or_changed_does_not_count_though_its_runner_had_been_lost(
    torc: Embedded, what: Callable[[Embedded, int, int], None], is_known: bool
) -> None:
    number = workflow(torc, "a")
    runner_id = runner(torc, number)
    if is_known:
        job_id = begin(torc, number, runner_id)
    else:
        (given,) = exchange(torc, number, runner_id, limit=1).assignments
        job_id = given.job_id
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    what(torc, number, job_id)
    assert deliver(torc, number, runner_id, succeeded(job_id)).num_counted == 0
    assert states(torc, number) == "a:ready"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []
    torc.send(StartRun(workflow_id=number))
    again = runner(torc, number, 2)
    (given,) = exchange(torc, number, again, limit=1).assignments
    exchange(torc, number, again, finished=[succeeded(job_id, given.attempt)], limit=0)
    assert states(torc, number) == "a:completed"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole workflow", "some jobs"])
def test_a_result_of_an_attempt_that_was_canceled_before_it_began_does_not_count_after_a_reset(
    torc: Embedded, is_whole: bool
) -> None:
    number = workflow(torc, "a", "other")
    runner_id = runner(torc, number)
    (given, _) = exchange(torc, number, runner_id, limit=2).assignments
    torc.send(CancelWorkflow(workflow_id=number))
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    if is_whole:
        torc.send(ResetWorkflow(workflow_id=number))
    else:
        torc.send(ActOnJobs(workflow_id=number, job_ids=[given.job_id], action="reset"))
    assert deliver(torc, number, runner_id, succeeded(given.job_id)).num_counted == 0
    assert states(torc, number).split()[0] == "a:ready"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


def test_a_result_does_not_count_once_what_its_job_waits_for_runs_again(torc: Embedded) -> None:
    number = workflow(torc, "a -> b")
    runner_id = runner(torc, number)
    first = begin(torc, number, runner_id)
    exchange(torc, number, runner_id, finished=[succeeded(first)], limit=0)
    job_id = begin(torc, number, runner_id)
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    torc.send(ActOnJobs(workflow_id=number, job_ids=[first], action="reset"))
    torc.send(StartRun(workflow_id=number))
    again = runner(torc, number, 2)
    assert begin(torc, number, again) == first
    exchange(torc, number, again, finished=[succeeded(first, 2)], limit=0)
    assert states(torc, number) == "a:completed b:ready"
    assert deliver(torc, number, runner_id, succeeded(job_id)).num_counted == 0
    assert states(torc, number) == "a:completed b:ready"


def test_a_store_that_has_forgotten_attempts_takes_their_results_in_the_order_of_the_jobs(torc: Embedded) -> None:
    number = workflow(torc, "a -> b -> c")
    given = jobs(torc, number)
    results = [succeeded(given[name].id, attempt) for name, attempt in (("c", 1), ("b", 3), ("a", 1))]
    assert torc.send(GetWorkflow(workflow_id=number)).run_id == 0, "it is from before the run"
    assert deliver(torc, number, 77, *results, runner_started_at=5.0).num_counted == 3
    assert states(torc, number) == "a:completed b:completed c:completed"
    assert {
        (item.attempt, item.runner_id, item.run_id) for item in torc.send(ListResults(workflow_id=number)).items
    } == {
        (1, None, 1),
        (3, None, 1),
    }
    assert torc.send(CheckWorkflow(workflow_id=number)) == []
    assert torc.send(StartRun(workflow_id=number)).run_id == 1


def test_results_behind_what_is_not_done_wait_for_it_and_run_again(torc: Embedded) -> None:
    number = workflow(torc, "a -> b")
    assert deliver(torc, number, 77, succeeded(jobs(torc, number)["b"].id)).num_counted == 0
    assert states(torc, number) == "a:ready b:blocked"
    assert torc.send(ListResults(workflow_id=number)).items == []


def test_another_runner_or_workflow_of_the_same_number_is_not_taken_for_the_one_that_reports(torc: Embedded) -> None:
    number = workflow(torc, "a")
    runner_id = runner(torc, number)
    job_id = begin(torc, number, runner_id)
    started = torc.send(GetRunner(runner_id=runner_id)).started_at
    assert deliver(torc, number, runner_id, succeeded(job_id), runner_started_at=started - 1).num_counted == 0
    assert states(torc, number) == "a:running"
    assert exchange(torc, number, runner_id, runner_started_at=started - 1).runner_is_lost
    for request in (
        lambda: deliver(torc, number, runner_id, succeeded(job_id), workflow_created_at=1.0),
        lambda: exchange(torc, number, runner_id, finished=[succeeded(job_id)], workflow_created_at=1.0),
    ):
        with pytest.raises(Conflict, match="not the one"):
            request()
    assert states(torc, number) == "a:running"
    assert deliver(torc, number, runner_id, succeeded(job_id), runner_started_at=started).num_counted == 1
    assert states(torc, number) == "a:completed"


def test_a_failure_that_was_not_known_is_handled_as_any_other(torc: Embedded) -> None:
    number = workflow(torc, "a -> b")
    job_id = jobs(torc, number)["a"].id
    failed = succeeded(job_id).model_copy(update={"outcome": "failed", "return_code": 3})
    assert deliver(torc, number, 77, failed, succeeded(job_id)).num_counted == 1, (
        "the first report of an attempt counts"
    )
    assert states(torc, number) == "a:failed b:canceled"
    assert torc.send(CheckWorkflow(workflow_id=number)) == []


def made(given: Assignment, env: dict[str, str] | None = None) -> Finished:
    """Return the result of what a runner was given, as it reports it."""
    fingerprint = fingerprint_of(given, env or {})
    return succeeded(given.job_id, given.attempt).model_copy(update={"fingerprint": fingerprint})


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "echo other"},
        {"invocation_script": "bash -e"},
        {"env": {"A": "2"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_result_does_not_count_in_a_restored_store_in_which_its_job_was_edited(
    torc: Embedded, changes: dict[str, Any]
) -> None:
    (given,) = exchange(torc, (lost := workflow(torc, "a")), runner(torc, lost), limit=1).assignments
    number = workflow(torc, "a -> b")  # as it was before the attempt
    job_id = jobs(torc, number)["a"].id
    result = made(given.model_copy(update={"job_id": job_id}))
    torc.send(UpdateJob(job_id=job_id, **changes))
    delivered = deliver(torc, number, 77, result, runner_started_at=5.0)
    assert (delivered.num_counted, delivered.num_outdated) == (0, 1)
    assert states(torc, number).endswith(":ready b:blocked")
    assert torc.send(ListResults(workflow_id=number)).items == []
    assert "results_outdated" in [event.type for event in torc.send(ListEvents(workflow_id=number)).items]
    again = exchange(torc, number, runner(torc, number), limit=1).assignments
    assert [item.attempt for item in again] == [1], "it runs"


def test_a_result_does_not_count_for_another_job_that_has_the_number_now(torc: Embedded) -> None:
    number = workflow(torc, "a", jobs={"a": {"command": "echo x"}})
    runner_id = runner(torc, number)
    (given,) = exchange(torc, number, runner_id, limit=1).assignments
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    result = made(given.model_copy(update={"name": "other"}))
    assert deliver(torc, number, runner_id, result).num_outdated == 1
    assert deliver(torc, number, runner_id, made(given)).num_counted == 1


def test_a_result_counts_in_a_restored_store_in_which_nothing_was_edited_that_it_depends_on(torc: Embedded) -> None:
    def made_one() -> int:
        return workflow(torc, "a", env={"X": "1"}, jobs={"a": {"env": {"Y": "2"}, "priority": 1}})

    (given,) = exchange(torc, (lost := made_one()), runner(torc, lost), limit=1).assignments
    number = made_one()
    job_id = jobs(torc, number)["a"].id
    torc.send(UpdateJob(job_id=job_id, priority=7))
    result = made(given.model_copy(update={"job_id": job_id}), {"X": "1"})
    assert deliver(torc, number, 77, result, runner_started_at=5.0).num_counted == 1
    assert states(torc, number) == "a:completed"


def test_the_environment_of_the_workflow_is_part_of_what_a_result_is_of(torc: Embedded) -> None:
    number = workflow(torc, "a", env={"X": "1"})
    runner_id = runner(torc, number)
    (given,) = exchange(torc, number, runner_id, limit=1).assignments
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    torc.send(UpdateWorkflow(workflow_id=number, env={"X": "2"}))
    assert deliver(torc, number, runner_id, made(given, {"X": "1"})).num_outdated == 1
    assert states(torc, number) == "a:ready"
    torc.send(UpdateWorkflow(workflow_id=number, env={"X": "1"}))
    assert deliver(torc, number, runner_id, made(given, {"X": "1"})).num_counted == 1


def _with_data(torc: Embedded) -> tuple[int, dict[str, int]]:
    document = {
        "name": "w",
        "user_data": [{"name": "given", "data": 1}, {"name": "made"}],
        "jobs": [
            {"name": "a", "command": "true", "input_user_data": ["given"], "output_user_data": ["made"]},
            {"name": "b", "command": "true", "input_user_data": ["made"]},
        ],
    }
    number = create(torc, document).id
    return number, {item.name: item.id for item in torc.send(ListUserData(workflow_id=number)).items}


def test_a_result_does_not_count_once_user_data_that_it_was_made_from_is_another(torc: Embedded) -> None:
    number, data = _with_data(torc)
    runner_id = runner(torc, number)
    (given,) = exchange(torc, number, runner_id, limit=1).assignments
    torc.send(SetUserData(user_data_id=data["made"], data=5))
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    torc.send(SetUserData(user_data_id=data["given"], data=2))
    assert deliver(torc, number, runner_id, made(given)).num_outdated == 1
    torc.send(SetUserData(user_data_id=data["given"], data=1))
    assert deliver(torc, number, runner_id, made(given)).num_counted == 1
    assert states(torc, number) == "a:completed b:ready"


def test_a_result_does_not_count_in_a_store_that_has_lost_the_user_data_that_its_attempt_wrote(
    torc: Embedded,
) -> None:
    number, data = _with_data(torc)
    job_id = jobs(torc, number)["a"].id
    assert deliver(torc, number, 77, succeeded(job_id), runner_started_at=5.0).num_outdated == 1, "it is not there"
    torc.send(SetUserData(user_data_id=data["made"], data=4))
    delivered = deliver(torc, number, 77, succeeded(job_id), runner_started_at=5.0)
    assert delivered.num_outdated == 1, "what is there is of an earlier attempt"
    failed = succeeded(job_id).model_copy(update={"outcome": "failed", "return_code": 3})
    assert deliver(torc, number, 77, failed, runner_started_at=5.0).num_counted == 1, "a failure has written nothing"


def test_a_result_that_counted_is_not_called_outdated_when_it_is_delivered_again(torc: Embedded) -> None:
    number = workflow(torc, "a")
    runner_id = runner(torc, number)
    (given,) = exchange(torc, number, runner_id, limit=1).assignments
    torc.send(EndRunner(workflow_id=number, runner_id=runner_id, reason="lease ended"))
    assert deliver(torc, number, runner_id, made(given)).num_counted == 1
    torc.send(UpdateJob(job_id=given.job_id, command="echo other"))
    delivered = deliver(torc, number, runner_id, made(given))
    assert (delivered.num_counted, delivered.num_outdated) == (0, 0)
    assert states(torc, number) == "a:completed"
