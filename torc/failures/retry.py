"""What happens to a job whose attempt has ended: the event for the state table.

The rules are those of the job's failure handler, tried in order; the first one that matches and has retries left applies. Losing
a runner is handled apart, because it is not the job's doing: such a job runs again without a rule, but only so often, in case it
is the job that kills its runner. Categories of failures come from `diagnosis`; requests are changed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torc.failures.categories import Category
from torc.workflow.exit_codes import counted
from torc.workflow.states import JobEvent

Ending = Literal["succeeded", "failed", "terminated", "interrupted", "canceled"]

#: How often a job may lose its runner in one run. A job that kills its runner must not be retried forever.
MAX_LOSSES = 3
DEFAULT_MAX_RETRIES = 3
RUNNER_LOST = "runner_lost"
TIMEOUT = "timeout"
#: reported for a runner whose process was found dead when somebody ran the workflow again
DIED = "died"
RECOVERY_FAILED = "recovery_failed"
#: upper limit of delays
LONGEST_DELAY_SECONDS = 86400.0
#: delays may be longer by up to this share, so that many jobs that failed together do not return together
JITTER = 0.25


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended. `return_code` is that of `exit_codes`; None if nothing was started or it is unknown."""

    ending: Ending
    return_code: int | None = None
    reason: str | None = None
    category: Category | None = None  # from its diagnosis, if there is one
    slurm_state: str | None = None  # of its step

    @property
    def is_at_limit(self) -> bool:
        """Return whether it saved its work at its limit: a rule may resume it at once, otherwise the next run does."""
        return self.ending == "interrupted" and self.reason == TIMEOUT


@dataclass(frozen=True, slots=True)
class RetryRule:
    """A rule of a failure handler. It applies if any of its conditions matches."""

    exit_codes: frozenset[int] = frozenset()
    match_all_exit_codes: bool = False
    match_categories: frozenset[str] = frozenset()
    max_retries: int = DEFAULT_MAX_RETRIES
    recovery_script: str | None = None
    memory_multiplier: float | None = None  # applied to the request of the next attempt
    runtime_multiplier: float | None = None
    delay_seconds: float = 0.0  # before the next attempt
    backoff: float = 1.0  # factor applied with each retry by this rule

    def is_in_vain(self, outcome: AttemptOutcome) -> bool:
        """Return whether the next attempt would run under the Slurm memory limit that was too small for this one."""
        held = outcome.slurm_state == "OUT_OF_MEMORY" and outcome.reason == "out_of_memory"
        return held and self.memory_multiplier is None and self.recovery_script is None

    def matches(self, outcome: AttemptOutcome) -> bool:
        if self.match_all_exit_codes or outcome.category in self.match_categories:
            return True
        return outcome.return_code in self.exit_codes


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What happens to the job. `rule` is the index of the rule by which it is retried."""

    event: JobEvent
    rule: int | None = None
    recovery_script: str | None = None
    delay_seconds: float = 0.0  # until the next attempt may start


def rules_of(fields: Mapping[str, Any]) -> tuple[RetryRule, ...]:
    """Return the rules of a failure handler from its (validated) spec fields."""
    return tuple(
        RetryRule(
            exit_codes=frozenset(map(counted, rule.get("exit_codes") or ())),
            match_all_exit_codes=bool(rule.get("match_all_exit_codes")),
            match_categories=frozenset(rule.get("match_categories") or ()),
            max_retries=DEFAULT_MAX_RETRIES if rule.get("max_retries") is None else rule["max_retries"],
            recovery_script=rule.get("recovery_script"),
            memory_multiplier=rule.get("memory_multiplier"),
            runtime_multiplier=rule.get("runtime_multiplier"),
            delay_seconds=rule.get("delay_seconds") or 0.0,
            backoff=rule.get("backoff") or 1.0,
        )
        for rule in fields.get("rules") or ()
    )


_PLAIN_EVENTS = {
    "succeeded": JobEvent.SUCCEEDED,
    "interrupted": JobEvent.INTERRUPTED,
    "canceled": JobEvent.CANCELED,
}


def decide(
    outcome: AttemptOutcome,
    rules: Sequence[RetryRule] = (),
    used: Mapping[int, int] | None = None,
    *,
    use_pending_failed: bool = False,
    jitter: float = 0.0,
) -> RetryDecision:
    """Decide what a finished attempt means for its job.

    `used` counts the job's retries by each rule (by index) in this run. The first rule that matches and has retries left is used.
    Attempts that were stopped at a limit may also be retried by a rule; otherwise they stay terminated. A step that ran out of
    memory is not started again with the same memory. After a failed recovery script no rule applies. `jitter` (0 to 1) spreads
    retries that would start at the same time.
    """
    plain = _PLAIN_EVENTS.get(outcome.ending)
    if plain is not None and not outcome.is_at_limit:
        return RetryDecision(plain)
    if outcome.reason != RECOVERY_FAILED:
        counts = used or {}
        for index, rule in enumerate(rules):
            if rule.matches(outcome) and not rule.is_in_vain(outcome) and counts.get(index, 0) < rule.max_retries:
                delay = delay_of(rule, counts.get(index, 0), jitter)
                return RetryDecision(JobEvent.RETRIED, index, rule.recovery_script, delay)
    if outcome.is_at_limit:
        return RetryDecision(JobEvent.INTERRUPTED)
    if outcome.ending == "terminated":
        return RetryDecision(JobEvent.TERMINATED)
    return RetryDecision(JobEvent.AWAITED_DECISION if use_pending_failed else JobEvent.FAILED)


def delay_of(rule: RetryRule, num_retries: int, jitter: float) -> float:
    """Return the delay in seconds before a retry, given the number of retries by this rule so far: up to a quarter more."""
    if rule.delay_seconds <= 0.0:
        return 0.0
    grown, longest = rule.delay_seconds, max(rule.delay_seconds, LONGEST_DELAY_SECONDS)
    for _ in range(num_retries):
        grown = min(grown * rule.backoff, longest)
        if grown == longest:
            break
    return grown * (1.0 + JITTER * jitter)


def decide_lost(losses: int, how: str = "") -> RetryDecision:
    """Decide about a job whose runner was lost while it held the job.

    `losses` counts earlier losses in this run, except to runners that DIED; `how` is how this runner ended. A runner that died is
    replaced only when somebody runs the workflow again, so those losses need no limit.
    """
    return RetryDecision(JobEvent.RETRIED if how == DIED or losses < MAX_LOSSES else JobEvent.TERMINATED)
