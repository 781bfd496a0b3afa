"""`torc logs ...`: known symptoms in logs, and an archive for a bug report."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.api.workflows import GetWorkflow
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.run import output_folder
from torc.cli.commands.status import Which
from torc.cli.connection import database_of, torc, workflow_id
from torc.cli.options.amounts import memory_bytes
from torc.cli.session import SESSION
from torc.cli.settings import SETTINGS
from torc.errors import NotFound
from torc.redaction import cleaned
from torc.units import human_bytes, whole_number

logs = App("Search logs for failures, or pack an archive for a bug report.")
_SHOWN_JOBS = 8
_SHOWN_QUOTES = 4
OutputDir = Annotated[
    Path | None, typer.Option("--output-dir", help="Folder with the logs; default: where the runners wrote them.")
]


@logs.command()
def analyze(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORKFLOW|DIR]",
            help="Id or name of a workflow, or any folder of logs; default: the active one here.",
        ),
    ] = None,
    output_dir: OutputDir = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many groups.")] = 20,
    max_jobs: Annotated[
        int, typer.Option("--max-jobs", min=1, help="Read the logs of at most this many failed jobs.")
    ] = 5000,
) -> None:
    """Search the logs of failed jobs, runners and Slurm for failures, group them, and show file and line.

    Reads the files themselves, so it must run where they are; `torc workflows diagnose` works from anywhere. A folder
    of logs needs no workflow.

    Example: torc logs analyze slurm_logs/
    """
    from torc.reports import log_files, log_scan

    if what is not None and os.sep in what and not Path(what).is_dir():
        raise NotFound(f"there is no folder {what}", hint="name a folder of logs, or a workflow by id or name")
    if what is not None and _is_folder(what):
        found = log_scan.of_folder(Path(what))
    else:
        with torc(create=False) as opened:
            workflow = opened.send(GetWorkflow(workflow_id=workflow_id(opened, what)))
            folders = log_files.folders(opened, workflow, output_dir, output_folder())
            if not folders:
                raise _nowhere(output_dir)
            found = log_scan.of_workflow(opened, workflow, folders, max_jobs)
    if SESSION.json:
        rendering.show_json([_as_json(group) for group in found.groups[:limit]])
        return
    _show(found, limit)


def _is_folder(what: str) -> bool:
    return whole_number(what) is None and Path(what).is_dir()


def _nowhere(output_dir: Path | None) -> NotFound:
    return NotFound(
        f"there is no folder of logs here{f': {output_dir}' if output_dir else ''}",
        hint="name it with --output-dir; `torc workflows diagnose` uses what runners have reported",
    )


def _show(found: Any, limit: int) -> None:
    if found.num_without_logs:
        rendering.note(
            f"{found.num_without_logs} failed jobs have no logs here: of those, what their runners reported is used"
        )
    if not found.num_files and not found.groups:
        rendering.note("there are no logs to read here")
        return
    if not found.groups:
        rendering.note(f"nothing that is known to be wrong in {rendering.plural(found.num_files, 'file')}")
        return
    kinds = ", ".join(f"{count} {category}" for category, count in found.by_category.items())
    num_findings = sum(found.by_category.values())
    told = f"{rendering.plural(num_findings, 'finding')} in {rendering.plural(len(found.groups), 'group')} ({kinds})"
    print(f"{told}, from {rendering.plural(found.num_files, 'file')}")
    for group in found.groups[:limit]:
        _show_group(group)
    if len(found.groups) > limit:
        rendering.note(f"there are {len(found.groups) - limit} more groups: raise --limit")


def _show_group(group: Any) -> None:
    sample, told = group.sample, group.sample.diagnosis
    program = f" in {told.program}" if told.program else ""
    print(
        f"\n{len(group.findings)} x {rendering.bold(told.category)}{program}: {told.what} ({round(100 * told.confidence)}% sure)"
    )
    jobs = [str(job_id) for job_id in _job_ids(group)]
    if jobs:
        named = ", ".join(jobs[:_SHOWN_JOBS]) + (", ..." if len(jobs) > _SHOWN_JOBS else "")
        print(f"  {'job' if len(jobs) == 1 else 'jobs'} {named}; of {cleaned(sample.what)}:")
    for figure in told.figures:
        print(f"    {figure}")
    for quote in told.quotes[-_SHOWN_QUOTES:]:
        where = f"{quote.log}:{quote.line}" if quote.line is not None else quote.log
        print(f"    {cleaned(where)}: {cleaned(quote.text)[:200]}")
    print(f"  {told.advice}")


def _job_ids(group: Any) -> list[int]:
    """Name each job once: it may have failed in the same way in several attempts."""
    return list(dict.fromkeys(finding.job_id for finding in group.findings if finding.job_id is not None))


def _as_json(group: Any) -> dict[str, Any]:
    sample, told = group.sample, group.sample.diagnosis
    return {
        "count": len(group.findings),
        "category": told.category,
        "confidence": told.confidence,
        "program": told.program,
        "what": told.what,
        "advice": told.advice,
        "remedy": told.remedy,
        "fingerprint": told.fingerprint,
        "figures": list(told.figures),
        "sample": sample.what,
        "quotes": [{"file": quote.log, "line": quote.line, "text": cleaned(quote.text)} for quote in told.quotes],
        "job_ids": _job_ids(group),
        "files": [str(path) for finding in group.findings for path in finding.files][:1000],
    }


@logs.command()
def bundle(
    workflow: Which = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The archive to write, a .tar.gz file.")
    ] = Path("torc-bundle.tar.gz"),
    output_dir: OutputDir = None,
    max_jobs: Annotated[
        int, typer.Option("--max-jobs", min=0, help="Include the logs of at most this many jobs.")
    ] = 100,
    max_log_size: Annotated[
        str, typer.Option("--max-log-size", help="How much to include from the end of each log.")
    ] = "256k",
    all_jobs: Annotated[bool, typer.Option("--all", help="Include the logs of completed jobs.")] = False,
) -> None:
    """Pack what is needed to find a fault: spec, events, results, diagnosis, logs, versions, configuration.

    Secrets are left out, and so are home directories and the user's name in paths. Only you can read the archive.

    Example: torc logs bundle 3 -o report.tar.gz
    """
    from torc import __version__
    from torc.files import whole_file
    from torc.reports import log_files, log_scan
    from torc.reports.bug_report import BundleLimits, BundleSubject, write_bundle
    from torc.reports.report_data import gather

    limits = BundleLimits(max_jobs, memory_bytes(max_log_size, "--max-log-size"), with_succeeded=all_jobs)
    with torc(create=False) as opened:
        found = opened.send(GetWorkflow(workflow_id=workflow_id(opened, workflow)))
        folders = log_files.folders(opened, found, output_dir, output_folder())
        subject = BundleSubject(
            workflow=found,
            report=gather(opened, found.id, time.time(), __version__),
            analysis=log_scan.of_workflow(opened, found, folders, max_jobs) if folders else None,
            folders=folders,
            settings=[_setting(key) for key in SETTINGS],
            environ=os.environ,
            home=str(Path.home()),
            database=_database(opened),
        )
        with whole_file(output, 0o600) as file:
            listed = write_bundle(opened, subject, limits, file)
    if SESSION.json:
        rendering.show_json({"file": str(output), "files": listed})
        return
    num_logs = sum(item["name"].startswith("logs/") for item in listed)
    print(f"wrote {output}: {len(listed)} files, {num_logs} of them logs, {human_bytes(output.stat().st_size)}")
    rendering.note("known secrets are left out; look through it before you send it: what is in it is in manifest.json")
    if not folders:
        rendering.note("no folder of logs is here: name it with --output-dir")


def _setting(key: str) -> dict[str, Any]:
    value, origin = SESSION.settings.origin(key)
    return {"key": key, "value": value, "from": origin}


def _database(opened: Torc) -> str:
    """Return which kind of store it is, and nothing of where."""
    store = database_of(opened)
    if store is None:
        return "a server"
    return f"{store.engine.dialect.name}, in this process"
