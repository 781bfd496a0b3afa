"""What becomes of a job whose attempt has ended: the event for the table of states.

The rules are those of the job's failure handler. Not for finding out why something failed (`diagnosis`, which names the
category), nor for changing what a job asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torc.failures.categories import Category
from torc.workflow.exit_codes import counted
from torc.workflow.states import Event

Ending = Literal["succeeded", "failed", "terminated", "interrupted", "canceled"]

#: How often a job may lose its runner in one run. A job that kills its runner must not go round for ever.
MAX_LOSSES = 3
DEFAULT_MAX_RETRIES = 3
RUNNER_LOST = "runner_lost"
TIMEOUT = "timeout"
#: how a runner ended whose process was found to be gone by somebody who runs the workflow again
DIED = "died"
RECOVERY_FAILED = "recovery_failed"
#: a delay grows no further
LONGEST_DELAY_SECONDS = 86400.0
#: the share of a delay by which it may be longer, so that many jobs that failed together do not come back together
JITTER = 0.25


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended. `return_code` is that of `exit_codes`, None when nothing was started or nobody knows."""

    ending: Ending
    return_code: int | None = None
    reason: str | None = None
    category: Category | None = None  # of its diagnosis, where there is one
    slurm_state: str | None = None  # of the step that it was

    @property
    def is_at_limit(self) -> bool:
        """Return whether it has saved its work at its limit: a rule may have it go on at once, else the next run does."""
        return self.ending == "interrupted" and self.reason == TIMEOUT


@dataclass(frozen=True, slots=True)
class RetryRule:
    """A rule of a failure handler. It matches by any of its conditions."""

    exit_codes: frozenset[int] = frozenset()
    match_all_exit_codes: bool = False
    match_categories: frozenset[str] = frozenset()
    max_retries: int = DEFAULT_MAX_RETRIES
    recovery_script: str | None = None
    memory_multiplier: float | None = None  # of what the next attempt asks for
    runtime_multiplier: float | None = None
    delay_seconds: float = 0.0  # before the next attempt
    backoff: float = 1.0  # times which, with each retry by this rule

    def is_in_vain(self, outcome: AttemptOutcome) -> bool:
        """Return whether it would have Slurm hold the next attempt to the memory that was not enough for this one."""
        held = outcome.slurm_state == "OUT_OF_MEMORY" and outcome.reason == "out_of_memory"
        return held and self.memory_multiplier is None and self.recovery_script is None

    def matches(self, outcome: AttemptOutcome) -> bool:
        """Return whether the rule is for this outcome."""
        if self.match_all_exit_codes or outcome.category in self.match_categories:
            return True
        return outcome.return_code in self.exit_codes


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What happens to the job. `rule` is the index of the rule that it is retried by."""

    event: Event
    rule: int | None = None
    recovery_script: str | None = None
    delay_seconds: float = 0.0  # until the next attempt is due


def rules_of(fields: Mapping[str, Any]) -> tuple[RetryRule, ...]:
    """Return the rules of a failure handler from its fields as a spec has them (checked there)."""
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
    "succeeded": Event.SUCCEEDED,
    "interrupted": Event.INTERRUPTED,
    "canceled": Event.CANCELED,
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

    `used` tells how often the job was retried by each rule (by index) in this run. The first rule that matches and has
    retries left is taken. Attempts that were stopped at a limit may be retried by a rule too; without one they stay
    terminated. A step that ran out of memory is not started again with the same memory. No rule is asked after a recovery
    script failed. `jitter` (0 to 1) spreads retries that would be due at once.
    """
    plain = _PLAIN_EVENTS.get(outcome.ending)
    if plain is not None and not outcome.is_at_limit:
        return RetryDecision(plain)
    if outcome.reason != RECOVERY_FAILED:
        counts = used or {}
        for index, rule in enumerate(rules):
            if rule.matches(outcome) and not rule.is_in_vain(outcome) and counts.get(index, 0) < rule.max_retries:
                delay = delay_of(rule, counts.get(index, 0), jitter)
                return RetryDecision(Event.RETRIED, index, rule.recovery_script, delay)
    if outcome.is_at_limit:
        return RetryDecision(Event.INTERRUPTED)
    if outcome.ending == "terminated":
        return RetryDecision(Event.TERMINATED)
    return RetryDecision(Event.AWAITED_DECISION if use_pending_failed else Event.FAILED)


def delay_of(rule: RetryRule, num_retries: int, jitter: float) -> float:
    """Return the seconds before a retry by a rule, after so many by it: never less than the rule says, up to a quarter more."""
    if rule.delay_seconds <= 0.0:
        return 0.0
    grown, longest = rule.delay_seconds, max(rule.delay_seconds, LONGEST_DELAY_SECONDS)
    for _ in range(num_retries):
        grown = min(grown * rule.backoff, longest)
        if grown == longest:
            break
    return grown * (1.0 + JITTER * jitter)


def decide_lost(losses: int, how: str = "") -> RetryDecision:
    """Decide about a job whose runner was lost while it held it.

    `losses` counts the earlier times in this run but for runners that DIED, and `how` is how this one ended: somebody has
    run the workflow again after a runner had died, so that each such round is asked for.
    """
    return RetryDecision(Event.RETRIED if how == DIED or losses < MAX_LOSSES else Event.TERMINATED)
