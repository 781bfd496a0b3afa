"""Ends that are told later: outputs that show late, and signals that reach the runner after its jobs."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from tests.runner.harness import job
from torc.api.runs import Usage
from torc.runner.deferral import DeferredEnds
from torc.runner.state import Exited, StartAttempt


def _exited(code: int = 0, *missing: str, **fields: Any) -> Exited:
    return Exited(1, code, 5.0, 1.0, Usage(), tuple(missing), **fields)


def test_an_output_that_shows_late_is_waited_for_and_one_that_never_shows_is_missing(tmp_path: Path) -> None:
    late, never = str(tmp_path / "late"), str(tmp_path / "never")
    patience = DeferredEnds(visibility_delay_seconds=10.0, signal_seconds=0.0)
    assert patience.keeps(_exited(0, late, never), 100.0, is_stopping=False) and patience.due > 100.0
    assert patience.ready(100.5, is_stopping=False) == []
    (tmp_path / "late").touch()
    assert patience.ready(patience.due, is_stopping=False) == []
    (told,) = patience.ready(110.0, is_stopping=False)
    assert told.missing == (never,) and patience.due == inf


def test_an_output_is_told_as_soon_as_it_shows(tmp_path: Path) -> None:
    patience = DeferredEnds(visibility_delay_seconds=10.0, signal_seconds=0.0)
    assert patience.keeps(_exited(0, str(tmp_path / "late")), 100.0, is_stopping=False)
    (tmp_path / "late").touch()
    (told,) = patience.ready(patience.due, is_stopping=False)
    assert told.missing == ()


def test_what_is_plain_is_told_at_once() -> None:
    patience = DeferredEnds(visibility_delay_seconds=10.0, signal_seconds=3.0)
    assert not patience.keeps(_exited(), 100.0, is_stopping=False)
    assert not patience.keeps(_exited(1), 100.0, is_stopping=False)
    assert not patience.keeps(_exited(143), 100.0, is_stopping=True)
    local = DeferredEnds(0.0, 0.0)
    assert not local.keeps(_exited(0, "nowhere"), 1.0, is_stopping=False)
    assert not local.keeps(_exited(143), 1.0, is_stopping=False)


def test_a_job_that_a_signal_ended_is_told_when_the_runner_has_it_too_or_never_gets_it() -> None:
    patience = DeferredEnds(visibility_delay_seconds=0.0, signal_seconds=3.0)
    assert patience.keeps(_exited(143), 100.0, is_stopping=False)
    assert patience.ready(101.0, is_stopping=False) == []
    assert len(patience.ready(101.1, is_stopping=True)) == 1
    assert patience.keeps(_exited(143), 200.0, is_stopping=False)
    assert len(patience.ready(203.0, is_stopping=False)) == 1


def test_a_start_waits_until_its_inputs_show_or_for_so_long(tmp_path: Path) -> None:
    start = StartAttempt(job(1, inputs=[str(tmp_path / "late")]), ())
    patience = DeferredEnds(visibility_delay_seconds=10.0, signal_seconds=0.0)
    assert patience.holds(start, 100.0) and patience.starts(100.5) == []
    (tmp_path / "late").touch()
    assert patience.starts(patience.due) == [start] and patience.due == inf
    assert not patience.holds(start, 100.0)
    never = StartAttempt(job(2, inputs=[str(tmp_path / "never")]), ())
    assert patience.holds(never, 100.0) and patience.starts(110.0) == [never]
    assert patience.holds(never, 100.0) and patience.drops(2) and not patience.drops(2)
    assert not DeferredEnds(0.0, 0.0).holds(never, 100.0)
