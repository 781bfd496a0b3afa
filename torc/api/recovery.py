"""Recover from failures: propose what would help, then do it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import Request, Value, request
from torc.failures.categories import Category


class Proposal(Value):
    """Jobs of one requirement class that will run again in the same way."""

    key: str = Field(
        description="identifies the group across rounds, for `only` and `skip`: CLASS/CATEGORY, and the new amount if "
        "the jobs of a class need very different amounts"
    )
    action: Literal["more memory", "more time", "again"]
    category: Category
    requirement: str
    num_jobs: int
    job_ids: list[int] = Field(description="the first 100 of them")
    num_behind: int = Field(0, description="canceled jobs downstream that will also run")
    memory_bytes: int
    new_memory_bytes: int
    runtime_seconds: int
    new_runtime_seconds: int
    cost_node_hours: float = Field(
        description="estimate including jobs downstream: their share of a node times the time of similar jobs, or else their limit"
    )
    reason: str


class Left(Value):
    """Failed jobs that another attempt would not help, or no longer."""

    category: Category
    num_jobs: int
    job_ids: list[int] = Field(description="the first 100 of them")
    reason: str


class Spent(Value):
    """What recoveries have spent of their budget, computed from the event log and the attempts in the store."""

    rounds: int = Field(description="recoveries applied since the budget started")
    node_hours: float = Field(description="of all attempts that ended in runs after the first of them")
    since_event: int | None = Field(
        None, description="the event that started the budget; absent: it started with the workflow"
    )


class Recovery(Value):
    """What is done, or would be done, about the failed jobs of a workflow."""

    applied: bool
    mark: str = Field(
        description="identifies the state that this describes: send it back to reject the recovery if the state has changed"
    )
    proposals: list[Proposal]
    left: list[Left]
    num_retried: int
    num_left: int
    cost_node_hours: float = Field(description="estimate for all proposals")
    spent: Spent = Field(description="before this one")


@request("POST", "/workflows/{workflow_id}/recover", access="write", takes_long=True)
class RecoverWorkflow(Request[Recovery]):
    """Give jobs that ran out of memory or time more of it, and rerun them together with jobs for which a plain retry helps.

    With `dry_run`, only return what would be done. Jobs downstream of them run again too; all others are left alone. Refused
    (`conflict`) while runners work on the workflow, or if it is not in the state of `mark`.
    """

    workflow_id: int
    memory_multiplier: float = Field(1.5, ge=1.0, le=1000.0)
    runtime_multiplier: float = Field(1.4, ge=1.0, le=1000.0)
    retry_unknown: bool = Field(False, description="also retry jobs that failed for an unknown reason")
    retry: list[Category] = Field([], description="also retry jobs that failed in these categories, unchanged")
    max_attempts: int = Field(10, ge=1, description="jobs with this many attempts are not retried")
    only: list[str] = Field([], description="only groups with these keys, first parts of keys, or patterns")
    skip: list[str] = Field([], description="exclude groups with these")
    max_retries: int | None = Field(None, ge=0, description="maximum number of recoveries since the budget started")
    max_node_hours: float | None = Field(
        None,
        ge=0.0,
        description="skip groups that would bring the cost of recoveries since the budget started above this",
    )
    new_budget: bool = Field(False, description="start a new budget with this recovery")
    max_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="memory of the largest node or partition, if more than any runner has had so far",
    )
    max_runtime_seconds: int | None = Field(None, ge=1, description="longest time limit of any partition")
    reason: str | None = Field(
        None, max_length=2000, description="the reason given by the caller; kept in the event log"
    )
    automation: str | None = Field(
        None, max_length=100, description="name of the program that recovers automatically; each has its own budget"
    )
    lost_runners: list[int] = Field(
        [],
        max_length=10_000,
        description="runners whose processes are gone: their jobs count as lost and are recovered",
    )
    mark: str | None = None
    dry_run: bool = False


@request("GET", "/workflows/{workflow_id}/recovery")
class GetRecoverySpent(Request[Spent]):
    """Get what recoveries of a workflow have spent of their budget."""

    workflow_id: int
    automation: str | None = None
