"""A run as one HTML page that needs nothing beside itself: to read, to print, to attach to a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from markupsafe import Markup

from torc.api.diagnosis import Diagnosis
from torc.reports.charts.distributions import spreads
from torc.reports.charts.efficiency import Figure, efficiency
from torc.reports.charts.page import SCRIPT, STYLE
from torc.reports.charts.timeline import timeline
from torc.reports.numbers import size, span
from torc.reports.report_data import ReportData, charted
from torc.reports.templates import asset, render
from torc.workflow.resources import DEFAULT_MEMORY_BYTES

#: rows in the table of all attempts
MOST_ROWS = 20_000
_LONGEST_SPEC = 200_000
_ORDER = (
    "completed",
    "running",
    "pending",
    "ready",
    "blocked",
    "uninitialized",
    "failed",
    "terminated",
    "pending_failed",
    "canceled",
    "disabled",
)


def page(report: ReportData, *, with_attempts: bool = False) -> str:
    """Return the page. `with_attempts`: include a table of all attempts."""
    workflow = report.summary.workflow
    attempts = charted(report)
    sections = {
        "outcome": "Outcome",
        "timeline": "Timeline",
        "failures": "Failures",
        "efficiency": "Efficiency" if report.utilization.num_attempts else "",
        "attempts": "Attempts" if with_attempts else "",
        "data": "Inputs and outputs" if report.inputs or report.outputs else "",
        "provenance": "Provenance",
    }
    counts = {state.value: count for state, count in workflow.counts.by_state.items() if count}
    spec, found = report.provenance.spec, report.provenance
    return render(
        "report.html",
        report=report,
        sections=[(name, title) for name, title in sections.items() if title],
        style=Markup(STYLE) + asset("report.css"),
        script=Markup(SCRIPT) + asset("report.js"),
        counts=sorted(counts.items(), key=lambda item: _ORDER.index(item[0])),
        figures=_figures(report, sum(counts.values()) or 1, efficiency(attempts)),
        timeline=Markup(timeline(attempts)),
        spreads=Markup(spreads(attempts)) if attempts else "",
        attempts=report.attempts[:MOST_ROWS],
        attempts_caption=_attempts_caption(report),
        longest_spec=_LONGEST_SPEC,
        spec_file=PurePath(spec.name).name if spec else "",
        versions=sorted({item.environment.torc for item in found.environments if item.environment.torc}),
        hosts=sorted({runner.host for runner in found.runners if runner.run_id == workflow.run_id}),
        runners=[runner for runner in found.runners if runner.run_id == workflow.run_id],
        allocations=[item for item in report.allocations if item.run_id == workflow.run_id],
        quoted=_quoted,
        asked=_asked,
        amount=_amount,
    )


def _figures(report: ReportData, num_jobs: int, of_attempts: Sequence[Figure]) -> list[Figure]:
    summary = report.summary
    figures = [Figure("jobs", f"{num_jobs:,}", "of the workflow"), *of_attempts]
    if summary.num_retries:
        figures.append(Figure("retries", f"{summary.num_retries:,}", "attempts beyond the first of each job"))
    figures.append(Figure("CPU time", span(summary.cpu_seconds), "user and system time of all attempts"))
    if summary.peak_memory_bytes:
        figures.append(Figure("largest job", size(summary.peak_memory_bytes), "highest memory use of an attempt"))
    return figures


def _quoted(found: Diagnosis) -> str:
    return "\n".join(
        f"{quote.log}{f':{quote.line}' if quote.line is not None else ''}: {quote.text}" for quote in found.quotes
    )


def _asked(amount: int) -> str:
    return size(amount) if amount > DEFAULT_MEMORY_BYTES else "nothing"


def _amount(resource: str, value: float) -> str:
    if resource == "memory":
        return size(value)
    return span(value) if resource == "runtime" else f"{value:.1f}"


def _attempts_caption(report: ReportData) -> str:
    shown = report.attempts[:MOST_ROWS]
    more = f", the first {len(shown):,}" if len(shown) < len(report.attempts) or report.is_cut else ""
    return f"Attempts in the order of their end{more}"
