"""Which actions are due, and that each is due once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.workflow.states import FINISHED, State
from torc.workflow.triggers import (
    OF_WORKERS,
    ActionProgress,
    Trigger,
    WaitingAction,
    advance,
    begin,
    has_reached,
    occasion,
)

OF_JOBS = [Trigger.JOBS_COMPLETE, Trigger.JOBS_READY]

READY_0_1 = WaitingAction(Trigger.JOBS_READY, frozenset({0, 1}))
DONE_0_1 = WaitingAction(Trigger.JOBS_COMPLETE, frozenset({0, 1}))
DONE_1 = WaitingAction(Trigger.JOBS_COMPLETE, frozenset({1}))

move_lists = st.lists(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(list(State))).map(lambda move: (*move, move[1] in FINISHED)),
        max_size=4,
    ),
    max_size=8,
)
watches = st.lists(st.builds(WaitingAction, st.sampled_from(OF_JOBS), st.frozensets(st.integers(0, 3), min_size=1)))


def test_an_action_waits_for_the_last_of_its_jobs() -> None:
    progress, due = advance([READY_0_1], begin([READY_0_1]), [(0, State.READY, False), (2, State.READY, False)])
    assert due == ()
    assert advance([READY_0_1], progress, [(1, State.READY, False)])[1] == (0,)


def test_jobs_that_finish_together_fire_all_actions_that_waited_for_them() -> None:
    both = [DONE_0_1, DONE_1]
    moved = [(0, State.COMPLETED, True), (1, State.FAILED, True)]
    assert advance(both, begin(both), moved)[1] == (0, 1)


def test_a_job_that_was_ready_stays_counted_while_it_is_retried() -> None:
    progress, _ = advance([READY_0_1], begin([READY_0_1]), [(0, State.READY, False)])
    progress, _ = advance([READY_0_1], progress, [(0, State.RUNNING, False)])
    progress, due = advance([READY_0_1], progress, [(1, State.READY, False)])
    assert due == (0,)
    assert advance([READY_0_1], progress, [(0, State.READY, False)])[1] == ()


def test_a_job_that_is_canceled_before_it_was_ready_is_not_waited_for() -> None:
    moved = [(0, State.CANCELED, True), (1, State.READY, False)]
    assert advance([READY_0_1], begin([READY_0_1]), moved)[1] == (0,)


def test_an_interrupted_job_has_not_finished() -> None:
    progress, due = advance([DONE_1], begin([DONE_1]), [(1, State.TERMINATED, False)])
    assert due == ()
    assert advance([DONE_1], progress, [(1, State.COMPLETED, True)])[1] == (0,)


def test_a_failure_that_awaits_a_decision_has_not_finished() -> None:
    assert not has_reached(Trigger.JOBS_COMPLETE, State.PENDING_FAILED, counted=False)


@given(watches, move_lists)
def test_each_action_fires_once_and_exactly_when_all_its_jobs_have_come_far_enough(
    watched: list[WaitingAction], steps: list[list[tuple[int, State, bool]]]
) -> None:
    progress: ActionProgress = begin(watched)
    fired: list[int] = []
    seen: set[tuple[int, State, bool]] = set()
    for moved in steps:
        progress, due = advance(watched, progress, moved)
        fired += due
        seen |= set(moved)
        for index, watch in enumerate(watched):
            far = {job for job, state, counted in seen if has_reached(watch.trigger, state, counted=counted)}
            assert (index in fired) == (watch.jobs <= far)
    assert len(fired) == len(set(fired))


@pytest.mark.parametrize("trigger", list(Trigger))
def test_only_worker_actions_have_an_occasion_for_each_worker(trigger: Trigger) -> None:
    assert (occasion(trigger, 7) == "runner:7") == (trigger in OF_WORKERS)
    if trigger not in OF_WORKERS:
        assert occasion(trigger, 7) == occasion(trigger) == ""


def test_no_move_of_a_job_reaches_what_is_not_about_jobs() -> None:
    for trigger in set(Trigger) - set(OF_JOBS):
        assert not any(has_reached(trigger, state, counted=True) for state in State)
