"""Put right what failed: propose what would help, then do it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import Request, Value, request
from torc.failures.categories import Category


class Proposal(Value):
    """Jobs of one requirement class that are to run again in the same way."""

    key: str = Field(
        description="names the group from round to round, for `only` and `skip`: CLASS/CATEGORY, and what each would be given where "
        "jobs of one class need very different amounts"
    )
    action: Literal["more memory", "more time", "again"]
    category: Category
    requirement: str
    num_jobs: int
    job_ids: list[int] = Field(description="the first 100 of them")
    num_behind: int = Field(0, description="jobs behind them that were canceled and will run, too")
    memory_bytes: int
    new_memory_bytes: int
    runtime_seconds: int
    new_runtime_seconds: int
    cost_node_hours: float = Field(
        description="estimate with those behind: their share of a node for as long as their likes took, else to their limit"
    )
    reason: str


class Left(Value):
    """Failed jobs that running again would not help, or not any more."""

    category: Category
    num_jobs: int
    job_ids: list[int] = Field(description="the first 100 of them")
    reason: str


class Spent(Value):
    """What recoveries have spent of their budget. All of it is worked out from the log and the attempts in the store."""

    rounds: int = Field(description="recoveries that were applied since the budget began")
    node_hours: float = Field(description="of all attempts that ended in the runs after the first of them")
    since_event: int | None = Field(None, description="the event that began the budget; none: the workflow did")


class Recovery(Value):
    """What is done, or would be, about the jobs of a workflow that failed."""

    applied: bool
    mark: str = Field(
        description="tells the state that this was made from: give it back to have no other one recovered"
    )
    proposals: list[Proposal]
    left: list[Left]
    num_retried: int
    num_left: int
    cost_node_hours: float = Field(description="estimate for all proposals")
    spent: Spent = Field(description="before this one")


@request("POST", "/workflows/{workflow_id}/recover", access="write", takes_long=True)
class RecoverWorkflow(Request[Recovery]):
    """Give jobs that ran out of memory or time more of it, and let them run again with those that a retry helps as it is.

    With `dry_run`, only say what would be done. Jobs behind them run again, too; all others stay as they are. Refused
    (`conflict`) while runners work on the workflow, or when it is not as `mark` says.
    """

    workflow_id: int
    memory_multiplier: float = Field(1.5, ge=1.0, le=1000.0)
    runtime_multiplier: float = Field(1.4, ge=1.0, le=1000.0)
    retry_unknown: bool = Field(False, description="also those of which nothing says why")
    retry: list[Category] = Field([], description="also those of these categories, as they are")
    max_attempts: int = Field(10, ge=1, description="jobs that were tried so often are left")
    only: list[str] = Field([], description="only groups with these keys, first parts of keys, or patterns")
    skip: list[str] = Field([], description="no groups with these")
    max_retries: int | None = Field(None, ge=0, description="at most so many recoveries since the budget began")
    max_node_hours: float | None = Field(
        None, ge=0.0, description="leave groups with which recoveries would cost more than this since the budget began"
    )
    new_budget: bool = Field(False, description="begin a new budget with this recovery")
    max_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="what the largest node or partition holds, where that is more than any runner had so far",
    )
    max_runtime_seconds: int | None = Field(None, ge=1, description="what the longest partition allows")
    reason: str | None = Field(None, max_length=2000, description="why, in the words of who asks; kept in the log")
    automation: str | None = Field(
        None, max_length=100, description="the program that recovers by itself; each has a budget of its own"
    )
    lost_runners: list[int] = Field(
        [],
        max_length=10_000,
        description="runners whose processes are gone: what they ran counts as lost, and is recovered",
    )
    mark: str | None = None
    dry_run: bool = False


@request("GET", "/workflows/{workflow_id}/recovery")
class GetRecoverySpent(Request[Spent]):
    """Get what recoveries of a workflow have spent of their budget."""

    workflow_id: int
    automation: str | None = None
