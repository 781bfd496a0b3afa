"""Attempts in short form, for charts and reports of many jobs, without logs. Full results are in `torc.api.runs`."""

from __future__ import annotations

from pydantic import Field

from torc.api.base import Page, Request, Value, request
from torc.workflow.states import State


class AttemptLine(Value):
    """One execution of a job, ended or running."""

    job_id: int
    job_name: str
    attempt: int
    run_id: int
    requirement: str = Field(description="name of the requirement class")
    state: State = Field(description="the state in which it ended, or running")
    return_code: int | None = None
    why: str | None = Field(None, description="why it did not complete, if more than a return code is known")
    runner_id: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@request("GET", "/workflows/{workflow_id}/attempts")
class ListAttempts(Request[Page[AttemptLine]]):
    """List the ended attempts of a workflow in the order in which they ended."""

    workflow_id: int
    run_id: int | None = None
    limit: int = Field(1000, ge=1, le=50_000)
    cursor: str | None = None
