"""Why jobs failed, and why others do not run."""

from __future__ import annotations

from pydantic import Field

from torc.api.base import Request, Value, request
from torc.failures.categories import Category, Remedy
from torc.workflow.states import State


class Quote(Value):
    """A line of a log that is evidence."""

    log: str = Field(description="stderr or stdout")
    line: int | None = Field(description="its number in the file, from 1, if known")
    text: str


class Diagnosis(Value):
    """Why an attempt failed, as far as is known."""

    category: Category
    confidence: float = Field(description="0 to 1")
    what: str = Field(description="what happened, in words")
    advice: str = Field(description="what usually helps")
    remedy: Remedy = Field(description="what a retry has to change; none: it would fail again")
    quotes: list[Quote] = Field([], description="the lines that support it, in order")
    figures: list[str] = Field([], description="exit code or signal; memory and time compared with the request")
    program: str = Field("", description="the program that the command runs")
    fingerprint: str = Field("", description="equal for similar failures (category, program, last error)")


class Cause(Value):
    """A job that keeps another one from running."""

    job_id: int
    job_name: str
    state: State
    reason: str | None = None


class Explanation(Value):
    """Why a job is in its current state."""

    job_id: int
    job_name: str
    workflow_id: int
    state: State
    attempt: int
    summary: str = Field(description="a sentence")
    hint: str | None = Field(None, description="what to do about it")
    causes: list[Cause] = Field([], description="the first jobs that it waits for, or because of which it was canceled")
    num_causes: int = 0
    diagnosis: Diagnosis | None = Field(None, description="of the last attempt, if that failed")


@request("GET", "/jobs/{job_id}/explanation")
class ExplainJob(Request[Explanation]):
    """Explain why a job failed, with the evidence, or what a job that does not run is waiting for."""

    job_id: int


class FailureGroup(Value):
    """Similar failures."""

    category: Category
    program: str
    fingerprint: str
    count: int
    remedy: Remedy
    job_ids: list[int] = Field(description="the first `jobs_per_group` of them")
    sample: Explanation = Field(description="one of them in full: the one with the highest confidence")


class Diagnoses(Value):
    """Why the jobs of a workflow failed."""

    workflow_id: int
    num_failed: int
    by_category: dict[str, int]
    groups: list[FailureGroup] = Field(description="largest first, the first `limit`")
    num_groups: int
    num_canceled: int = Field(description="jobs that were canceled because of these")


@request("GET", "/workflows/{workflow_id}/diagnosis", takes_long=True)
class DiagnoseWorkflow(Request[Diagnoses]):
    """Group the failed jobs of a workflow by cause, largest group first, and explain one of each group."""

    workflow_id: int
    limit: int = Field(50, ge=1, le=1000, description="maximum number of groups")
    jobs_per_group: int = Field(20, ge=0, le=10_000)
