"""Short jobs that begin at the very end of others, and a runner that never loses or doubles a job whatever happens."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from tests.runner.harness import (
    GIB,
    Exited,
    JobAttempt,
    Kill,
    Launched,
    NoRoom,
    NotLaunched,
    Reactor,
    StartAttempt,
    Stop,
    Withdraw,
    Withdrawn,
    job,
)
from torc.api.runs import Usage
from torc.runner.exchange_policy import HOLD_SECONDS
from torc.workflow.resources import Capacity

SHORT = 0.002


def _short_jobs(r: Reactor, *numbers: int) -> None:
    """Let the runner see a short job, and give it these, of which the first runs."""
    r.replied(job(1))
    r.ended(1, seconds=SHORT)
    r.replied(*map(job, numbers))


def test_short_jobs_stand_in_line_behind_one_that_runs_and_start_without_being_asked() -> None:
    r = Reactor(num_cpus=1)
    _short_jobs(r, 2, 3, 4)
    assert r.lined_up() == [(3, 2), (4, 2)]
    assert r.ended(2, seconds=SHORT) == [], "the spawner started the next one"
    r.tell(Launched(3, 1.0))
    assert r.state.free.num_cpus == 0
    assert [(number, running.after) for number, running in r.state.running.items()] == [(3, None), (4, 3)]
    r.ended(3, seconds=SHORT)
    r.tell(Launched(4, 2.0))
    r.ended(4, seconds=SHORT)
    assert (r.state.running, r.state.free.num_cpus, r.state.num_lined_up) == ({}, 1, 0)
    assert [done.job_id for done in r.reported()][-3:] == [2, 3, 4]


def test_long_jobs_and_other_requests_never_stand_in_line() -> None:
    r = Reactor(num_cpus=2)
    r.replied(job(1))
    r.ended(1, seconds=5.0)
    r.replied(job(2), job(3), job(4))
    assert r.lined_up() == []
    r = Reactor(num_cpus=2)
    r.replied(job(1))
    r.ended(1, seconds=SHORT)
    r.replied(job(2, num_cpus=2), job(3, num_cpus=1), job(4, num_cpus=2))
    assert r.lined_up() == [], "what asks for something else needs room of its own"


def test_with_fail_fast_nothing_begins_behind_the_back_of_the_runner() -> None:
    r = Reactor(num_cpus=1, fail_fast=True)
    _short_jobs(r, 2, 3)
    assert r.lined_up() == []


def test_a_job_that_takes_long_gives_back_what_stands_behind_it() -> None:
    r = Reactor(num_cpus=1)
    _short_jobs(r, 2, 3, 4)
    r.lined_up()
    r.answered()
    r.later(HOLD_SECONDS + 0.1)
    assert [effect.job_id for effect in r.take(Withdraw)] == [3, 4]
    for number in (3, 4):
        r.tell(Withdrawn(number))
    assert list(r.state.running) == [2]
    request = r.state.in_flight
    given_back = [*(request.released if request else ()), *r.state.released]
    assert [item.job_id for item in given_back] == [3, 4]


def test_a_lined_up_job_has_its_whole_time_from_when_it_begins() -> None:
    r = Reactor(num_cpus=1)
    r.replied(job(1))
    r.ended(1, seconds=SHORT)
    r.replied(job(2, runtime_seconds=10), job(3, runtime_seconds=10))
    assert r.lined_up() == [(3, 2)]
    r.now += 0.9
    r.ended(2, seconds=0.9)
    r.tell(Launched(3, 1.0))
    assert r.state.running[3].deadline == r.now + 10


def test_one_that_stands_in_line_and_is_canceled_is_stopped_and_the_others_go_on() -> None:
    r = Reactor(num_cpus=1)
    _short_jobs(r, 2, 3, 4)
    r.lined_up()
    r.answered(cancel=[JobAttempt(job_id=3, attempt=1)])
    assert r.kills() == [(3, False)]
    r.tell(Withdrawn(3))
    r.ended(2, seconds=SHORT)
    r.tell(Launched(4, 1.0))
    assert list(r.state.running) == [4]


# -- whatever happens -------------------------------------------------------------------------------------------


class _Spawner:
    """What the spawners would do: which job has begun, which waits for which."""

    def __init__(self, r: Reactor) -> None:
        self.r = r
        self.begun: list[int] = []
        self.lines: dict[int, list[int]] = {}  # a job that began -> those behind it
        self.ended: list[int] = []

    def obey(self) -> None:
        while orders := self.r.orders():
            for order in orders:
                self._do(order)

    def _do(self, order: StartAttempt | Withdraw | Kill) -> None:
        if isinstance(order, StartAttempt):
            number, after = order.assignment.job_id, order.after
            if after is None:
                self._begin([number])
            else:
                self.lines[after].append(number)
        elif order.job_id not in self.begun:
            self.withdraw(order.job_id)
        elif isinstance(order, Kill):
            self.end(order.job_id, -9)

    def withdraw(self, number: int) -> None:
        for line in self.lines.values():
            if number in line:
                line.remove(number)
                self.r.tell(Withdrawn(number))
                return

    def end(self, number: int, return_code: int) -> None:
        self.begun.remove(number)
        self.ended.append(number)
        self._passed_on(number, Exited(number, return_code, 6000.0, SHORT, Usage()))

    def refuse(self, number: int) -> None:
        """Let the next in line of a job fail to begin, when that one ends."""
        self.begun.remove(number)
        self.ended.append(number)
        line = self.lines.pop(number)
        self.r.tell(Exited(number, 0, 6000.0, SHORT, Usage()))
        if line:
            first, *rest = line
            self.ended.append(first)
            self.r.tell(NotLaunched(first, 1.0, "no"))
            if rest:
                self._begin(rest)

    def _passed_on(self, number: int, event: Exited) -> None:
        line = self.lines.pop(number)
        self.r.tell(event)
        if line:
            self._begin(line)

    def _begin(self, line: list[int]) -> None:
        first, *rest = line
        self.begun.append(first)
        self.lines[first] = rest
        self.r.tell(Launched(first, 1.0))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "end", "fail", "refuse", "no room", "time", "cancel", "stop"]), st.integers(0, 9)
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 3))
def test_no_job_is_lost_doubled_or_given_more_than_there_is(steps: list[tuple[str, int]], num_cpus: int) -> None:
    r = Reactor(num_cpus=num_cpus)
    spawner = _Spawner(r)
    given: set[int] = set()
    for what, n in [("answer", 1), ("end", 0), *steps]:
        if what == "answer" and r.state.in_flight is not None and not r.state.is_stopping:
            fresh = range(len(given) + 1, len(given) + 1 + n)
            given.update(fresh)
            r.answered(*(job(number, num_cpus=1 if n < 8 else num_cpus) for number in fresh))
        elif what in {"end", "fail"} and spawner.begun:
            spawner.end(spawner.begun[n % len(spawner.begun)], 0 if what == "end" else 1)
        elif what == "refuse" and spawner.begun:
            spawner.refuse(spawner.begun[n % len(spawner.begun)])
        elif what == "no room" and spawner.begun:
            number = spawner.begun.pop(n % len(spawner.begun))
            line = spawner.lines.pop(number)
            r.tell(NoRoom(number, "full"))
            if line:
                spawner._begin(line)
        elif what == "time":
            r.later(n / 4)
        elif what == "cancel" and r.state.in_flight is not None and given:
            r.answered(cancel=[JobAttempt(job_id=1 + n % len(given), attempt=1)])
        elif what == "stop" and n == 0:
            r.tell(Stop())
        spawner.obey()
        _check(r, spawner, given, num_cpus)


def _check(r: Reactor, spawner: _Spawner, given: set[int], num_cpus: int) -> None:
    state = r.state
    heads = {number: running for number, running in state.running.items() if running.after is None}
    assert sorted(heads) == sorted(spawner.begun)
    assert {head: running.line for head, running in heads.items()} == spawner.lines
    used = Capacity(num_cpus, 8 * GIB, 0)
    for running in heads.values():
        used = used.take(running.assignment.request)
    assert state.free == used and state.free.num_cpus >= 0
    assert state.num_lined_up == len(state.running) - len(heads)
    queued = [assignment.job_id for assignment in state.queue]
    held = [*state.running, *queued, *spawner.ended]
    assert len(held) == len(set(held)), "a job is in two places"
    assert set(held) <= given
