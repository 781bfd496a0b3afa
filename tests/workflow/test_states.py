"""The table of states."""

from __future__ import annotations

import re

import pytest

from torc.errors import Conflict
from torc.workflow.states import (
    FINISHED,
    HELD,
    SATISFIED,
    TRANSITIONS,
    UNSUCCESSFUL,
    Effect,
    JobEvent,
    State,
    moves,
    states_mermaid,
    transition,
)

PAIRS = [(state, event) for state in State for event in JobEvent]


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_a_pair_is_in_the_table_or_a_conflict_that_names_both(state: State, event: JobEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert transition(state, event) == TRANSITIONS[state, event]
        assert moves(event)[state] == TRANSITIONS[state, event]
        return
    assert state not in moves(event)
    with pytest.raises(Conflict) as raised:
        transition(state, event)
    assert str(state) in raised.value.message
    assert str(event) in raised.value.message
    assert raised.value.details == {"state": state, "event": event}


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_a_move_counts_off_when_it_finishes_a_job_and_on_when_it_takes_that_back(state: State, event: JobEvent) -> None:
    target, effects = TRANSITIONS[state, event]
    continued = event in (JobEvent.INTERRUPTED, JobEvent.RESUMED)  # neither was it finished, nor is it begun afresh
    assert (Effect.COUNT_OFF in effects) == (target in FINISHED and not continued)
    assert (Effect.COUNT_ON in effects) == (state in FINISHED and target not in FINISHED and not continued)


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_an_attempt_is_stopped_exactly_when_a_held_job_is_canceled(state: State, event: JobEvent) -> None:
    effects = TRANSITIONS[state, event][1]
    assert (Effect.STOP_ATTEMPT in effects) == (state in HELD and event is JobEvent.CANCELED)


def test_every_state_is_reached_and_can_be_left() -> None:
    assert {target for target, _ in TRANSITIONS.values()} | {State.UNINITIALIZED} == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_every_event_can_happen() -> None:
    assert {event for _, event in TRANSITIONS} == set(JobEvent)


def test_a_runner_gets_a_job_only_by_a_claim_of_a_ready_one() -> None:
    into_hands = {key for key, (target, _) in TRANSITIONS.items() if target in HELD and key[0] not in HELD}
    assert into_hands == {(State.READY, JobEvent.CLAIMED)}


def test_each_kind_of_state_is_a_set_of_states_that_fit() -> None:
    assert SATISFIED < FINISHED
    assert not HELD & FINISHED
    assert FINISHED - SATISFIED < UNSUCCESSFUL
    assert {State.PENDING_FAILED} == UNSUCCESSFUL - FINISHED


def test_the_diagram_shows_each_row_of_the_table_and_no_other() -> None:
    shown = set()
    for source, target, events in re.findall(r"(\w+) --> (\w+): (.*)", states_mermaid()):
        shown |= {(source, event, target) for event in events.split(", ")}
    assert shown == {(state.value, event.value, target.value) for (state, event), (target, _) in TRANSITIONS.items()}
