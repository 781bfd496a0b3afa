"""One code for one kind of end: signals, timeouts and memory, whoever counted them."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.api.runs import ActionFinished, Finished
from torc.failures.retry import AttemptOutcome, rules_of
from torc.workflow.exit_codes import OUT_OF_MEMORY, TIMEOUT, counted, reported, signal_of


@given(st.sampled_from(list(signal.Signals)))
def test_a_signal_is_128_and_its_number_whoever_counted_it(number: signal.Signals) -> None:
    assert counted(-number) == counted(128 + number) == 128 + number
    assert signal_of(-number) == signal_of(128 + number) == number


@given(st.integers(0, 127))
def test_a_code_of_a_program_stays_what_it_is(code: int) -> None:
    assert (counted(code), reported(code, None), signal_of(code)) == (code, code, None)


@pytest.mark.parametrize("code", [0, 1, 137, 143, None])
def test_what_was_ended_at_a_limit_has_the_code_of_the_limit(code: int | None) -> None:
    assert (TIMEOUT, OUT_OF_MEMORY) == (152, 137)
    assert (reported(code, "timeout"), reported(code, "out_of_memory")) == (152, 137)
    assert reported(code, "missing_output") == code


def test_an_older_runner_may_report_a_signal_as_a_negative_number() -> None:
    report = Finished(
        job_id=1, attempt=1, outcome="failed", return_code=-9, started_at=None, ended_at=0, wall_seconds=0
    )
    assert report.return_code == 137
    assert ActionFinished(firing_id=1, return_code=-15).return_code == 143


@pytest.mark.parametrize("written", [-9, 137])
def test_a_rule_for_a_signal_matches_however_it_is_written(written: int) -> None:
    (rule,) = rules_of({"rules": [{"exit_codes": [written]}]})
    assert rule.matches(AttemptOutcome("failed", 137)) and not rule.matches(AttemptOutcome("failed", 9))
