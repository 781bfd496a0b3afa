"""Put right what failed: propose what would help, then do it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import Request, Value, request
from torc.core.symptoms import Category


class Proposal(Value):
    """Jobs of one requirement class that are to run again in the same way."""

    action: Literal["more memory", "more time", "again"]
    category: Category
    requirement: str
    num_jobs: int
    job_ids: list[int] = Field(description="the first 100 of them")
    memory_bytes: int
    new_memory_bytes: int
    runtime_seconds: int
    new_runtime_seconds: int
    reason: str


class Left(Value):
    """Failed jobs that running again would not help, or not any more."""

    category: Category
    num_jobs: int
    job_ids: list[int] = Field(description="the first 100 of them")
    reason: str


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


@request("POST", "/workflows/{workflow_id}/recover", access="write")
class RecoverWorkflow(Request[Recovery]):
    """Give jobs that ran out of memory or time more of it, and make them due again with those that a retry helps as it is.

    With `dry_run`, only say what would be done. Jobs behind them are due again, too; all others stay as they are. Refused
    (`conflict`) while runners work on the workflow, or when it is not as `mark` says.
    """

    workflow_id: int
    memory_multiplier: float = Field(1.5, ge=1.0, le=1000.0)
    runtime_multiplier: float = Field(1.4, ge=1.0, le=1000.0)
    retry_unknown: bool = Field(False, description="also those of which nothing says why")
    retry: list[Category] = Field([], description="also those of these categories, as they are")
    max_attempts: int = Field(10, ge=1, description="jobs that were tried so often are left")
    mark: str | None = None
    dry_run: bool = False
