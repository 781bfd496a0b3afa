"""What a runner does about what happens to it, without a process, a clock or a store."""

from __future__ import annotations

import pytest

from tests.runner.harness import (
    GIB,
    ActionAssignment,
    ActionExited,
    JobAttempt,
    Keep,
    KillAction,
    Launched,
    Leave,
    MemoryExceeded,
    NoRoom,
    NotLaunched,
    Reactor,
    Replied,
    RunAction,
    Send,
    Slept,
    StartAttempt,
    Stop,
    Tick,
    job,
)
from torc.api.runs import ExchangeReply
from torc.runner.exchange_policy import HOLD_SECONDS, REPORT_SECONDS
from torc.runner.reactor import MOST_DEATHS
from torc.runner.state import OutOfMemory, SpawnerDied, Unreachable


def test_it_asks_for_work_at_once_with_all_that_is_free() -> None:
    r = Reactor(num_cpus=4)
    request = r.sent()
    assert (request.free.num_cpus, request.free.memory_bytes, request.limit > 0) == (4, 8 * GIB, True)


def test_it_starts_what_it_is_given_and_reports_it() -> None:
    r = Reactor()
    assert r.replied(job(1), job(2)) == [1, 2]
    r.later(REPORT_SECONDS)
    assert [item.job_id for item in r.sent().started] == [1, 2]


def test_one_exchange_is_in_flight_at_a_time_and_reports_gather_meanwhile() -> None:
    r = Reactor(num_cpus=3)
    r.replied(job(1), job(2), job(3))
    r.ended(1)
    assert [item.job_id for item in r.sent().finished] == [1]
    r.ended(2)
    r.ended(3)
    r.later(5.0)
    assert r.take(Send) == []
    r.answered()
    assert [item.job_id for item in r.sent().finished] == [2, 3]


def test_a_result_frees_its_room_and_is_reported_at_once_when_that_room_is_empty() -> None:
    r = Reactor(num_cpus=1)
    r.replied(job(1))
    r.ended(1)
    request = r.sent()
    assert [(item.job_id, item.outcome) for item in request.finished] == [(1, "succeeded")]
    assert request.free.num_cpus == 1
    assert request.started == [], "who has ended need not be said to have begun"


def test_a_job_that_does_not_fit_now_lets_others_pass_but_not_for_ever() -> None:
    r = Reactor(num_cpus=2)
    assert r.replied(job(1), job(2, num_cpus=2), job(3)) == [1, 3]
    r.replied(job(4), job(5))
    r.now += 0.5
    assert r.ended(3) == [4]
    r.now += 2.5
    assert r.ended(4) == [], "job 2 has waited long enough"
    assert r.ended(1) == [2]


def test_gpus_are_handed_out_one_by_one_and_come_back() -> None:
    r = Reactor(num_cpus=8, num_gpus=3)
    r.take(Send)
    r.replied(job(1, num_gpus=2), job(2, num_gpus=1))
    assert [r.state.running[number].gpus for number in (1, 2)] == [("0", "1"), ("2",)]
    r.ended(1)
    r.replied(job(3, num_gpus=1))
    assert r.state.running[3].gpus == ("0",)


def test_memory_limits_how_many_start() -> None:
    r = Reactor(num_cpus=8)
    assert r.replied(job(1, memory_bytes=5 * GIB), job(2, memory_bytes=4 * GIB), job(3, memory_bytes=3 * GIB)) == [1, 3]


def test_a_number_of_jobs_instead_of_resources_ignores_what_they_ask_for() -> None:
    r = Reactor(num_cpus=1, max_parallel_jobs=3)
    assert r.sent().limit == 3
    assert r.replied(*[job(n, num_cpus=64, memory_bytes=1 << 50) for n in range(1, 5)]) == [1, 2, 3]


def test_a_job_is_killed_once_at_its_deadline_and_reported_as_a_timeout() -> None:
    r = Reactor(grace_seconds=10.0)
    r.replied(job(1, runtime_seconds=60))
    r.later(59.0)
    assert r.kills() == []
    r.later(1.0)
    assert r.kills() == [(1, False)]
    r.later(9.0)
    assert r.kills() == []
    r.later(1.5)
    assert r.kills() == [(1, True)]
    r.ended(1, 137)
    (item,) = r.reported()
    assert (item.outcome, item.reason, item.return_code) == ("terminated", "timeout", 152)
    assert "60" in item.detail or "1m" in item.detail


def test_a_job_over_its_memory_is_killed_for_good_and_told_both_numbers() -> None:
    r = Reactor()
    r.replied(job(1, memory_bytes=GIB))
    r.tell(MemoryExceeded(1, 2 * GIB))
    r.tell(MemoryExceeded(1, 3 * GIB))
    assert r.kills() == [(1, True)]
    r.ended(1, 137)
    (item,) = r.reported()
    assert (item.outcome, item.reason) == ("terminated", "out_of_memory")
    assert "2" in item.detail and "1" in item.detail


def test_what_the_kernel_killed_for_its_memory_is_told_with_peak_and_limit() -> None:
    r = Reactor()
    r.replied(job(1), job(2), job(3))
    r.ended(1, 137, out_of_memory=OutOfMemory(GIB, GIB))
    r.ended(2, 137, out_of_memory=OutOfMemory(GIB, None))
    r.ended(3, 0, out_of_memory=OutOfMemory(GIB, GIB))
    at_limit, on_node, survived = r.reported()
    assert (at_limit.outcome, at_limit.reason) == (
        "terminated",
        "out_of_memory",
    ) and "1 GiB requested" in at_limit.detail
    assert (on_node.outcome, on_node.reason) == (
        "failed",
        "out_of_memory",
    ) and "this machine had no memory left" in on_node.detail
    assert (survived.outcome, survived.return_code) == ("terminated", 137), "what is left of a job is no job"


def test_missing_outputs_make_a_success_a_failure_that_names_them() -> None:
    r = Reactor()
    r.replied(job(1))
    r.ended(1, 0, missing=tuple(f"out{n}" for n in range(8)))
    (item,) = r.reported()
    assert (item.outcome, item.reason, item.return_code) == ("failed", "missing_output", 0)
    assert item.detail == "did not write out0, out1, out2, out3, out4 and 3 more"


def test_what_cannot_be_started_fails_with_the_reason() -> None:
    r = Reactor()
    r.answered(job(1))
    r.take(StartAttempt)
    r.tell(NotLaunched(1, 7000.0, "cannot start: no such shell"))
    (item,) = r.reported()
    assert (item.outcome, item.reason, item.detail) == ("failed", "not_started", "cannot start: no such shell")
    assert r.state.free == r.settings.total


# -- what the node runs out of ----------------------------------------------------------------------------------


def test_when_the_node_has_no_room_for_a_process_the_job_waits_and_starts_later() -> None:
    r = Reactor(num_cpus=1)
    r.answered(job(1))
    r.take(StartAttempt)
    r.tell(NoRoom(1, "cannot start: No space left on device"))
    assert (r.take(StartAttempt), r.reported()) == ([], [])
    r.later(0.2)
    assert r.launch() == [1]


def test_a_node_that_lets_nothing_start_is_left_with_the_reason_and_the_jobs_given_back() -> None:
    r = Reactor(num_cpus=1)
    r.answered(job(1))
    for _ in range(30):
        if r.take(StartAttempt):
            r.tell(NoRoom(1, "cannot start: No space left on device"))
        r.later(1.0)
        r.answered()
        if r.take(Leave):
            break
    else:
        raise AssertionError("it never left")
    assert r.state.trouble and r.state.trouble.why == "cannot start: No space left on device"
    assert r.state.num_failed == 0


@pytest.mark.parametrize("is_told", [True, False])
def test_a_step_that_could_not_be_launched_is_given_back_as_not_started(is_told: bool) -> None:
    r = Reactor(num_cpus=1)
    r.answered(job(1))
    r.take(StartAttempt)
    r.tell(Launched(1, 5.0))  # a step of several nodes counts as begun when srun is
    if is_told:
        r.later(1.0)
        r.answered()
    r.tell(NoRoom(1, "cannot start: task launch failed"))
    r.tell(Stop())
    found = [(item.outcome, item.reason, item.detail) for item in r.reported()]
    if is_told:  # the store takes it for running, and would call it lost with the runner
        assert found == [("interrupted", "not_started", "cannot start: task launch failed")]
        assert r.state.released == []
    else:
        assert found == []
        assert r.state.started == {}


def test_trouble_does_not_stop_what_runs() -> None:
    r = Reactor(num_cpus=2)
    r.replied(job(1))
    r.answered(job(2))
    for _ in range(30):
        if r.take(StartAttempt):
            r.tell(NoRoom(2, "cannot start: Cannot allocate memory"))
        r.later(1.0)
        r.answered()
    assert (r.kills(), r.state.trouble) == ([], None)


# -- stopping ---------------------------------------------------------------------------------------------------


def test_stopping_ends_jobs_kindly_where_they_can_save_and_gives_claimed_ones_back() -> None:
    r = Reactor(num_cpus=2, grace_seconds=10.0)
    r.replied(job(1), job(2, supports_termination=True), job(3, attempt=4))
    r.tell(Stop())
    assert r.kills() == [(1, True), (2, False)]
    r.ended(1, 137)
    r.ended(2, 0)
    request = r.sent()
    assert request.stopping
    r.answered()
    requests = [request, *([r.sent()] if r.state.in_flight else [])]
    assert JobAttempt(job_id=3, attempt=4) in [item for part in requests for item in part.released]
    finished = {item.job_id: (item.outcome, item.reason) for part in requests for item in part.finished}
    assert finished == {1: ("interrupted", "runner_stopped"), 2: ("interrupted", "runner_stopped")}
    r.answered()
    assert r.take(Leave)


def test_the_second_stop_kills_at_once() -> None:
    r = Reactor(grace_seconds=1000.0)
    r.replied(job(1, supports_termination=True))
    r.tell(Stop())
    assert r.kills() == [(1, False)]
    r.tell(Stop(at_once=True))
    assert r.kills() == [(1, True)]


def test_after_the_grace_a_job_that_does_not_end_is_killed() -> None:
    r = Reactor(grace_seconds=7.0)
    r.replied(job(1, supports_termination=True))
    r.tell(Stop())
    r.kills()
    r.later(6.9)
    assert r.kills() == []
    r.later(0.2)
    assert r.kills() == [(1, True)]


def test_nothing_starts_while_stopping_and_what_still_comes_goes_back() -> None:
    r = Reactor(num_cpus=4)
    r.tell(Stop())
    assert r.replied(job(1), job(2)) == []
    assert {item.job_id for item in r.sent().released} == {1, 2}


def test_jobs_that_can_save_their_work_are_asked_to_before_the_runner_leaves() -> None:
    r = Reactor(num_cpus=3, leave_at=1060.0, grace_seconds=10.0)
    r.replied(job(1, supports_termination=True), job(2))
    r.later(49.9)
    assert r.kills() == []
    r.later(0.2)
    assert r.kills() == [(1, False)], "the other may still come to its end"
    assert r.ended(1, 0) == []
    assert r.replied(job(3, supports_termination=True), job(4)) == [4], "no time is left to save anything"
    r.later(10.0)
    assert (2, True) in r.kills()
    assert [(item.outcome, item.reason) for item in r.reported() if item.job_id == 1] == [
        ("interrupted", "runner_stopped")
    ]


def test_half_of_a_short_time_is_left_to_jobs_before_they_are_asked() -> None:
    r = Reactor(leave_at=1006.0, grace_seconds=10.0)
    r.replied(job(1, supports_termination=True))
    r.later(2.9)
    assert r.kills() == []
    r.later(0.2)
    assert r.kills() == [(1, False)]
    r.later(3.0)
    assert r.kills() == [(1, True)], "it does not outlast the time of its runner"


def test_a_job_that_can_save_its_work_is_asked_to_before_its_limit_and_is_to_be_continued() -> None:
    r = Reactor(grace_seconds=10.0)
    r.replied(
        job(1, supports_termination=True, runtime_seconds=60), job(2, supports_termination=True, runtime_seconds=8)
    )
    r.later(3.9)
    assert r.kills() == []
    r.later(0.2)
    assert r.kills() == [(2, False)], "half of a short time at most"
    r.ended(2, 1)
    r.later(45.8)
    assert r.kills() == []
    r.later(0.2)
    assert r.kills() == [(1, False)]
    r.later(10.0)
    assert r.kills() == [(1, True)], "the limit itself holds"
    r.ended(1, 137)
    last = r.reported()[-1]
    assert (last.outcome, last.reason, last.detail) == (
        "interrupted",
        "timeout",
        "was asked to save its work before its limit of 1m 00s",
    )


def test_the_time_limit_stops_the_runner() -> None:
    r = Reactor(leave_at=1060.0)
    assert r.sent().free.runtime_seconds == pytest.approx(60.0)
    r.replied(job(1, runtime_seconds=3600))
    r.later(59.9)
    assert r.kills() == []
    r.later(0.2)
    assert r.kills() == [(1, True)]


def test_fail_fast_stops_at_the_first_failure_and_leaves_the_rest_to_be_gone_on_with() -> None:
    r = Reactor(fail_fast=True)
    r.replied(job(1), job(2))
    r.ended(1, 3)
    assert r.kills() == [(2, True)]
    r.ended(2, -9)
    assert {item.job_id: item.outcome for item in [*r.reported()]} == {1: "failed", 2: "interrupted"}


def test_a_canceled_job_gets_its_grace_and_ends_canceled() -> None:
    r = Reactor()
    r.replied(job(1, attempt=2))
    r.later(REPORT_SECONDS)
    r.answered(cancel=[JobAttempt(job_id=1, attempt=2)])
    assert r.kills() == [(1, False)]
    r.ended(1, 0)
    assert [item.outcome for item in r.reported()] == ["canceled"]


def test_canceling_what_was_only_claimed_gives_it_back() -> None:
    r = Reactor(num_cpus=1)
    r.replied(job(1), job(2))
    r.later(REPORT_SECONDS)
    assert r.replied(cancel=[JobAttempt(job_id=2, attempt=1)]) == []
    assert r.ended(1) == []
    assert r.state.running == {}


# -- actions ----------------------------------------------------------------------------------------------------


def test_an_action_is_carried_out_once_it_is_recorded_as_started_and_reported_once() -> None:
    r = Reactor()
    r.answered(
        actions=[ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_start", commands=["true"])]
    )
    assert r.take(RunAction) == [], "nobody knows of it yet"
    request = r.sent()
    assert request.actions_started == [9]
    r.tell(Unreachable(request))
    r.later(1.0)
    assert r.take(RunAction) == [] and r.sent().actions_started == [9]
    r.answered()
    (effect,) = r.take(RunAction)
    assert effect.action.firing_id == 9
    r.answered()
    r.tell(ActionExited(9, 0))
    (kept,) = r.take(Keep)
    assert [item.firing_id for item in kept.reports.actions_finished] == [9], "before anybody is told"
    assert [item.firing_id for item in r.sent().actions_finished] == [9]
    r.answered(done=True)
    assert r.take(Leave)


def test_what_came_in_time_for_a_lease_that_has_ended_starts_only_when_the_store_answers_anew() -> None:
    r = Reactor(num_cpus=1)
    r.now += 61.0  # it stood still, and the answer has waited for it
    assert r.replied(job(1), job(2)) == []
    assert r.replied() == [1]
    r.now += 61.0
    assert r.ended(1) == [], "what is in the queue may be somebody else's by now"
    assert r.replied() == [2]


def test_a_runner_that_stood_still_and_has_lost_its_jobs_starts_none_of_them() -> None:
    r = Reactor(num_cpus=1)
    r.now += 61.0
    assert r.replied(job(1)) == []
    assert r.replied(runner_is_lost=True) == []
    assert r.take(Leave)


def test_the_sleep_of_the_machine_counts_for_the_lease_though_the_clock_stands_still() -> None:
    r = Reactor(num_cpus=1)
    assert r.replied(job(1), job(2)) == [1]
    r.tell(Slept(3600.0))
    assert r.ended(1) == []
    assert r.replied() == [2]


def test_an_action_that_was_recorded_too_long_ago_is_recorded_again_before_it_begins() -> None:
    r = Reactor()
    action = ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_start", commands=["true"])
    r.answered(actions=[action])
    r.now += 61.0
    r.answered()
    assert r.take(RunAction) == [], "it may have been given to another runner since"
    assert r.sent().actions_started == [9]
    r.answered()
    assert [effect.action.firing_id for effect in r.take(RunAction)] == [9]


def test_it_does_not_leave_while_an_action_runs() -> None:
    r = Reactor()
    action = ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_complete", commands=["true"])
    r.answered(actions=[action], done=True)
    assert r.take(Leave) == []


def test_an_action_that_is_not_recorded_as_started_does_not_begin_when_the_runner_stops() -> None:
    r = Reactor()
    action = ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_start", commands=["true"])
    r.answered(actions=[action])
    r.tell(Stop())
    r.answered()
    assert r.take(RunAction) == []
    r.answered()
    assert r.take(Leave)


def test_a_runner_that_was_lost_ends_its_actions_too() -> None:
    r = Reactor()
    for firing_id in (8, 9):
        r.answered(
            actions=[
                ActionAssignment(action_id=1, firing_id=firing_id, trigger_type="on_workflow_start", commands=["x"])
            ]
        )
    assert [effect.action.firing_id for effect in r.take(RunAction)] == [8]
    r.answered(runner_is_lost=True)
    assert r.take(KillAction) == [KillAction(8, for_good=True)]
    r.tell(ActionExited(8, 137))
    assert r.take(Leave)


def test_stopping_ends_actions_too_kindly_first() -> None:
    r = Reactor(grace_seconds=5.0)
    action = ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_start", commands=["sleep 1000"])
    r.answered(actions=[action])
    r.answered()
    r.tell(Stop())
    assert r.take(KillAction) == [KillAction(9, for_good=False)]
    r.later(5.1)
    assert r.take(KillAction) == [KillAction(9, for_good=True)]


# -- the conversation -------------------------------------------------------------------------------------------


def test_short_jobs_are_claimed_ahead_and_long_ones_never() -> None:
    r = Reactor(num_cpus=2)
    r.replied(job(1), job(2))
    r.ended(1, seconds=0.002)
    assert r.sent().claim_ahead > 50
    r.replied(job(3), job(4))
    for number in range(100, 130):
        r.ended(next(iter(r.state.running)), seconds=600.0)
        r.replied(job(number))
    r.later(20.0)
    assert r.sent().claim_ahead == 0


def test_what_was_claimed_ahead_goes_back_when_nothing_ends_for_a_while() -> None:
    r = Reactor(num_cpus=1)
    r.replied(job(1), job(2), job(3))
    r.take(Send)
    r.answered()
    r.later(HOLD_SECONDS + REPORT_SECONDS)
    r.answered()
    r.later(HOLD_SECONDS)
    assert list(r.state.queue) == []


def test_an_idle_runner_sends_a_heartbeat_and_no_more() -> None:
    r = Reactor(num_cpus=1, heartbeat_seconds=15.0)
    r.replied(job(1, runtime_seconds=86400))
    r.later(REPORT_SECONDS)
    r.answered()
    sent = 0
    for _ in range(60):
        r.later(1.0)
        if r.take(Send):
            sent += 1
            r.answered()
    assert sent == 4


def test_it_leaves_when_all_is_done() -> None:
    r = Reactor()
    r.answered(done=True)
    assert r.take(Leave)


def test_it_says_good_bye_and_leaves_when_nothing_that_is_left_fits_here() -> None:
    r = Reactor()
    r.answered(waiting=3, stuck=True)
    assert r.sent().stopping
    r.answered(waiting=3)
    assert r.take(Leave)
    assert r.state.is_stuck


def test_jobs_that_this_runner_may_not_have_now_are_waited_for() -> None:
    r = Reactor(wait_seconds=5.0)
    r.answered(waiting=3)
    assert (r.sent().wait_seconds, r.take(Leave)) == (5.0, [])


def test_what_the_store_did_not_take_is_sent_again_with_what_came_meanwhile() -> None:
    r = Reactor(num_cpus=2)
    r.replied(job(1), job(2))
    r.ended(1)
    r.refused()
    r.ended(2)
    assert r.take(Send) == [], "not at once again"
    r.later(10.0)
    assert [item.job_id for item in r.sent().finished] == [1, 2]


def test_each_result_goes_to_the_journal_once_while_the_store_does_not_answer() -> None:
    r = Reactor(num_cpus=3)
    r.replied(job(1), job(2), job(3))
    r.ended(1)
    r.ended(2)
    assert r.take(Keep) == []
    r.refused()
    r.ended(3)
    r.later(1.0)
    r.refused()
    kept = [item.job_id for effect in r.take(Keep) for item in effect.reports.finished]
    assert kept == [1, 2, 3]


def test_running_jobs_go_on_while_the_store_does_not_answer() -> None:
    r = Reactor(num_cpus=2)
    r.replied(job(1), job(2))
    r.later(REPORT_SECONDS)
    for _ in range(20):
        r.refused()
        r.later(60.0 - r.now % 1)
    assert r.kills() == []
    assert len(r.state.running) == 2


def test_a_stopped_runner_leaves_without_the_store_when_nothing_runs() -> None:
    r = Reactor()
    r.replied(job(1))
    r.later(REPORT_SECONDS)
    r.tell(Stop())
    r.ended(1, 137)
    r.refused()
    assert r.take(Leave)
    assert [item.job_id for effect in r.take(Keep) for item in effect.reports.finished] == [1]


def test_a_runner_that_lost_its_lease_kills_what_it_has_and_leaves() -> None:
    r = Reactor()
    r.replied(job(1))
    r.later(REPORT_SECONDS)
    r.answered(done=True, runner_is_lost=True)
    assert (r.kills(), r.take(Leave)) == ([(1, True)], [])
    r.ended(1, 137)
    assert r.take(Leave)


# -- what runners in the background do when nothing is left -----------------------------------------------------


def test_a_runner_lingers_for_more_work_and_leaves_when_none_came() -> None:
    r = Reactor(num_cpus=1, linger_seconds=30.0)
    r.replied(job(1))
    r.ended(1)
    r.answered(done=True)
    asked = 0
    for _ in range(29):
        r.later(1.0)
        if r.take(Send):
            asked += 1
            r.answered(done=True)
    assert r.take(Leave) == [] and 20 <= asked <= 30, "it asks now and then"
    r.now += 2.0
    r.tell(Tick())
    assert Leave() in r.take(Leave)


def test_work_that_comes_while_it_lingers_is_done_and_begins_the_wait_anew() -> None:
    r = Reactor(num_cpus=1, linger_seconds=30.0)
    r.replied(job(1))
    r.ended(1)
    r.answered(done=True)
    r.later(1.5)
    assert r.replied(job(2)) == [2]
    r.now += 20.0
    r.ended(2)
    r.answered(done=True)
    r.later(25.0)
    assert r.take(Leave) == []


def test_a_runner_that_holds_its_allocation_stays_until_its_time_is_over() -> None:
    r = Reactor(num_cpus=1, stays=True, leave_at=1000.0 + 3600.0)
    r.answered(done=True)
    for _ in range(100):
        r.later(30.0)
        if r.state.in_flight is not None:
            r.answered(done=True)
    assert r.take(Leave) == []
    r.later(700.0)
    r.answered(done=True)
    assert r.sent().stopping, "its time is over: it says good-bye"
    r.tell(Replied(ExchangeReply(done=True, lease_seconds=60.0)))
    assert r.take(Leave) == [Leave()]


def test_with_too_little_time_left_it_asks_for_nothing_and_leaves_when_its_jobs_have_ended() -> None:
    r = Reactor(num_cpus=2, leave_at=1000.0 + 600.0, min_seconds=300.0)
    r.replied(job(1))
    r.later(REPORT_SECONDS)
    r.answered()
    r.later(400.0)
    if r.state.in_flight is not None:
        r.answered()
    r.take(Send)
    r.ended(1)
    request = r.state.in_flight
    assert request is not None and request.limit == 0 and request.claim_ahead == 0
    for _ in range(3):
        r.answered(waiting=5)
    assert Leave() in r.take(Leave)


def test_a_store_that_is_away_for_longer_than_is_borne_is_left_when_nothing_runs() -> None:
    r = Reactor(num_cpus=1, unreachable_seconds=600.0)
    r.replied(job(1))
    r.ended(1)
    for _ in range(100):
        r.refused()
        assert r.take(Leave) == []
        r.later(5.1)
    for _ in range(30):
        if r.take(Leave):
            break
        r.refused()
        r.later(5.1)
    else:
        raise AssertionError("it waits for ever")


def test_it_asks_again_when_a_retry_is_due_and_not_before() -> None:
    r = Reactor(num_cpus=1, wait_seconds=30.0)
    r.answered(waiting=1, due_seconds=12.0)
    waits = r.sent()
    assert 12.0 <= waits.wait_seconds < 12.1, "the store answers when it is due, if nothing comes before"
    r.later(12.01)
    assert r.take(Send) == []
    assert r.replied(job(1, attempt=2)) == [1]


def test_a_busy_runner_is_woken_for_a_retry_by_a_timer() -> None:
    r = Reactor(num_cpus=2)
    assert r.replied(job(1), waiting=1, due_seconds=0.2) == [1]
    r.later(REPORT_SECONDS)
    r.answered(waiting=1, due_seconds=0.3)
    r.later(0.01)
    r.answered(waiting=1, due_seconds=0.1)
    r.later(0.09)
    assert r.take(Send) == []
    r.later(0.03)
    assert r.sent().limit > 0


def test_a_full_runner_asks_for_no_retry_that_it_has_no_room_for() -> None:
    r = Reactor(num_cpus=1)
    assert r.replied(job(1), waiting=1, due_seconds=1.0) == [1]
    r.later(REPORT_SECONDS)
    r.answered(waiting=1, due_seconds=1.0)
    r.later(10.0)
    assert r.take(Send) == []


# -- spawners that die ------------------------------------------------------------------------------------------


def test_after_the_death_of_a_spawner_nothing_starts_before_the_store_says_that_nobody_took_over() -> None:
    r = Reactor(num_cpus=2)
    r.replied(job(1), job(2))
    r.later(REPORT_SECONDS)
    assert r.sent().started, "this was asked before"
    r.tell(SpawnerDied("was killed by signal 9", (1,)))
    assert r.ended(1, 137, is_doubtful=True) == []
    assert r.replied(job(3)) == []
    request = r.sent()
    assert request.finished == [], "as long as it is not known, nothing is told of what may be another runner's"
    assert r.replied() == [3]
    r.later(REPORT_SECONDS)
    assert [(done.job_id, done.outcome, done.reason, done.return_code) for done in r.sent().finished] == [
        (1, "failed", "parent_killed", 137)
    ]


def test_a_runner_that_was_given_up_reports_nothing_of_what_ended_with_its_spawners() -> None:
    r = Reactor(num_cpus=2)
    action = ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_start", commands=["true"])
    r.replied(job(1), actions=[action])
    r.answered()
    r.tell(SpawnerDied("was killed by signal 9", (1,)))
    r.ended(1, 137, is_doubtful=True)
    r.tell(ActionExited(9, 137, is_doubtful=True))
    request = r.sent()
    assert (request.finished, request.actions_finished, r.take(Keep)) == ([], [], [])
    r.answered(runner_is_lost=True)
    assert r.take(Leave) and not (r.take(Send) or r.take(Keep))


def test_what_ended_with_a_spawner_is_held_by_the_runner_until_it_is_told() -> None:
    r = Reactor(num_cpus=1)
    r.replied(job(1))
    r.later(REPORT_SECONDS)
    request = r.sent()
    r.tell(SpawnerDied("was killed by signal 9", (1,)))
    r.ended(1, 137, is_doubtful=True)
    r.tell(Unreachable(request))
    r.later(5.0)
    asks = r.sent()
    assert [item.job_id for item in asks.held or ()] == [1], "the store does not give it to others as forgotten"
    r.answered()
    assert [done.job_id for done in r.sent().finished] == [1]


def test_an_action_does_not_begin_by_an_answer_from_before_the_death_of_a_spawner() -> None:
    r = Reactor()
    action = ActionAssignment(action_id=1, firing_id=9, trigger_type="on_workflow_start", commands=["true"])
    r.replied(job(1), actions=[action])
    assert r.sent().actions_started == [9]
    r.tell(SpawnerDied("was killed by signal 9", (1,)))
    r.ended(1, 137, is_doubtful=True)
    r.answered()
    assert r.take(RunAction) == []
    assert r.sent().actions_started == [9]
    r.answered()
    assert r.take(RunAction) == [RunAction(action)]


def test_a_runner_whose_spawners_die_again_and_again_leaves_and_each_attempt_has_counted() -> None:
    r = Reactor(num_cpus=1)
    for attempt in range(1, MOST_DEATHS):
        r.replied(job(1, attempt=attempt))
        r.tell(SpawnerDied("was killed by signal 9", (1,)))
        r.ended(1, 137, is_doubtful=True)
        r.answered()
        assert [done.attempt for done in r.sent().finished] == [attempt]
    r.replied(job(1, attempt=MOST_DEATHS))
    r.tell(SpawnerDied("was killed by signal 9", (1,)))
    r.ended(1, 137, is_doubtful=True)
    r.answered()
    assert [(done.attempt, done.outcome) for done in r.sent().finished] == [(MOST_DEATHS, "failed")]
    r.answered(job(2))
    assert r.take(StartAttempt) == []
    r.answered()
    assert r.take(Leave) and r.state.trouble


def test_deaths_of_spawners_between_jobs_that_end_by_themselves_are_borne() -> None:
    r = Reactor(num_cpus=1)
    for number in range(1, 4 * MOST_DEATHS, 2):
        assert r.replied(job(number)) == [number]
        r.tell(SpawnerDied("was killed by signal 9", (number,)))
        r.ended(number, 137, is_doubtful=True)
        r.answered()
        assert r.replied(job(number + 1)) == [number + 1]
        r.ended(number + 1)
    assert r.state.trouble is None
