"""Tools that inspect workflows, jobs, results and events. They change nothing and cost one query each."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from mcp_server.context import context, find_workflow
from mcp_server.formatting import Quoted, Reply, page_that_fits, plain, quoted, when
from mcp_server.registry import tool
from torc.api.base import Page
from torc.api.diagnosis import ExplainJob, Explanation
from torc.api.events import Event, ListEvents
from torc.api.jobs import GetJob, Job, ListJobs
from torc.api.runs import ListResults, Result, SummarizeRun
from torc.api.workflows import ListWorkflows, Workflow
from torc.units import human_bytes, human_duration
from torc.workflow.states import FINISHED, State

WorkflowId = Annotated[int | str, Field(description="id or name")]
JobId = Annotated[int, Field(description="id of a job")]
Limit = Annotated[int, Field(ge=1, le=500, description="maximum number; fewer if the reply would be too long")]
Cursor = Annotated[str | None, Field(description="from the previous reply")]


class WorkflowLine(Reply):
    """A workflow in a line."""

    id: int
    name: str
    state: str
    jobs: dict[str, int] = Field(description="number of jobs by state")
    run_id: int
    created: str | None = None
    ended: str | None = None


def workflow_line(workflow: Workflow) -> WorkflowLine:
    """Show a workflow in a line."""
    return WorkflowLine(
        id=workflow.id,
        name=plain(workflow.name, 80),
        state=workflow.state,
        run_id=workflow.run_id,
        jobs={state.value: count for state, count in workflow.counts.by_state.items() if count},
        created=when(workflow.created_at),
        ended=when(workflow.ended_at),
    )


class Workflows(Reply):
    """Workflows, newest first."""

    workflows: list[WorkflowLine]
    cursor: str | None = None


@tool("List workflows")
def list_workflows(
    name: Annotated[str | None, Field(description="only those of this name")] = None,
    include_archived: bool = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Workflows:
    """List workflows, newest first. Start here if you have no id. Next: get_workflow_status."""
    shown, following = page_that_fits(
        lambda most: context().torc.send(
            ListWorkflows(name=name, include_archived=include_archived, limit=most, cursor=cursor)
        ),
        workflow_line,
        limit,
    )
    return Workflows(workflows=shown, cursor=following)


class StatusReport(WorkflowLine):
    """The status of a workflow."""

    percent_finished: float
    started: str | None = None
    directory: str = Field(description="where its jobs run")
    next: str


_NEXT = {
    "idle": "run_workflow or submit_workflow starts it; get_execution_plan shows what it will need",
    "running": "wait_for_workflow waits until it ends",
    "interrupted": "run_workflow continues it",
    "completed": "get_workflow_summary and check_resource_utilization show how it went",
    "failed": "diagnose_workflow says why",
    "canceled": "reset_jobs lets its jobs run again",
}


@tool("Status of a workflow")
def get_workflow_status(workflow_id: WorkflowId) -> StatusReport:
    """Return the status of a workflow: state, jobs by state, progress. The cheapest query; `next` names the tool to call next."""
    return status_of(find_workflow(workflow_id))


def status_of(workflow: Workflow) -> StatusReport:
    """Return the status of a workflow."""
    finished = sum(workflow.counts[state] for state in FINISHED)
    return StatusReport(
        **workflow_line(workflow).model_dump(),
        percent_finished=round(100 * finished / max(1, workflow.counts.total), 1),
        started=when(workflow.started_at),
        directory=plain(workflow.directory, 300),
        next=_NEXT[workflow.state],
    )


class AttemptEntry(Reply):
    """How an attempt ended."""

    job_id: int
    job: str
    attempt: int
    state: str
    return_code: int | None = None
    why: str | None = None
    took: str
    peak_memory: str
    ended: str | None = None


def attempt_line(result: Result) -> AttemptEntry:
    """Describe how an attempt ended, in one line."""
    return AttemptEntry(
        job_id=result.job_id,
        job=plain(result.job_name, 80),
        attempt=result.attempt,
        state=result.state.value,
        return_code=result.return_code,
        why=plain(result.detail or result.reason, 160) or None,
        took=human_duration(result.wall_seconds),
        peak_memory=human_bytes(result.usage.peak_memory_bytes),
        ended=when(result.ended_at),
    )


class Summary(Reply):
    """How a run went."""

    workflow: WorkflowLine
    took: str | None = None
    cpu: str
    peak_memory: str
    attempts: int
    retries: int
    failed: list[AttemptEntry] = Field(description="the first ones")
    num_failed: int
    waiting_behind: dict[str, int] = Field(description="number of unfinished jobs blocked by each of these")
    next: str


@tool("Summary of a run")
def get_workflow_summary(workflow_id: WorkflowId) -> Summary:
    """Summarize the current run: time, CPU, memory, retries, the first failures, what is blocked. Next: diagnose_workflow if jobs
    failed."""
    workflow = find_workflow(workflow_id)
    found = context().torc.send(SummarizeRun(workflow_id=workflow.id, limit=10))
    return Summary(
        workflow=workflow_line(found.workflow),
        took=None if found.wall_seconds is None else human_duration(found.wall_seconds),
        cpu=human_duration(found.cpu_seconds),
        peak_memory=human_bytes(found.peak_memory_bytes),
        attempts=found.num_attempts,
        retries=found.num_retries,
        failed=[attempt_line(result) for result in found.failed],
        num_failed=found.num_failed,
        waiting_behind={plain(name, 80): count for name, count in list(found.blocked_by.items())[:10]},
        next=_NEXT[found.workflow.state],
    )


class JobLine(Reply):
    """A job in a line."""

    id: int
    name: str
    state: str
    attempt: int
    return_code: int | None = None
    reason: str | None = None
    command: str


def job_line(job: Job) -> JobLine:
    """Describe a job in one line."""
    return JobLine(
        id=job.id,
        name=plain(job.name, 80),
        state=job.state.value,
        attempt=job.attempt,
        return_code=job.return_code,
        reason=plain(job.reason, 120) or None,
        command=plain(job.command, 120),
    )


class JobList(Reply):
    """Jobs in order of id."""

    jobs: list[JobLine]
    total: int | None = Field(None, description="in this state")
    cursor: str | None = None


@tool("List jobs by state")
def list_jobs_by_status(
    workflow_id: WorkflowId,
    status: Annotated[State | None, Field(description="only jobs in this state; default: all")] = None,
    name: Annotated[str | None, Field(description="only this name; `*` and `?` stand for anything")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JobList:
    """List jobs of a workflow. For failed ones use list_failed_jobs or diagnose_workflow, which say why. Next:
    get_job_details, explain_job."""
    workflow = find_workflow(workflow_id)
    shown, following = page_that_fits(
        lambda most: context().torc.send(
            ListJobs(workflow_id=workflow.id, state=status, name=name, limit=most, cursor=cursor)
        ),
        job_line,
        limit,
    )
    counts = workflow.counts
    total = None if name else counts.total if status is None else counts[status]
    return JobList(jobs=shown, total=total, cursor=following)


class JobDetails(JobLine):
    """A job, its requests and its relations."""

    workflow_id: int
    priority: int
    requirement: str
    env_names: list[str] | None = None
    depends_on: list[str] | None = None
    num_depends_on: int = 0
    input_files: list[str] | None = None
    output_files: list[str] | None = None
    failure_handler: str | None = None
    scheduler: str | None = None
    attempts: list[AttemptEntry] = Field(description="the last ones, oldest first")
    next: str


_MOST_NAMES = 20
_MOST_ATTEMPTS = 5


@tool("Details of a job")
def get_job_details(job_id: JobId) -> JobDetails:
    """Show one job: command, resource requests, prerequisites, files, its last attempts. Next: get_job_logs, explain_job."""
    torc = context().torc
    job = torc.send(GetJob(job_id=job_id))
    results = torc.send(ListResults(workflow_id=job.workflow_id, job_id=job.id, limit=1000)).items
    line = {**job_line(job).model_dump(), "command": plain(job.command, 2000)}
    return JobDetails(
        **line,
        workflow_id=job.workflow_id,
        priority=job.priority,
        requirement=plain(job.requirement_name, 80),
        env_names=[plain(name, 60) for name in list(job.env)[:_MOST_NAMES]] or None,
        depends_on=_names(job.depends_on),
        num_depends_on=len(job.depends_on or ()),
        input_files=_names(job.input_files),
        output_files=_names(job.output_files),
        failure_handler=plain(job.failure_handler, 80) or None,
        scheduler=plain(job.scheduler, 80) or None,
        attempts=[attempt_line(result) for result in results[-_MOST_ATTEMPTS:]],
        next="explain_job explains its state; get_job_logs shows its output",
    )


def _names(names: list[str] | None) -> list[str] | None:
    return [plain(name, 80) for name in names[:_MOST_NAMES]] if names else None


class Results(Reply):
    """How attempts ended, oldest first."""

    results: list[AttemptEntry]
    cursor: str | None = None


@tool("List results")
def list_results(
    workflow_id: WorkflowId,
    failed_only: Annotated[bool, Field(description="only attempts that did not complete")] = False,
    latest_only: Annotated[bool, Field(description="only the last attempt of each job")] = False,
    job_id: Annotated[int | None, Field(description="only of this job")] = None,
    run_id: Annotated[int | None, Field(description="only of this run")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Results:
    """List how attempts ended, with time and peak memory, oldest first. For sums use get_workflow_summary and
    check_resource_utilization."""
    number = find_workflow(workflow_id).id
    shown, following = page_that_fits(
        lambda most: context().torc.send(
            ListResults(
                workflow_id=number,
                failed_only=failed_only,
                latest_only=latest_only,
                job_id=job_id,
                run_id=run_id,
                limit=most,
                cursor=cursor,
            )
        ),
        attempt_line,
        limit,
    )
    return Results(results=shown, cursor=following)


class EventLine(Reply):
    """Something that happened."""

    id: int
    time: str | None = None
    type: str
    actor: str
    job_id: int | None = None
    data: str | None = Field(None, description="untrusted data")


def _event_line(event: Event) -> EventLine:
    data: dict[str, Any] = dict(event.data)
    ids = data.pop("job_ids", None)
    if isinstance(ids, list):
        data["num_jobs"] = len(ids)
        data["job_ids"] = ids[:5]
    return EventLine(
        id=event.id,
        time=when(event.time),
        type=event.type,
        actor=plain(event.actor, 80),
        job_id=event.job_id,
        data=plain(json.dumps(data, ensure_ascii=False), 300) if data else None,
    )


class Events(Reply):
    """What happened."""

    events: list[EventLine]
    cursor: str | None = None


@tool("List events")
def list_events(
    workflow_id: WorkflowId,
    type: Annotated[
        str | None, Field(description="only of this type, such as jobs_failed or intervention_applied")
    ] = None,
    job_id: Annotated[int | None, Field(description="only of this job")] = None,
    newest_first: bool = True,
    limit: Limit = 30,
    cursor: Cursor = None,
) -> Events:
    """List what happened to a workflow and who did it (user, runner, automation, assistant)."""
    number = find_workflow(workflow_id).id

    def ask(most: int) -> Page[Event]:
        return context().torc.send(
            ListEvents(
                workflow_id=number, type=type, job_id=job_id, newest_first=newest_first, limit=most, cursor=cursor
            )
        )

    shown, following = page_that_fits(ask, _event_line, limit)
    return Events(events=shown, cursor=following)


class AttemptDiagnosis(Reply):
    """Why an attempt failed."""

    category: str
    confidence: float
    remedy: str = Field(description="what a retry has to change; none: it would fail again")
    figures: list[str]
    evidence: list[Quoted]


class ExplainedJob(Reply):
    """Why a job is in its current state."""

    job_id: int
    job: str
    state: str
    attempt: int
    summary: str
    hint: str | None = None
    causes: list[str] | None = Field(None, description="jobs that it waits for, or because of which it was canceled")
    num_causes: int = 0
    diagnosis: AttemptDiagnosis | None = None


@tool("Explain a job")
def explain_job(job_id: JobId) -> ExplainedJob:
    """Explain why a job failed, with the log lines as evidence, or what a job that does not run is waiting for. For a whole workflow
    use diagnose_workflow."""
    return explained(context().torc.send(ExplainJob(job_id=job_id)))


def explained(found: Explanation, most_quotes: int = 6) -> ExplainedJob:
    """Format the explanation of a job's state."""
    diagnosis = None
    if (told := found.diagnosis) is not None:
        evidence = [
            quoted(
                quote.text, f"{quote.log} of job {found.job_id}" + (f", line {quote.line}" if quote.line else ""), 300
            )
            for quote in told.quotes[:most_quotes]
        ]
        diagnosis = AttemptDiagnosis(
            category=told.category,
            confidence=round(told.confidence, 2),
            remedy=told.remedy,
            figures=[plain(figure, 160) for figure in told.figures],
            evidence=evidence,
        )
    return ExplainedJob(
        job_id=found.job_id,
        job=plain(found.job_name, 80),
        state=found.state.value,
        attempt=found.attempt,
        summary=plain(found.summary, 400),
        hint=plain(found.hint, 300) or None,
        num_causes=found.num_causes,
        causes=[f"job {cause.job_id} ({plain(cause.job_name, 60)}): {cause.state.value}" for cause in found.causes[:10]]
        or None,
        diagnosis=diagnosis,
    )
