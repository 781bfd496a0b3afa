"""`torc jobs explain` and `torc workflows diagnose`: why jobs failed, or do not run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc.api import diagnosis as api
from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.commands.run import output_folder
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION

_SHOWN_JOBS = 8
#: surer diagnoses gain nothing from more of the logs
_SURE = 0.9


def explain(job_id: Annotated[int, typer.Argument(help="Id of the job.")]) -> None:
    """Show why a job failed, with the evidence, or what a job that does not run is waiting for.

    Example: torc jobs explain 12
    """
    with torc(create=False) as opened:
        found = _with_logs(opened, opened.send(api.ExplainJob(job_id=job_id)))
    if SESSION.json:
        rendering.show_json(found)
        return
    state = rendering.colored(found.state, found.state) if rendering.uses_color() else found.state
    print(f"job {found.job_id} ({found.job_name}) {state}: {found.summary}")
    for line in _evidence(found.diagnosis):
        print(f"  {line}")
    for cause in found.causes:
        why = f": {cause.reason}" if cause.reason else ""
        print(f"  job {cause.job_id} ({cause.job_name}) {cause.state}{why}")
    if found.num_causes > len(found.causes):
        print(f"  and {found.num_causes - len(found.causes)} more")
    if found.hint:
        rendering.note(f"  hint: {found.hint}")


def _with_logs(opened: Torc, found: api.Explanation) -> api.Explanation:
    """Use more of the logs than runners report, where they are here and say more."""
    told = found.diagnosis
    if told is None or told.confidence >= _SURE:
        return found
    from torc.api.jobs import GetJob
    from torc.api.workflows import GetWorkflow
    from torc.reports import log_files, log_scan

    workflow = opened.send(GetWorkflow(workflow_id=found.workflow_id))
    folders = log_files.folders(opened, workflow, None, output_folder())
    finding = log_scan.of_job(opened, opened.send(GetJob(job_id=found.job_id)), folders)
    if finding is None or finding.diagnosis.confidence <= told.confidence:
        return found
    better = finding.diagnosis
    quotes = [api.Quote(log=quote.log, line=quote.line, text=quote.text) for quote in better.quotes]
    fields = {name: getattr(better, name) for name in api.Diagnosis.model_fields} | {
        "quotes": quotes,
        "figures": list(better.figures),
    }
    return found.model_copy(
        update={"summary": better.what, "hint": better.advice, "diagnosis": api.Diagnosis.model_validate(fields)}
    )


def diagnose(
    workflow: Which = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many groups.")] = 20,
) -> None:
    """Group the failed jobs of a workflow by cause, largest group first.

    Example: torc workflows diagnose 12
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        found = opened.send(api.DiagnoseWorkflow(workflow_id=number, limit=limit))
    if SESSION.json:
        rendering.show_json(found)
        return
    if not found.num_failed:
        rendering.note("no job has failed")
        return
    kinds = ", ".join(f"{count} {category}" for category, count in found.by_category.items())
    canceled = (
        f"; {found.num_canceled} more {'was' if found.num_canceled == 1 else 'were'} canceled"
        if found.num_canceled
        else ""
    )
    failed, groups = rendering.plural(found.num_failed, "failed job"), rendering.plural(found.num_groups, "group")
    print(f"{failed} in {groups} ({kinds}){canceled}")
    for group in found.groups:
        _show_group(group)
    if found.num_groups > len(found.groups):
        rendering.note(f"there are {found.num_groups - len(found.groups)} more groups: raise --limit")
    rendering.note(f"torc jobs explain ID tells more of one; torc jobs logs ID shows what it wrote (workflow {number})")


def _show_group(group: Any) -> None:
    sample = group.sample
    print(f"\n{group.count} x {rendering.bold(group.category)} in {group.program or '?'}: {sample.summary}")
    ids = ", ".join(map(str, group.job_ids[:_SHOWN_JOBS]))
    several = f"jobs {ids}{', ...' if group.count > _SHOWN_JOBS else ''}; of " if group.count > 1 else ""
    print(f"  {several}job {sample.job_id} ({sample.job_name}):")
    for line in _evidence(sample.diagnosis):
        print(f"    {line}")
    print(f"  {sample.hint}")


def _evidence(found: Any) -> list[str]:
    """Return the evidence, a line each."""
    if found is None:
        return []
    told = [f"{found.category}, {round(100 * found.confidence)}% sure", *found.figures]
    for quote in found.quotes:
        where = f"{quote.log}:{quote.line}" if quote.line is not None else quote.log
        told.append(f"{where}: {quote.text[:200]}")
    return told
