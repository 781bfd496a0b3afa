"""The data of a report on a run, fetched with limits, so that a million jobs do not produce a page of gigabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from torc.api.allocations import Allocation, ListAllocations
from torc.api.attempts import AttemptLine, ListAttempts
from torc.api.base import Torc, Value
from torc.api.data import File, ListFiles, ListRequirements, Requirement
from torc.api.diagnosis import Diagnoses, DiagnoseWorkflow
from torc.api.jobs import ListJobs
from torc.api.pagination import items_of
from torc.api.provenance import GetProvenance, Provenance
from torc.api.runs import RunSummary, SummarizeRun
from torc.api.transfer import ExportSpec
from torc.api.utilization import CheckUtilization, Utilization
from torc.redaction import redact, redact_json, says_secret
from torc.reports.charts.records import ChartedAttempt
from torc.reports.checksums import with_hashes
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import State

T = TypeVar("T")
V = TypeVar("V", bound=Value)

#: the resolved spec is left out beyond this number of jobs
_MOST_RESOLVED_JOBS = 2000
_PAGE = 10_000
_SHORTEST_SECRET = 6
_MOST_RUNNING = 5000


@dataclass(frozen=True, slots=True)
class ReportLimits:
    """The maximum number of each."""

    attempts: int = 200_000
    files: int = 500
    groups: int = 30
    runners: int = 200


@dataclass(frozen=True, slots=True)
class ReportData:
    """A run and its provenance. `attempts` are those of the current run or, if there are too many, the first to end."""

    summary: RunSummary
    attempts: tuple[AttemptLine, ...]
    is_cut: bool
    requirements: dict[str, Requirement]
    utilization: Utilization
    diagnoses: Diagnoses
    provenance: Provenance
    allocations: tuple[Allocation, ...]
    inputs: tuple[File, ...]
    outputs: tuple[File, ...]
    resolved_spec: str | None
    made_at: float
    version: str

    @property
    def num_jobs(self) -> int:
        return self.summary.workflow.counts.total


def gather(torc: Torc, workflow_id: int, now: float, version: str, limits: ReportLimits = ReportLimits()) -> ReportData:
    """Fetch the data of a report. `now`: seconds since the epoch."""
    summary = torc.send(SummarizeRun(workflow_id=workflow_id, limit=0))
    run_id = summary.workflow.run_id
    ended, is_cut = _first(
        items_of(torc, ListAttempts(workflow_id=workflow_id, run_id=run_id, limit=_PAGE)),
        limits.attempts,
    )
    listed = ListFiles(workflow_id=workflow_id, limit=min(limits.files, _PAGE))
    inputs, _ = _first(items_of(torc, listed.model_copy(update={"required_existing": True})), limits.files)
    outputs, _ = _first(items_of(torc, listed.model_copy(update={"written": True})), limits.files)
    requirements = items_of(torc, ListRequirements(workflow_id=workflow_id, limit=_PAGE))
    allocations = ListAllocations(workflow_id=workflow_id, limit=limits.runners)
    report = ReportData(
        summary=summary,
        attempts=(*ended, *_running(torc, workflow_id, run_id, now)),
        is_cut=is_cut,
        requirements={item.name: item for item in requirements},
        utilization=torc.send(CheckUtilization(workflow_id=workflow_id, run_id=run_id, limit=20)),
        diagnoses=torc.send(DiagnoseWorkflow(workflow_id=workflow_id, limit=limits.groups, jobs_per_group=12)),
        provenance=torc.send(GetProvenance(workflow_id=workflow_id, limit=limits.runners)),
        allocations=tuple(reversed(torc.send(allocations).items)),
        inputs=tuple(with_hashes(summary.workflow.directory, inputs)),
        outputs=tuple(with_hashes(summary.workflow.directory, outputs)),
        resolved_spec=_resolved(torc, summary),
        made_at=now,
        version=version,
    )
    return _without_secrets(report, secrets_of([summary.workflow.env]))


def secrets_of(environs: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Return the values of variables whose names denote secrets, except for common words."""
    return frozenset(
        value
        for environ in environs
        for name, value in environ.items()
        if says_secret(name) and len(value) >= _SHORTEST_SECRET and not (value.isalpha() and value.islower())
    )


def _without_secrets(report: ReportData, secrets: frozenset[str]) -> ReportData:
    """Remove exactly known secrets wherever jobs printed them."""
    if not secrets:
        return report
    attempts = (line.model_copy(update={"why": line.why and redact(line.why, secrets)}) for line in report.attempts)
    return replace(
        report,
        summary=_redacted(report.summary, secrets),
        diagnoses=_redacted(report.diagnoses, secrets),
        provenance=_redacted(report.provenance, secrets),
        attempts=tuple(attempts),
        resolved_spec=report.resolved_spec and redact(report.resolved_spec, secrets),
    )


def _redacted(value: V, secrets: frozenset[str]) -> V:
    return type(value).model_validate(redact_json(value.model_dump(mode="json"), secrets))


def _running(torc: Torc, workflow_id: int, run_id: int, now: float) -> list[AttemptLine]:
    """Return the running attempts."""
    jobs = torc.send(ListJobs(workflow_id=workflow_id, state=State.RUNNING, limit=_MOST_RUNNING)).items
    return [
        AttemptLine(
            job_id=job.id,
            job_name=job.name,
            attempt=job.attempt,
            run_id=run_id,
            requirement=job.requirement_name,
            state=State.RUNNING,
            runner_id=job.runner_id,
            started_at=job.started_at,
            wall_seconds=max(0.0, now - (job.started_at or now)),
        )
        for job in jobs
    ]


def _resolved(torc: Torc, summary: RunSummary) -> str | None:
    if summary.workflow.counts.total > _MOST_RESOLVED_JOBS:
        return None
    return torc.send(ExportSpec(workflow_id=summary.workflow.id)).text


def charted(report: ReportData) -> list[ChartedAttempt]:
    """Return the attempts of a report for charts, with times relative to the start of the run."""
    return drawn(report.attempts, report.requirements)


def drawn(attempts: Sequence[AttemptLine], requirements: Mapping[str, Requirement]) -> list[ChartedAttempt]:
    """Return attempts for charts; `requirements` by name."""
    started = [line.started_at for line in attempts if line.started_at is not None]
    if not started:
        return []
    zero = min(started)
    asked = {name: ResourceRequest.of(item) for name, item in requirements.items()}
    return [
        ChartedAttempt(
            job_id=line.job_id,
            attempt=line.attempt,
            name=line.job_name,
            group=line.requirement,
            state=line.state.value,
            start=line.started_at - zero,
            end=line.started_at - zero + line.wall_seconds,
            request=asked.get(line.requirement, ResourceRequest()),
            cpu_seconds=line.cpu_seconds,
            peak_memory_bytes=line.peak_memory_bytes,
            why=line.why or "",
        )
        for line in attempts
        if line.started_at is not None and line.state is not State.CANCELED
    ]


def _first(items: Iterator[T], most: int) -> tuple[list[T], bool]:
    """Return the first `most` items and whether there are more."""
    return list(islice(items, most)), next(items, None) is not None
