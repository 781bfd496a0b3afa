"""Jobs, one at a time or many."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from torc.api.base import MEDIUM, MODEL, Page, Request, Value, request
from torc.api.workflows import Changes
from torc.workflow.states import State


class ClaimedFields(BaseModel):
    """The fields of a job (`torc.spec.plan.JOB_FIELDS`) that runners need."""

    model_config = MODEL
    command: str
    invocation_script: str | None = None
    env: dict[str, str] = {}
    supports_termination: bool = False
    keep_background_processes: bool = False


class JobFields(ClaimedFields):
    """The fields of a job, and the names of the objects that it refers to."""

    priority: int = Field(0, ge=0, le=2**31 - 1)
    failure_handler: str | None = None
    scheduler: str | None = None
    cancel_on_blocking_job_failure: bool = True


class _Identity(Value):
    id: int
    workflow_id: int
    name: str


class Job(JobFields, _Identity):
    """A stored job. Lists omit the relations (`depends_on` and below); GetJob includes them."""

    state: State
    attempt: int = Field(description="number of the current or last attempt, 0 before the first; increases across runs")
    requirement_id: int
    requirement_name: str
    runner_id: int | None = Field(None, description="the runner that holds it while it is pending or running")
    started_at: float | None = Field(None, description="start of the current or last attempt")
    due_at: float | None = Field(None, description="when a delayed retry may start")
    return_code: int | None = Field(None, description="of the last finished attempt")
    reason: str | None = Field(None, description="why it is in this state, if the state does not tell")
    depends_on: list[str] | None = Field(None, description="names of all its prerequisites, however they were declared")
    input_files: list[str] | None = None
    output_files: list[str] | None = None
    input_user_data: list[str] | None = None
    output_user_data: list[str] | None = None


@request("GET", "/workflows/{workflow_id}/jobs")
class ListJobs(Request[Page[Job]]):
    """List the jobs of a workflow in order of id."""

    workflow_id: int
    state: State | None = Field(None, description="only jobs in this state")
    name: str | None = Field(
        None, description="only the job with this name; with `*` or `?`: all jobs whose names match"
    )
    runner_id: int | None = None
    requirement_id: int | None = Field(None, description="only jobs of this requirement class")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/jobs/{job_id}")
class GetJob(Request[Job]):
    """Get one job with its relations."""

    job_id: int


@request("POST", "/workflows/{workflow_id}/jobs", access="write")
class CreateJob(JobFields, Request[Job]):
    """Add a job to a stored workflow. It becomes blocked or ready at once."""

    workflow_id: int
    name: str = Field(min_length=1)
    command: str = Field(min_length=1)
    depends_on: list[str] = []
    input_files: list[str] = []
    output_files: list[str] = []
    input_user_data: list[str] = []
    output_user_data: list[str] = []
    requirement: str | None = Field(
        None, description="name of a requirement class; default: the workflow's default class"
    )


@request("PATCH", "/jobs/{job_id}", access="write")
class UpdateJob(Request[Job]):
    """Change fields of a job that is not pending or running; omitted fields keep their values.

    An empty string removes an invocation script, a failure handler or a scheduler.
    """

    job_id: int
    command: str | None = Field(None, min_length=1)
    invocation_script: str | None = None
    env: dict[str, str] | None = None
    priority: int | None = Field(None, ge=0, le=2**31 - 1)
    requirement: str | None = None
    failure_handler: str | None = None
    scheduler: str | None = None
    cancel_on_blocking_job_failure: bool | None = None
    supports_termination: bool | None = None
    keep_background_processes: bool | None = None


JobAction = Literal["cancel", "reset", "run-again", "disable", "enable"]


@request("POST", "/workflows/{workflow_id}/jobs/act", access="write", largest_body=MEDIUM, takes_long=True)
class ActOnJobs(Request[Changes]):
    """Apply one action to many jobs, all or none.

    cancel: stop and cancel them and the jobs that depend on them. reset: start over. run-again: reset them and all jobs downstream.
    disable: remove them from the workflow; dependent jobs proceed as if they had completed. enable: undo disable.
    `conflict` names the first job that does not allow the action.
    """

    workflow_id: int
    job_ids: list[int] = Field(min_length=1, max_length=100_000)
    action: JobAction
    dry_run: bool = False
    limit: int = Field(1000, ge=0, le=100_000)
