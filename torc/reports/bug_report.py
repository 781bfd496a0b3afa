"""An archive for a bug report: what Torc knows about a workflow, and the relevant logs, without known secrets.

Names of users and their home directories in paths are replaced too. The manifest lists what remains, so that the sender can review
it first. It is not a backup; `torc workflows export` is.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import platform
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from torc.api.base import Torc
from torc.api.events import ListEvents
from torc.api.jobs import Job, ListJobs
from torc.api.pagination import items_of
from torc.api.runs import ListResults
from torc.api.workflows import CheckWorkflow, Workflow
from torc.planning.scheduler_types import ALLOCATION_LOGS, SCHEDULER_TYPES
from torc.redaction import redact, redact_json
from torc.reports.log_files import LogPath, end_of, named, of_attempt
from torc.reports.log_scan import LogScan
from torc.reports.numbers import iso
from torc.reports.report_data import ReportData, secrets_of

FORMAT, VERSION = "torc-bundle", 1
_MOST_EVENTS, _MOST_RESULTS = 20_000, 10_000
_PACKAGE = re.compile(r"[A-Za-z0-9._-]+")
_OF_DEVELOPERS = re.compile(r"extra == .(dev|docs)\b")
_SHOWN_VARIABLES = (
    "TORC_",
    *(each.variables[0] for each in SCHEDULER_TYPES.values()),
    "OMP_",
    "CUDA_VISIBLE_DEVICES",
)
_README = """\
This is what Torc knows of one workflow, for a bug report. manifest.json lists the files.

Anything that looks like a password, token or key was replaced by [redacted: ...]; home directories and the user's name in paths were
replaced too. Commands, job names and the ends of logs are included unchanged: review the archive before you send it to anybody.
"""


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """Limits on the logs that are included."""

    jobs: int = 100
    bytes_each: int = 256 << 10
    bytes_all: int = 64 << 20
    with_succeeded: bool = False


@dataclass(frozen=True, slots=True)
class BundleSubject:
    """The subject of the bundle, and its data outside the store. `secrets`: known exactly."""

    workflow: Workflow
    report: ReportData
    analysis: LogScan | None
    folders: Sequence[Path]
    settings: Sequence[Mapping[str, Any]]
    environ: Mapping[str, str]
    home: str
    database: str


@dataclass(slots=True)
class _Archive:
    """A tar file written in a fixed order, with nothing about this machine in its headers."""

    tar: tarfile.TarFile
    clean: _Cleaner
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, text: str, **more: Any) -> None:
        """Add text that is already clean."""
        data = text.encode("utf-8", "replace")
        info = tarfile.TarInfo(f"torc-bundle/{name}")
        info.size, info.mode, info.mtime = len(data), 0o600, 0
        self.tar.addfile(info, io.BytesIO(data))
        self.listed.append({"name": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more})

    def add_json(self, name: str, value: Any) -> None:
        """Clean and add a value."""
        self.add(name, json.dumps(self.clean.json(_plain(value)), indent=1, ensure_ascii=False) + "\n")

    def add_lines(self, name: str, values: Iterator[Any], most: int) -> None:
        """Clean and add values, one per line, up to a limit."""
        lines: list[str] = []
        is_cut = False
        for value in values:
            if len(lines) == most:
                is_cut = True
                break
            lines.append(json.dumps(self.clean.json(_plain(value)), ensure_ascii=False))
        self.add(name, "".join(f"{line}\n" for line in lines), is_cut=is_cut)


class _Cleaner:
    """Removes secrets, home directories and the user's name in paths from text."""

    def __init__(self, subject: BundleSubject, job_env: Sequence[Mapping[str, str]]) -> None:
        environs = [subject.environ, subject.workflow.env, *job_env]
        self._secrets = secrets_of(environs)
        self._paths = [
            (path, name)
            for path, name in ((subject.workflow.directory, "<workflow>"), (subject.home, "~"))
            if len(path) > 1
        ]
        user = subject.workflow.user
        self._user = re.compile(rf"(?<=/){re.escape(user)}(?=[/\s\"']|$)") if user else None

    def text(self, text: str) -> str:
        text = redact(text, self._secrets)
        for path, name in self._paths:
            text = text.replace(path, name)
        return self._user.sub("user", text) if self._user is not None else text

    def json(self, value: Any) -> Any:
        """Clean all strings in a JSON value."""
        return self._each(redact_json(value, self._secrets))

    def _each(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                key: _unnamed(item) if key in {"user", "actor"} else self._each(item) for key, item in value.items()
            }
        return [self._each(item) for item in value] if isinstance(value, list) else value


def _unnamed(who: Any) -> Any:
    """Remove the name of a user or an actor (`user:NAME`), but keep the kind of actor."""
    kind, colon, name = str(who).rpartition(":")
    return who if who is None or (colon and kind != "user") or not name else f"{kind}{colon}user"


def write_bundle(torc: Torc, subject: BundleSubject, limits: BundleLimits, file: IO[bytes]) -> list[dict[str, Any]]:
    """Write the archive; return the list of its files."""
    failed = _failed_jobs(torc, subject.workflow.id, limits)
    clean = _Cleaner(subject, [job.env for job in failed])
    with (
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        archive = _Archive(tar, clean)
        archive.add("README.txt", _README)
        _add_facts(torc, subject, archive)
        _add_logs(subject, failed, limits, archive)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "torc": subject.report.version,
            "made_at": iso(subject.report.made_at),
            "workflow_id": subject.workflow.id,
            "run_id": subject.workflow.run_id,
            "files": archive.listed,
        }
        archive.add("manifest.json", json.dumps(manifest, indent=1) + "\n")
    return archive.listed


def _add_facts(torc: Torc, subject: BundleSubject, archive: _Archive) -> None:
    report, number = subject.report, subject.workflow.id
    archive.add_json("host.json", _host(subject))
    archive.add_json("configuration.json", list(subject.settings))
    archive.add_json("workflow.json", subject.workflow)
    archive.add_json("summary.json", report.summary)
    archive.add_json("diagnosis.json", report.diagnoses)
    archive.add_json("utilization.json", report.utilization)
    archive.add_json("requirements.json", list(report.requirements.values()))
    archive.add_json("provenance.json", report.provenance)
    archive.add_json("allocations.json", list(report.allocations))
    archive.add_json("invariants.json", torc.send(CheckWorkflow(workflow_id=number)))
    spec = report.provenance.spec
    if spec is not None and spec.text is not None:
        archive.add(f"spec/as-written.{spec.format or 'txt'}", archive.clean.text(spec.text))
    if report.resolved_spec is not None:
        archive.add("spec/as-resolved.yaml", archive.clean.text(report.resolved_spec))
    events = ListEvents(workflow_id=number, newest_first=True, limit=5000)
    archive.add_lines("events.jsonl", items_of(torc, events), _MOST_EVENTS)
    results = ListResults(workflow_id=number, failed_only=True, limit=5000)
    archive.add_lines("failed-attempts.jsonl", items_of(torc, results), _MOST_RESULTS)
    if subject.analysis is not None:
        archive.add_json("symptoms.json", _symptoms(subject.analysis))


def _symptoms(found: LogScan) -> list[dict[str, Any]]:
    return [
        {
            "count": len(group.findings),
            "sample": group.sample.what,
            "fingerprint": group.sample.diagnosis.fingerprint,
            "confidence": group.sample.diagnosis.confidence,
            "what": group.sample.diagnosis.what,
            "quotes": [f"{quote.log}:{quote.line}: {quote.text}" for quote in group.sample.diagnosis.quotes],
        }
        for group in found.groups[:100]
    ]


def _failed_jobs(torc: Torc, workflow_id: int, limits: BundleLimits) -> list[Job]:
    """Return the jobs whose logs are included."""
    states = [*("failed", "terminated", "pending_failed"), *(("completed",) if limits.with_succeeded else ())]
    found: list[Job] = []
    for state in states:
        request = ListJobs.model_validate({"workflow_id": workflow_id, "state": state, "limit": 1000})
        for job in items_of(torc, request):
            if len(found) == limits.jobs:
                return found
            found.append(job)
    return found


def _add_logs(subject: BundleSubject, jobs: Sequence[Job], limits: BundleLimits, archive: _Archive) -> None:
    logs = [log for log in _around(subject) if log.workflow == subject.workflow.id and log.kind != "job"]
    for job in jobs:
        found = of_attempt(subject.folders, subject.workflow.id, job.id, job.attempt, None)
        logs += found  # a job may have created a link to something else there: `end_of` follows none
    left = limits.bytes_all
    for log in sorted(set(logs), key=lambda log: (log.kind == "job", log.path.name)):
        end = end_of(log.path, min(limits.bytes_each, left)) if left > 0 else None
        if end is not None:
            text = archive.clean.text(end.text)
            left -= len(text)
            archive.add(f"logs/{log.path.name}", text, left_out_bytes=end.left_out)


def _around(subject: BundleSubject) -> Iterator[LogPath]:
    """Yield the logs of runners, workers, allocations and actions."""
    for folder in subject.folders:
        for pattern in ("*.log", *ALLOCATION_LOGS, "job_stdio/action_*"):
            yield from (named(path) for path in folder.glob(pattern))  # links and special files are not read


def _host(subject: BundleSubject) -> dict[str, Any]:
    versions = {}
    for requirement in metadata.requires("torc") or ():
        found = _PACKAGE.match(requirement)
        if found is not None and not _OF_DEVELOPERS.search(requirement):
            with contextlib.suppress(metadata.PackageNotFoundError):  # of an extra that is not installed
                versions[found[0]] = metadata.version(found[0])
    return {
        "torc": subject.report.version,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "database": subject.database,
        "variables": {
            name: value for name, value in sorted(subject.environ.items()) if name.startswith(_SHOWN_VARIABLES)
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(item) for item in value] if isinstance(value, list) else value
