"""`torc reports ...`: how a run went, as tables, JSON, or one page that can be attached to a paper."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.results import list_results
from torc.cli.commands.run import output_folder, summarize
from torc.cli.commands.status import Which
from torc.cli.commands.utilization import check_resource_utilization
from torc.cli.connection import torc, workflow_id
from torc.cli.options.amounts import memory_bytes
from torc.cli.session import SESSION
from torc.cli.terminal import print_json

reports = App("Report on a run: tables, an HTML page, an archive for publication.")
reports.command("check-resource-utilization")(check_resource_utilization)
_SHOWN_GROUPS, _SHOWN_HOSTS = 8, 6
Html = Annotated[
    Path | None,
    typer.Option("--html", "-o", help="Write a self-contained HTML page.", metavar="FILE"),
]


@reports.command("summary")
def report_summary(workflow: Which = None, html: Html = None) -> None:
    """Summarize the current run: times, rates, failures, efficiency, provenance.

    Example: torc reports summary 3 --html report.html
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        if html is None and not SESSION.json:
            summarize(opened, number, output_folder())
            _show_more(_gathered(opened, number))
            return
        report = _gathered(opened, number)
    if SESSION.json:
        _show_json(report)
    if html is not None:
        _write_page(report, html, with_attempts=False)


@reports.command("results")
def report_results(
    workflow: Which = None,
    html: Html = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many on the terminal.")] = 10_000,
) -> None:
    """List the last attempt of each job. The HTML page shows the summary and all attempts of the run.

    Example: torc reports results 3 --html results.html
    """
    if html is None:
        list_results(workflow, None, None, None, False, True, limit)
        return
    with torc(create=False) as opened:
        report = _gathered(opened, workflow_id(opened, workflow))
    _write_page(report, html, with_attempts=True)


def _gathered(opened: Torc, number: int) -> Any:
    from torc import __version__
    from torc.reports.report_data import gather

    return gather(opened, number, time.time(), __version__)


def _show_more(report: Any) -> None:
    """Print what goes beyond the end of `torc run`: efficiency, groups of failures, where results come from."""
    from torc.reports.charts.efficiency import efficiency
    from torc.reports.report_data import charted

    figures = [figure for figure in efficiency(charted(report)) if figure.name not in {"wall time", "attempts"}]
    if figures:
        print("\nefficiency: " + ", ".join(f"{figure.value} {figure.name}" for figure in figures))
    for group in report.diagnoses.groups[:_SHOWN_GROUPS]:
        print(f"failed: {group.count} x {group.category} in {group.program or '?'}: {group.sample.summary}")
    run = report.summary.workflow.run_id
    hosts = sorted({runner.host for runner in report.provenance.runners if runner.run_id == run})
    if hosts:
        more = f" and {len(hosts) - _SHOWN_HOSTS} more" if len(hosts) > _SHOWN_HOSTS else ""
        print(f"ran on: {', '.join(hosts[:_SHOWN_HOSTS])}{more}")
    hashes = ", ".join(item.hash for item in report.provenance.environments)
    if hashes:
        print(f"environment: {hashes}")
    spec = report.provenance.spec
    if spec is not None:
        print(f"spec: {Path(spec.name).name}, SHA-256 {spec.sha256}")


def _show_json(report: Any) -> None:
    from torc.redaction import redact_json
    from torc.reports.charts.efficiency import efficiency
    from torc.reports.report_data import charted

    made = report.summary.model_dump(mode="json")
    made["figures"] = {figure.name: figure.value for figure in efficiency(charted(report))}
    for name in ("utilization", "diagnoses", "provenance"):
        made[name] = getattr(report, name).model_dump(mode="json")
    for name in ("inputs", "outputs"):
        made[name] = [file.model_dump(mode="json") for file in getattr(report, name)]
    print_json(json.dumps(redact_json(made), indent=2, ensure_ascii=False))


def _write_page(report: Any, path: Path, *, with_attempts: bool) -> None:
    from torc.files import write_whole
    from torc.reports.html_report import page

    write_whole(path, page(report, with_attempts=with_attempts).encode("utf-8", "replace"))
    rendering.note(f"wrote {path}: open it in a browser, print it, or attach it")


@reports.command("ro-crate")
def ro_crate(
    workflow: Which = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR_OR_ZIP", help="A new folder, or a file that ends in .zip.")
    ] = Path("ro-crate.zip"),
    license_: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="URL", help="License under which others may use it; set one before you publish."
        ),
    ] = None,
    author: Annotated[
        str | None, typer.Option("--author", help="Author of the run; default: the user of the workflow.")
    ] = None,
    orcid: Annotated[
        str | None, typer.Option("--orcid", metavar="URL", help="ORCID of the author: https://orcid.org/...")
    ] = None,
    max_file_size: Annotated[
        str,
        typer.Option(
            "--max-file-size", help="Include inputs and outputs up to this size; of larger ones, only hashes."
        ),
    ] = "10m",
) -> None:
    """Write the run as an RO-Crate (Workflow Run Crate 0.5), which archives and journals accept.

    It contains the spec as written and as resolved, the report, a table of all attempts, environments, and inputs and
    outputs.

    Example: torc reports ro-crate 3 -o sweep.zip --license https://spdx.org/licenses/CC-BY-4.0
    """
    from torc.errors import Invalid
    from torc.reports.archive import write_crate
    from torc.reports.ro_crate import About, orcid_of

    most_bytes = memory_bytes(max_file_size, "--max-file-size")
    if orcid is not None and author is None:
        raise Invalid("--orcid: whose it is was not said", hint="name the author, too: --author 'Kim Doe'")
    about = About(license_, author, None if orcid is None else orcid_of(orcid))
    with torc(create=False) as opened:
        report = _gathered(opened, workflow_id(opened, workflow))
    number = write_crate(report, output, about, most_bytes)
    if SESSION.json:
        rendering.show_json({"path": str(output), "num_files": number})
        return
    print(f"wrote {output}: {number} files")
    if license_ is None:
        rendering.note("no license was named: say --license URL before you publish it")
