"""What becomes of a job whose attempt has ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.failures.retry import (
    DIED,
    JITTER,
    LONGEST_DELAY_SECONDS,
    MAX_LOSSES,
    AttemptOutcome,
    Ending,
    RetryDecision,
    RetryRule,
    decide,
    decide_lost,
    delay_of,
    rules_of,
)
from torc.workflow.states import JobEvent, State, transition

EXIT_10 = RetryRule(exit_codes=frozenset({10, 137}), max_retries=2, recovery_script="fix.sh")
ANY = RetryRule(match_all_exit_codes=True, max_retries=1)
OOM = RetryRule(match_categories=frozenset({"out_of_memory"}))

outcomes = st.builds(
    AttemptOutcome,
    st.sampled_from(("succeeded", "failed", "terminated", "interrupted", "canceled")),
    st.none() | st.integers(-15, 20),
    st.none() | st.sampled_from(("timeout", "recovery_failed", "missing_output")),
    st.none() | st.sampled_from(("out_of_memory", "network")),
)
rules = st.builds(
    RetryRule,
    st.frozensets(st.integers(0, 145), max_size=4),
    st.booleans(),
    st.frozensets(st.sampled_from(("out_of_memory", "network"))),
    st.integers(0, 3),
)


@pytest.mark.parametrize(
    ("ending", "event"),
    [("succeeded", JobEvent.SUCCEEDED), ("interrupted", JobEvent.INTERRUPTED), ("canceled", JobEvent.CANCELED)],
)
def test_no_rule_is_asked_about_what_did_not_fail(ending: Ending, event: JobEvent) -> None:
    assert decide(AttemptOutcome(ending, 10), [ANY, EXIT_10]) == RetryDecision(event)


def test_a_failure_without_a_rule_is_final_or_waits_for_a_decision() -> None:
    assert decide(AttemptOutcome("failed", 1)) == RetryDecision(JobEvent.FAILED)
    assert decide(AttemptOutcome("failed", 1), [EXIT_10]) == RetryDecision(JobEvent.FAILED)
    assert decide(AttemptOutcome("failed", 1), [EXIT_10], use_pending_failed=True) == RetryDecision(
        JobEvent.AWAITED_DECISION
    )


def test_the_first_rule_that_matches_and_has_retries_left_is_taken() -> None:
    rules = [EXIT_10, ANY]
    assert decide(AttemptOutcome("failed", 10), rules) == RetryDecision(JobEvent.RETRIED, 0, "fix.sh")
    assert decide(AttemptOutcome("failed", 10), rules, {0: 1}) == RetryDecision(JobEvent.RETRIED, 0, "fix.sh")
    assert decide(AttemptOutcome("failed", 10), rules, {0: 2}) == RetryDecision(JobEvent.RETRIED, 1)
    assert decide(AttemptOutcome("failed", 10), rules, {0: 2, 1: 1}) == RetryDecision(JobEvent.FAILED)
    assert decide(AttemptOutcome("failed", 11), rules, {0: 2}) == RetryDecision(JobEvent.RETRIED, 1)


def test_death_by_a_signal_matches_its_code() -> None:
    assert decide(AttemptOutcome("failed", 137), [EXIT_10]).event is JobEvent.RETRIED
    assert decide(AttemptOutcome("failed", 139), [EXIT_10]).event is JobEvent.FAILED


def test_an_attempt_that_could_not_be_started_has_no_exit_code_to_match() -> None:
    outcome = AttemptOutcome("failed", None, "not_started")
    assert decide(outcome, [EXIT_10]).event is JobEvent.FAILED
    assert decide(outcome, [ANY]).event is JobEvent.RETRIED


def test_a_category_matches_whatever_the_exit_code() -> None:
    assert decide(AttemptOutcome("failed", 1, category="out_of_memory"), [OOM]).rule == 0
    assert decide(AttemptOutcome("failed", 1, category="network"), [OOM]).event is JobEvent.FAILED
    assert decide(AttemptOutcome("failed", 1), [OOM]).event is JobEvent.FAILED


def test_an_attempt_stopped_at_a_limit_is_retried_by_a_rule_or_stays_terminated() -> None:
    timeout = AttemptOutcome("terminated", -15, "timeout")
    assert decide(timeout, [ANY]).event is JobEvent.RETRIED
    assert decide(timeout, [ANY], {0: 1}, use_pending_failed=True).event is JobEvent.TERMINATED


def test_after_a_failed_recovery_script_no_rule_is_asked() -> None:
    assert decide(AttemptOutcome("failed", 10, "recovery_failed"), [EXIT_10, ANY]) == RetryDecision(JobEvent.FAILED)


def test_a_job_may_lose_its_runner_three_times_in_a_run() -> None:
    events = [decide_lost(losses).event for losses in range(5)]
    assert events == [JobEvent.RETRIED] * MAX_LOSSES + [JobEvent.TERMINATED] * 2


def test_runners_that_died_and_were_followed_by_another_run_use_up_no_loss() -> None:
    assert decide_lost(MAX_LOSSES, DIED).event is JobEvent.RETRIED
    assert decide_lost(MAX_LOSSES, "lease ended").event is JobEvent.TERMINATED


@given(outcomes, st.lists(rules, max_size=4), st.booleans())
def test_every_failure_comes_to_an_end(outcome: AttemptOutcome, rules: list[RetryRule], pending: bool) -> None:
    used: dict[int, int] = {}
    for _ in range(1 + sum(rule.max_retries for rule in rules)):
        decision = decide(outcome, rules, used, use_pending_failed=pending)
        assert (decision.event is JobEvent.RETRIED) == (decision.rule is not None)
        if decision.rule is None:
            break
        used[decision.rule] = used.get(decision.rule, 0) + 1
        assert used[decision.rule] <= rules[decision.rule].max_retries
    assert decision.event is not JobEvent.RETRIED
    for state in (State.PENDING, State.RUNNING):
        transition(state, decision.event)


def test_rules_are_read_from_the_fields_of_a_spec() -> None:
    fields = {
        "rules": [
            {"exit_codes": [10, 11], "recovery_script": "fix.sh", "max_retries": 0},
            {"match_all_exit_codes": True, "exit_codes": None, "max_retries": None, "recovery_script": None},
            {"match_categories": ["network"], "delay_seconds": 5},
        ]
    }
    assert rules_of(fields) == (
        RetryRule(frozenset({10, 11}), False, frozenset(), 0, "fix.sh"),
        RetryRule(frozenset(), True, frozenset(), 3, None),
        RetryRule(frozenset(), False, frozenset({"network"}), 3, None, delay_seconds=5.0),
    )
    assert rules_of({}) == ()


def test_a_delay_grows_with_each_retry_and_is_never_shorter_than_the_rule_says() -> None:
    rule = RetryRule(match_all_exit_codes=True, max_retries=99, delay_seconds=10.0, backoff=2.0)
    assert [delay_of(rule, used, 0.0) for used in (0, 1, 2)] == [10.0, 20.0, 40.0]
    assert delay_of(rule, 0, 1.0) == 10.0 * (1 + JITTER)
    assert delay_of(rule, 10**6, 0.0) == LONGEST_DELAY_SECONDS
    assert (
        delay_of(RetryRule(delay_seconds=2 * LONGEST_DELAY_SECONDS, backoff=1e300), 5, 0.0) == 2 * LONGEST_DELAY_SECONDS
    )
    assert delay_of(RetryRule(), 3, 0.5) == 0.0
    decision = decide(AttemptOutcome("failed", 1), [rule], {0: 1}, jitter=0.5)
    assert (decision.event, decision.delay_seconds) == (JobEvent.RETRIED, 20.0 * (1 + JITTER / 2))


def test_work_saved_at_a_limit_goes_on_by_a_rule_at_once_or_else_with_the_next_run() -> None:
    saved = AttemptOutcome("interrupted", 1, "timeout")
    assert decide(saved) == RetryDecision(JobEvent.INTERRUPTED)
    assert decide(saved, [ANY]) == RetryDecision(JobEvent.RETRIED, 0)
    assert decide(saved, [ANY], {0: 1}, use_pending_failed=True) == RetryDecision(JobEvent.INTERRUPTED)


def test_a_step_that_ran_out_of_memory_is_not_started_again_with_the_same_memory() -> None:
    held = AttemptOutcome("failed", 137, "out_of_memory", "out_of_memory", "OUT_OF_MEMORY")
    more = RetryRule(match_all_exit_codes=True, memory_multiplier=2.0)
    assert decide(held, [ANY, OOM]) == RetryDecision(JobEvent.FAILED)
    assert decide(held, [ANY, OOM, more]) == RetryDecision(JobEvent.RETRIED, 2)
    assert decide(held, [ANY, EXIT_10]) == RetryDecision(JobEvent.RETRIED, 1, "fix.sh")
    by_the_node = AttemptOutcome("failed", 137, "out_of_memory", "out_of_memory")
    assert decide(by_the_node, [ANY]) == RetryDecision(JobEvent.RETRIED, 0)
