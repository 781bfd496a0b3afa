"""The board: how moves spread, against a slow definition of what has to hold after each of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.examples import examples
from tests.support.graphs import NamedGraph, acyclic_prerequisites, graph_from, plain_graph
from torc.errors import Conflict
from torc.workflow.graph import JobGraph, downstream
from torc.workflow.progress import Progress
from torc.workflow.states import FINISHED, SATISFIED, TRANSITIONS, JobEvent, State

ENDINGS = (
    JobEvent.SUCCEEDED,
    JobEvent.FAILED,
    JobEvent.AWAITED_DECISION,
    JobEvent.RETRIED,
    JobEvent.TERMINATED,
    JobEvent.INTERRUPTED,
)


class Wf:
    """A board with names, for tests that read like stories."""

    def __init__(self, text: str, *, stays: str = "", disabled: str = "") -> None:
        self.named: NamedGraph = graph_from(text)
        names = self.named.names
        cancels = [name not in stays.split() for name in names]
        states = [State.DISABLED if name in disabled.split() else State.UNINITIALIZED for name in names]
        self.board = Progress(self.named.graph, cancels, states)

    def run(self, names: str, event: JobEvent = JobEvent.SUCCEEDED) -> Wf:
        """Claim, start and end jobs."""
        for step in (JobEvent.CLAIMED, JobEvent.STARTED, event):
            self.apply(step, names)
        return self

    def apply(self, event: JobEvent, names: str) -> str:
        """Apply an event, and give the moves as `name:state ...`."""
        moved = self.board.apply(event, self.named.jobs(names))
        assert self.board.problems() == []
        return " ".join(f"{self.named.names[move.job]}:{move.state}" for move in moved)

    def reset(self, names: str) -> Wf:
        """Reset jobs."""
        self.board.reset(self.named.jobs(names))
        assert self.board.problems() == []
        return self

    def states(self) -> str:
        """Return `a:completed b:ready`."""
        return " ".join(f"{name}:{state}" for name, state in zip(self.named.names, self.board.states, strict=True))


def test_jobs_without_prerequisites_are_ready_and_the_others_blocked() -> None:
    assert Wf("a b -> c").states() == "a:ready b:ready c:blocked"


def test_a_gate_opens_when_its_last_prerequisite_is_finished() -> None:
    wf = Wf("a b -> c").run("a")
    assert wf.states() == "a:completed b:ready c:blocked"
    assert wf.run("b").states() == "a:completed b:completed c:ready"


def test_an_unsuccessful_prerequisite_cancels_at_once_and_that_spreads() -> None:
    wf = Wf("a b -> c -> d").run("a", JobEvent.FAILED)
    assert wf.states() == "a:failed b:ready c:canceled d:canceled"
    assert all(wf.run("b").board.counted)


def test_a_job_that_does_not_mind_waits_for_all_prerequisites_and_runs() -> None:
    wf = Wf("a b -> c", stays="c").run("a", JobEvent.FAILED)
    assert wf.states() == "a:failed b:ready c:blocked"
    assert wf.run("b").states() == "a:failed b:completed c:ready"


def test_behind_one_gate_some_are_canceled_and_some_go_on() -> None:
    wf = Wf("a -> b c", stays="c")
    wf.apply(JobEvent.CLAIMED, "a")
    assert wf.apply(JobEvent.FAILED, "a") == "a:failed b:canceled c:ready"


def test_an_interrupted_job_keeps_those_behind_it_waiting_until_it_is_resumed() -> None:
    wf = Wf("a -> b").run("a", JobEvent.INTERRUPTED)
    assert wf.states() == "a:terminated b:blocked"
    assert wf.apply(JobEvent.RESUMED, "a") == "a:ready"
    assert wf.run("a").states() == "a:completed b:ready"


def test_a_job_that_was_terminated_for_good_cannot_be_resumed() -> None:
    wf = Wf("a -> b").run("a", JobEvent.TERMINATED)
    assert wf.states() == "a:terminated b:canceled"
    with pytest.raises(Conflict, match="resumed"):
        wf.apply(JobEvent.RESUMED, "a")


def test_a_canceled_interrupted_job_cancels_those_behind_it() -> None:
    wf = Wf("a -> b").run("a", JobEvent.INTERRUPTED)
    assert wf.apply(JobEvent.CANCELED, "a") == "a:canceled b:canceled"


def test_a_disabled_job_counts_as_completed() -> None:
    assert Wf("a -> b", disabled="a").states() == "a:disabled b:ready"
    assert Wf("a -> b -> c").apply(JobEvent.DISABLED, "a b") == "a:disabled b:disabled c:ready"


def test_a_failure_that_awaits_a_decision_holds_its_gates_shut() -> None:
    wf = Wf("a -> b").run("a", JobEvent.AWAITED_DECISION)
    assert wf.states() == "a:pending_failed b:blocked"
    assert wf.apply(JobEvent.FAILED, "a") == "a:failed b:canceled"


def test_an_event_that_one_job_cannot_take_moves_none() -> None:
    wf = Wf("a -> b")
    with pytest.raises(Conflict):
        wf.apply(JobEvent.CLAIMED, "a b")
    assert wf.states() == "a:ready b:blocked"


@pytest.mark.parametrize("event", [JobEvent.GATE_OPENED, JobEvent.PREREQUISITE_FAILED])
def test_what_follows_from_other_moves_cannot_be_asked_for(event: JobEvent) -> None:
    with pytest.raises(Conflict, match="follows"):
        Wf("a -> b").apply(event, "b")


def test_a_reset_makes_jobs_due_in_the_order_of_their_gates() -> None:
    wf = Wf("a -> b -> c").run("a").run("b").run("c")
    assert wf.reset("b c").states() == "a:completed b:ready c:blocked"
    assert wf.reset("a").states() == "a:ready b:blocked c:blocked"


def test_a_reset_behind_a_failure_that_stays_is_canceled_again() -> None:
    wf = Wf("a -> b -> c").run("a", JobEvent.FAILED)
    assert wf.reset("b c").states() == "a:failed b:canceled c:canceled"
    assert wf.reset("a b c").states() == "a:ready b:blocked c:blocked"


def test_a_disabled_failure_spoils_nothing_any_more() -> None:
    wf = Wf("a -> b").run("a", JobEvent.FAILED)
    wf.apply(JobEvent.DISABLED, "a")
    assert wf.reset("b").states() == "a:disabled b:ready"


def test_a_job_that_is_due_again_waits_for_a_prerequisite_that_was_reset_meanwhile() -> None:
    wf = Wf("a -> b").run("a").run("b", JobEvent.INTERRUPTED).reset("a")
    assert wf.apply(JobEvent.RESUMED, "b") == "b:ready b:blocked"
    assert wf.run("a").states() == "a:completed b:ready"
    wf.apply(JobEvent.CLAIMED, "b")
    wf.reset("a").run("a", JobEvent.FAILED)
    assert wf.apply(JobEvent.RETRIED, "b") == "b:ready b:blocked b:canceled"


def test_a_running_job_cannot_be_reset() -> None:
    wf = Wf("a b")
    wf.apply(JobEvent.CLAIMED, "a")
    wf.run("b")
    with pytest.raises(Conflict):
        wf.reset("b a")
    assert wf.states() == "a:pending b:completed"


def _all_that_wait_should(board: Progress, graph: JobGraph) -> bool:
    """Return what must hold of each job that waits, by looking at all its prerequisites."""
    for job, state in enumerate(board.states):
        before = graph.prerequisites(job)
        is_open = all(board.counted[other] for other in before)
        spoiled = any(board.counted[other] and board.states[other] not in SATISFIED for other in before)
        if state in (State.READY, State.BLOCKED) and spoiled and board.cancels[job]:
            return False
        if (state is State.READY and not is_open) or (state is State.BLOCKED and is_open):
            return False
    return True


class Boards(RuleBasedStateMachine):
    """Does whatever can be done to a random workflow, and checks everything after each step."""

    board: Progress

    @initialize(prerequisites=acyclic_prerequisites(fewest_jobs=1), data=st.data())
    def begin(self, prerequisites: list[list[int]], data: st.DataObject) -> None:
        cancels = [data.draw(st.booleans()) for _ in prerequisites]
        disabled = [data.draw(st.integers(0, 9)) == 0 for _ in prerequisites]
        states = [State.DISABLED if out else State.UNINITIALIZED for out in disabled]
        self.board = Progress(plain_graph(prerequisites), cancels, states)

    def _jobs(self, *states: State) -> list[int]:
        return [job for job, state in enumerate(self.board.states) if state in states]

    def _some(self, data: st.DataObject, jobs: Sequence[int]) -> list[int]:
        return data.draw(st.lists(st.sampled_from(jobs), min_size=1, max_size=4, unique=True))

    @precondition(lambda self: self._jobs(State.READY))
    @rule(data=st.data(), started=st.booleans())
    def claim(self, data: st.DataObject, started: bool) -> None:
        jobs = self._some(data, self._jobs(State.READY))
        self.board.apply(JobEvent.CLAIMED, jobs)
        if started:
            self.board.apply(JobEvent.STARTED, jobs)

    @precondition(lambda self: self._jobs(State.PENDING, State.RUNNING))
    @rule(data=st.data(), event=st.sampled_from(ENDINGS))
    def end(self, data: st.DataObject, event: JobEvent) -> None:
        self.board.apply(event, self._some(data, self._jobs(State.PENDING, State.RUNNING)))

    @rule(
        data=st.data(),
        event=st.sampled_from((JobEvent.CANCELED, JobEvent.DISABLED, JobEvent.RESUMED, JobEvent.RETRIED)),
    )
    def decide(self, data: st.DataObject, event: JobEvent) -> None:
        jobs = self._some(data, range(len(self.board.states)))
        before = list(self.board.states)
        try:
            self.board.apply(event, jobs)
        except Conflict:
            assert self.board.states == before
            assert any(
                (before[job], event) not in TRANSITIONS or (event is JobEvent.RESUMED and self.board.counted[job])
                for job in jobs
            )

    @rule(data=st.data(), whole=st.booleans())
    def reset(self, data: st.DataObject, whole: bool) -> None:
        jobs = self._some(data, range(len(self.board.states)))
        if whole:
            jobs = downstream(self.board.graph, jobs)
        before = list(self.board.states)
        try:
            self.board.reset(jobs)
        except Conflict:
            assert self.board.states == before
        else:
            untouched = set(range(len(before))) - set(jobs)
            assert all(self.board.states[job] == before[job] for job in untouched if before[job] in FINISHED)

    @invariant()
    def everything_holds(self) -> None:
        assert self.board.problems() == []
        assert _all_that_wait_should(self.board, self.board.graph)


TestBoards = Boards.TestCase
TestBoards.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


@given(acyclic_prerequisites(), st.data())
def test_a_board_that_goes_on_from_states_is_the_board_that_was_left(
    prerequisites: list[list[int]], data: st.DataObject
) -> None:
    graph = plain_graph(prerequisites)
    cancels = [data.draw(st.booleans()) for _ in prerequisites]
    board = Progress(graph, cancels)
    for _ in range(data.draw(st.integers(0, 10))):
        ready = [job for job, state in enumerate(board.states) if state is State.READY]
        if not ready:
            break
        job = data.draw(st.sampled_from(ready))
        board.apply(JobEvent.CLAIMED, (job,))
        board.apply(data.draw(st.sampled_from(ENDINGS)), (job,))
    interrupted = [
        job for job, state in enumerate(board.states) if state is State.TERMINATED and not board.counted[job]
    ]
    again = Progress(graph, cancels, board.states, interrupted)
    assert (again.states, again.counted) == (board.states, board.counted)
    assert (again.remaining, again.spoiled) == (board.remaining, board.spoiled)


def test_a_thousand_failures_before_a_thousand_jobs_look_at_each_waiter_once() -> None:
    size = 1000
    graph = plain_graph([[]] * size + [list(range(size))] * size)
    board = Progress(graph, [True] * (2 * size))
    board.apply(JobEvent.CLAIMED, range(size))
    moved = board.apply(JobEvent.FAILED, range(size))
    assert len(moved) == 2 * size
    assert set(board.states) == {State.FAILED, State.CANCELED}
