"""When a runner leaves an allocation: at a warning, at its end, and when nothing has run in it for long."""

from __future__ import annotations

import pytest

from tests.runner.harness import Reactor, job
from torc.runner.state import AttemptOver, Kill, Leave, Tick, Warned

pytestmark = pytest.mark.usefixtures("processes")


def test_a_warning_brings_the_end_nearer_and_never_puts_it_off() -> None:
    r = Reactor(leave_at=2000.0)
    r.replied(job(1, supports_termination=True))
    r.tell(Warned(1060.0))
    r.tell(Warned(5000.0))
    assert r.state.leave_at == 1060.0 and r.state.wake_at == 1050.0
    r.now = 1050.0  # what can save its work is asked to before
    r.tell(Tick())
    assert r.take(Kill) == [Kill(1, for_good=False)]
    r.ended(1, -15)
    assert [done.outcome for done in r.reported()] == ["interrupted"]


def test_a_warning_counts_where_nobody_could_tell_the_end() -> None:
    r = Reactor()
    r.tell(Warned(1060.0))
    r.replied(job(1))
    assert r.sent().free.runtime_seconds == 60.0


def test_a_runner_leaves_an_allocation_in_which_nothing_has_run_for_long_though_others_work_elsewhere() -> None:
    r = Reactor(idle_seconds=60.0, wait_seconds=5.0)
    r.replied(idle_around=False)
    r.now += 100.0
    r.replied(idle_around=False)
    assert not r.state.is_stopping
    r.replied(idle_around=True)
    assert r.sent().stopping
    r.replied()
    assert r.take(Leave)


def test_a_runner_stays_a_while_and_for_good_where_that_is_wanted() -> None:
    r = Reactor(idle_seconds=60.0)
    r.replied(idle_around=True)
    r.now += 59.0
    r.replied(idle_around=True)
    assert not r.state.is_stopping
    r = Reactor(idle_seconds=60.0, stays=True)
    r.now += 100.0
    r.replied(idle_around=True)
    assert not r.state.is_stopping


def test_what_has_ended_runs_into_no_limit_while_its_outputs_are_waited_for() -> None:
    r = Reactor()
    r.replied(job(1, runtime_seconds=10))
    r.tell(AttemptOver(1))
    r.now += 20.0
    r.tell(Tick())
    assert r.take(Kill) == []
    r.ended(1)
    assert [done.outcome for done in r.reported()] == ["succeeded"]
