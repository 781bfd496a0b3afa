"""Tools about failures: what failed and why, and what was used compared with what was requested. They change nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mcp_server.context import context, find_workflow
from mcp_server.formatting import Quoted, Reply, page_that_fits, plain, quoted, what_fits
from mcp_server.registry import tool
from mcp_server.tools.inspect import Cursor, ExplainedJob, JobId, JobLine, Limit, WorkflowId, explained, job_line
from mcp_server.tools.logs import log_file, log_folders, open_log
from torc.api.base import Page
from torc.api.diagnosis import DiagnoseWorkflow, ExplainJob, FailureGroup
from torc.api.jobs import GetJob, Job, ListJobs
from torc.api.runs import ListResults
from torc.api.utilization import CheckUtilization, ClassUse, Exceeded, Spread
from torc.api.workflows import Workflow
from torc.failures.fingerprint import normalised
from torc.reports import log_scan
from torc.reports.log_files import END_BYTES
from torc.units import human_bytes, human_duration
from torc.workflow.states import ENDED_BADLY, State


class FailedJob(JobLine):
    """A failed job, and why."""

    category: str
    summary: str
    remedy: str | None = None


class FailedJobs(Reply):
    """Failed jobs."""

    jobs: list[FailedJob]
    cursor: str | None = Field(None, description="for the next page, with the same `status`")
    next: str


@tool("List failed jobs")
def list_failed_jobs(
    workflow_id: WorkflowId,
    status: Annotated[
        State, Field(description="failed, terminated (stopped at a limit) or pending_failed (awaits a decision)")
    ] = State.FAILED,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> FailedJobs:
    """List failed jobs one by one, each with its cause. With more than a few, diagnose_workflow groups them and is shorter.
    Next: explain_job for the evidence, propose_recovery."""
    number = find_workflow(workflow_id).id

    def ask(most: int) -> Page[Job]:
        return context().torc.send(ListJobs(workflow_id=number, state=status, limit=min(most, 100), cursor=cursor))

    shown, following = page_that_fits(ask, _failed_job, limit)
    return FailedJobs(
        jobs=shown, cursor=following, next="diagnose_workflow groups them; propose_recovery says what can be done"
    )


def _failed_job(job: Job) -> FailedJob:
    found = context().torc.send(ExplainJob(job_id=job.id))
    told = found.diagnosis
    return FailedJob(
        **job_line(job).model_dump(),
        summary=plain(found.summary, 200),
        remedy=told.remedy if told else None,
        category=told.category if told else "unknown",
    )


@tool("Jobs that wait for a decision")
def list_pending_failed_jobs(workflow_id: WorkflowId, limit: Limit = 20, cursor: Cursor = None) -> FailedJobs:
    """List jobs that failed and wait for a decision (pending_failed, where the workflow uses it), each with its cause. Next:
    classify_and_resolve_failures decides."""
    found = list_failed_jobs(workflow_id, State.PENDING_FAILED, limit, cursor)
    return found.model_copy(update={"next": "classify_and_resolve_failures retries or cancels them"})


class GroupedFailures(Reply):
    """Similar failures, with one of them explained."""

    count: int
    category: str
    program: str
    remedy: str
    job_ids: list[int]
    sample: ExplainedJob


class DiagnosedWorkflow(Reply):
    """Why the jobs of a workflow failed, largest group first."""

    num_failed: int
    num_canceled: int = Field(description="because of these")
    by_category: dict[str, int]
    groups: list[GroupedFailures]
    num_groups: int
    next: str


@tool("Diagnose a workflow")
def diagnose_workflow(
    workflow_id: WorkflowId, max_groups: Annotated[int, Field(ge=1, le=50)] = 10
) -> DiagnosedWorkflow:
    """Explain why jobs failed: groups of similar failures, each with evidence from its logs. The first tool to call after a failure,
    whatever the number of jobs. Next: propose_recovery."""
    found = context().torc.send(
        DiagnoseWorkflow(workflow_id=find_workflow(workflow_id).id, limit=max_groups, jobs_per_group=10)
    )
    following = (
        "propose_recovery shows what would help, and which failures a retry does not help"
        if found.num_failed
        else "no job failed"
    )
    return DiagnosedWorkflow(
        num_failed=found.num_failed,
        num_canceled=found.num_canceled,
        by_category=found.by_category,
        groups=what_fits([_group(group) for group in found.groups], 11_000),
        num_groups=found.num_groups,
        next=following,
    )


def _group(group: FailureGroup) -> GroupedFailures:
    return GroupedFailures(
        count=group.count,
        category=group.category,
        program=plain(group.program, 80),
        remedy=group.remedy,
        job_ids=group.job_ids,
        sample=explained(group.sample, most_quotes=3),
    )


class LogGroup(Reply):
    """Similar findings, with the most certain one shown."""

    count: int
    category: str
    what: str
    advice: str
    job_ids: list[int] | None = None
    evidence: list[Quoted]


class LogFindings(Reply):
    """Findings in the logs of a workflow."""

    groups: list[LogGroup] | None = Field(None, description="known symptoms, largest group first")
    lines: list[Quoted] | None = Field(None, description="lines that contain the texts")
    note: str | None = None
    next: str


@tool("Look through the logs of a workflow")
def analyze_workflow_logs(
    workflow_id: WorkflowId,
    grep: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="lines of failed jobs with this text, any case; `a|b`: either"),
    ] = None,
    max_jobs: Annotated[int, Field(ge=1, le=200, description="number of failed jobs to examine")] = 30,
) -> LogFindings:
    """Search the logs of failed jobs, of runners and of Slurm for known symptoms, or for your own texts. Reads the ends of files; use
    diagnose_workflow first, and this for what it does not know."""
    workflow = find_workflow(workflow_id)
    folders = log_folders(workflow)
    following = "get_job_logs reads one log; propose_recovery says what can be done"
    if grep is not None:
        found, note = _lines_with(workflow, folders, grep, max_jobs)
        return LogFindings(lines=found, note=note, next=following)
    told = log_scan.of_workflow(context().torc, workflow, folders, max_jobs)
    note = f"{told.num_without_logs} of the failed jobs have no logs here: the excerpts in the store were used"
    return LogFindings(
        groups=what_fits([_log_group(group) for group in told.groups], 11_000),
        next=following,
        note=note if told.num_without_logs else None,
    )


def _log_group(group: log_scan.FindingGroup) -> LogGroup:
    sample, told = group.sample, group.sample.diagnosis
    of = f", {plain(sample.what, 100)}"
    return LogGroup(
        count=len(group.findings),
        category=told.category,
        what=plain(told.what, 200),
        advice=plain(told.advice, 200),
        job_ids=[finding.job_id for finding in group.findings if finding.job_id is not None][:10] or None,
        evidence=[
            quoted(quote.text, plain(quote.log, 200) + (f", line {quote.line}" if quote.line else "") + of, 300)
            for quote in told.quotes[-3:]
        ],
    )


def _lines_with(workflow: Workflow, folders: list[Path], grep: str, max_jobs: int) -> tuple[list[Quoted], str]:
    """Find texts in the ends of the logs of failed jobs, and describe what is shown."""
    texts = [text.lower() for text in grep.split("|") if text]
    jobs = [
        job
        for state in ENDED_BADLY
        for job in context().torc.send(ListJobs(workflow_id=workflow.id, state=state, limit=max_jobs)).items
    ][:max_jobs]
    findings: list[Quoted] = []
    seen: set[str] = set()
    for job in jobs:
        for stream in ("stderr", "stdout"):
            path = log_file(workflow, folders, job, stream, job.attempt)
            if path is None:
                continue
            with open_log(path) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - END_BYTES))
                lines = file.read(END_BYTES).decode("utf-8", "replace").splitlines()
            matching = [line for line in lines if any(text in line.lower() for text in texts)]
            fresh = [line for line in matching if normalised(line) not in seen]
            seen.update(map(normalised, fresh))
            if fresh:
                findings.append(quoted("\n".join(fresh[-5:]), f"{stream} of job {job.id}, attempt {job.attempt}", 800))
    shown = what_fits(findings, 11_000)
    more = len(findings) - len(shown)
    return (
        shown,
        f"lines of {len(jobs)} failed jobs; lines that differ only in numbers, paths or quoted text are shown once"
        + (f"; {more} findings would be too long" if more else ""),
    )


class ClassUsage(Reply):
    """What a class requested and used."""

    requirement: str
    attempts: int
    memory: str = Field(description="requested; median, 95th percentile and maximum used")
    runtime: str
    cpus: str
    advice: list[str] | None = None


class UsageReport(Reply):
    """What jobs used compared with what they requested."""

    attempts: int
    classes: list[ClassUsage]
    exceeded: list[str] = Field(description="attempts that used more than they requested, largest excess first")
    num_exceeded: int
    next: str


@tool("Check use of resources")
def check_resource_utilization(
    workflow_id: WorkflowId,
    run_id: Annotated[int | None, Field(description="only this run")] = None,
    limit: Annotated[int, Field(ge=0, le=100)] = 20,
) -> UsageReport:
    """Compare what jobs used with what they requested: which used more, and which classes request far too much. Next:
    suggest_resources, update_job_resources."""
    found = context().torc.send(CheckUtilization(workflow_id=find_workflow(workflow_id).id, run_id=run_id, limit=limit))
    return UsageReport(
        attempts=found.num_attempts,
        classes=what_fits([_class_usage(use) for use in found.classes], 8_000),
        exceeded=[_exceeded(item) for item in found.exceeded],
        num_exceeded=found.num_exceeded,
        next="suggest_resources says what to request; update_job_resources changes it",
    )


def _class_usage(use: ClassUse) -> ClassUsage:
    return ClassUsage(
        requirement=plain(use.requirement, 80),
        attempts=use.num_attempts,
        memory=f"{human_bytes(use.memory_bytes)}; {_spread(use.memory, human_bytes)}",
        runtime=f"{human_duration(use.runtime_seconds)}; {_spread(use.wall, human_duration)}",
        cpus=f"{use.num_cpus}; {_spread(use.cpus, _one_digit)}",
        advice=[plain(text, 200) for text in use.advice] or None,
    )


def _spread(found: Spread, show: Callable[[float], str]) -> str:
    return ", ".join(map(show, (found.median, found.p95, found.most)))


def _one_digit(value: float) -> str:
    return f"{value:.1f}"


def _exceeded(item: Exceeded) -> str:
    shows: dict[str, Callable[[float], str]] = {"memory": human_bytes, "runtime": human_duration}
    shown = shows.get(item.resource, _one_digit)
    return f"job {item.job_id} ({plain(item.job_name, 60)}): {item.resource} {shown(item.used)} of {shown(item.asked)}"


class JobUsage(Reply):
    """What the attempts of one job, or of a class, used."""

    usage: ClassUsage | None = None
    job: JobLine | None = None
    attempts: list[str] | None = None
    next: str


@tool("Analyze use of resources")
def analyze_resource_usage(job_id: JobId) -> JobUsage:
    """Show what the attempts of one job used, next to its class. For a whole workflow use check_resource_utilization."""
    torc = context().torc
    job = torc.send(GetJob(job_id=job_id))
    found = torc.send(CheckUtilization(workflow_id=job.workflow_id, limit=0))
    of_class = next((use for use in found.classes if use.requirement == job.requirement_name), None)
    results = torc.send(ListResults(workflow_id=job.workflow_id, job_id=job_id, limit=1000)).items
    attempts = [
        f"attempt {result.attempt}: {result.state.value}, {human_duration(result.wall_seconds)}, "
        f"{human_bytes(result.usage.peak_memory_bytes)} at the peak, "
        f"{(result.usage.user_cpu_seconds + result.usage.system_cpu_seconds) / max(0.001, result.wall_seconds):.1f} CPUs busy"
        for result in results[-10:]
    ]
    return JobUsage(
        job=job_line(job),
        usage=None if of_class is None else _class_usage(of_class),
        attempts=attempts or None,
        next="update_job_resources changes what its class requests",
    )
