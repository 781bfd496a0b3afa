"""Scan logs on this machine for known symptoms: more than runners report, and also logs of runners and Slurm.

With a Torc, the known facts about failed attempts (commands, figures, reasons) are taken into account; a folder of logs suffices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from torc.api.base import Torc
from torc.api.data import ListRequirements, Requirement
from torc.api.jobs import Job, ListJobs
from torc.api.pagination import items_of
from torc.api.runs import ListResults, Result
from torc.api.workflows import Workflow
from torc.failures.categories import Category
from torc.failures.diagnosis import AttemptFacts, FailureDiagnosis, Log, bounds_of, diagnose
from torc.planning.scheduler_types import ALLOCATION_LOGS, SCHEDULER_TYPES
from torc.reports.log_files import LogPath, end_of, named, of_attempt, walk
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import ENDED_BADLY

#: logs that are not known to belong to a failure need a more certain symptom
_SURE = 0.5
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong according to the logs of an attempt, or another log."""

    what: str  # job 12 (train_3), attempt 1; or the kind of log
    job_id: int | None
    diagnosis: FailureDiagnosis
    files: tuple[Path, ...]


@dataclass(slots=True)
class FindingGroup:
    """Similar findings; the most certain one is shown."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def sample(self) -> Finding:
        """Return the most certain finding."""
        return max(self.findings, key=lambda finding: (finding.diagnosis.confidence, len(finding.diagnosis.quotes)))


@dataclass(frozen=True, slots=True)
class LogScan:
    """The findings in logs, largest groups first."""

    groups: tuple[FindingGroup, ...]
    num_files: int
    num_without_logs: int
    folders: tuple[Path, ...]

    @property
    def by_category(self) -> dict[str, int]:
        """Return the number of findings by category."""
        counted = Counter(finding.diagnosis.category for group in self.groups for finding in group.findings)
        return dict(counted.most_common())


def grouped(findings: Iterable[Finding], folders: Sequence[Path], num_without_logs: int = 0) -> LogScan:
    """Group similar findings."""
    groups: dict[str, FindingGroup] = defaultdict(FindingGroup)
    files: set[Path] = set()
    for finding in findings:
        groups[finding.diagnosis.fingerprint].findings.append(finding)
        files.update(finding.files)
    ordered = sorted(groups.values(), key=lambda group: (-len(group.findings), group.findings[0].what))
    return LogScan(tuple(ordered), len(files), num_without_logs, tuple(folders))


# -- a folder ---------------------------------------------------------------------------------------------------


def of_folder(folder: Path) -> LogScan:
    """Scan a folder of logs, whoever wrote them."""
    attempts: dict[str, list[LogPath]] = defaultdict(list)
    findings: list[Finding] = []
    number = 0
    for log in walk(folder):
        number += 1
        if log.kind == "job":
            attempts[str(log.path.with_suffix(""))].append(log)
        elif (found := _of_other(log, folder)) is not None:
            findings.append(found)
    for logs in attempts.values():
        told = _diagnosed(AttemptFacts(), logs, folder)
        if _is_sure(told):
            what = f"job {logs[0].job} of workflow {logs[0].workflow}, attempt {logs[0].attempt}"
            findings.append(Finding(what, logs[0].job, told, tuple(log.path for log in logs)))
    made = grouped(findings, [folder])
    return LogScan(made.groups, number, 0, made.folders)


def _of_other(log: LogPath, folder: Path) -> Finding | None:
    found = _diagnosed(AttemptFacts(command=""), [log], folder)
    what = "a log" if log.kind == "other" else f"log of {'' if log.kind in SCHEDULER_TYPES else 'a '}{log.kind}"
    return Finding(what, None, found, (log.path,)) if _is_sure(found) else None


def _is_sure(found: FailureDiagnosis) -> bool:
    return bool(found.quotes) and found.category is not Category.UNKNOWN and found.confidence >= _SURE


def _diagnosed(facts: AttemptFacts, logs: Sequence[LogPath], folder: Path) -> FailureDiagnosis:
    ends = []
    for log in sorted(logs, key=lambda log: not log.is_error):
        end = end_of(log.path)
        if end is not None:
            ends.append(Log(_short(log.path, folder), end.text, end.first_line))
    return diagnose(replace(facts, logs=tuple(ends) or facts.logs))


def _short(path: Path, folder: Path) -> str:
    try:
        return str(path.relative_to(folder))
    except ValueError:
        return str(path)


# -- a workflow -------------------------------------------------------------------------------------------------


def of_workflow(torc: Torc, workflow: Workflow, folders: Sequence[Path], most_jobs: int) -> LogScan:
    """Scan the logs of at most `most_jobs` failed jobs of a workflow, and of its runners and allocations."""
    jobs: dict[int, Job] = {}
    for state in ENDED_BADLY:
        listed = items_of(torc, ListJobs(workflow_id=workflow.id, state=state, limit=_PAGE))
        jobs |= {job.id: job for job in islice(listed, most_jobs - len(jobs))}
    classes = _classes(torc, workflow.id)
    failed = ListResults(workflow_id=workflow.id, failed_only=True, latest_only=True, limit=_PAGE)
    findings, without = [], 0
    for result in items_of(torc, failed) if jobs else ():
        job = jobs.pop(result.job_id, None)
        if job is not None and result.reason != "runner_stopped":  # interrupted jobs have not failed: they will resume
            finding = _finding(job, result, classes, folders)
            findings.append(finding)
            without += not finding.files
        if not jobs:
            break
    findings += [
        found for log in _others(folders, workflow.id) if (found := _of_other(log, _here(folders))) is not None
    ]
    return grouped(findings, folders, without)


def of_job(torc: Torc, job: Job, folders: Sequence[Path]) -> Finding | None:
    """Return why the last attempt of a job failed according to all its local logs; None if there are none."""
    results = torc.send(ListResults(workflow_id=job.workflow_id, job_id=job.id, limit=1000)).items
    result = next((result for result in results if result.attempt == job.attempt), None)
    if result is None or result.state not in ENDED_BADLY:
        return None
    finding = _finding(job, result, _classes(torc, job.workflow_id), folders)
    return finding if finding.files else None


def _finding(job: Job, result: Result, classes: Mapping[int, Requirement], folders: Sequence[Path]) -> Finding:
    logs = of_attempt(folders, job.workflow_id, job.id, result.attempt, result.run_id)
    found = _diagnosed(_facts(job, result, classes.get(job.requirement_id)), logs, _here(folders))
    what = f"job {job.id} ({job.name}), attempt {result.attempt}"
    return Finding(what, job.id, found, tuple(log.path for log in logs))


def _facts(job: Job, result: Result, asked: Requirement | None) -> AttemptFacts:
    """Return the facts from the store."""
    request = ResourceRequest()
    if asked is not None:
        request = ResourceRequest(memory_bytes=asked.memory_bytes, runtime_seconds=asked.runtime_seconds)
    memory, runtime = bounds_of(request, result.reason)
    tails = (("stderr", result.stderr_tail, result.stderr_line), ("stdout", result.stdout_tail, result.stdout_line))
    return AttemptFacts(
        ending=result.state.value,
        reason=result.reason,
        detail=result.detail,
        return_code=result.return_code,
        command=job.command,
        memory_request=memory,
        peak_memory=result.usage.peak_memory_bytes or None,
        runtime_request=runtime,
        wall_seconds=result.wall_seconds,
        slurm_state=result.slurm_state,
        logs=tuple(Log(name, text, line) for name, text, line in tails if text),
    )


def _classes(torc: Torc, workflow_id: int) -> dict[int, Requirement]:
    listed = ListRequirements(workflow_id=workflow_id, limit=_PAGE)
    return {item.id: item for item in items_of(torc, listed)}


def _here(folders: Sequence[Path]) -> Path:
    """Return the folder relative to which paths are shown."""
    return folders[0].parent if folders else Path.cwd()


def _others(folders: Sequence[Path], workflow_id: int) -> Iterator[LogPath]:
    """Yield the logs of runners and allocations, which are next to the folder of job logs."""
    for folder in folders:
        for path in sorted(path for pattern in ("*.log", *ALLOCATION_LOGS) for path in folder.glob(pattern)):
            log = named(path)
            if (
                log.kind in {"runner", "worker", *SCHEDULER_TYPES}
                and log.workflow == workflow_id
                and not path.is_symlink()
            ):
                yield log
