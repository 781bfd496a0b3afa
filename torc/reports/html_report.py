"""A run as one HTML page that needs nothing beside itself: to read, to print, to attach to a paper.

Everything that comes from specs, jobs and logs passes through `words.safe`: it is escaped, and known secrets are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torc.api.diagnosis import FailureGroup
from torc.reports import provenance
from torc.reports.assets import script, style
from torc.reports.charts.distributions import spreads
from torc.reports.charts.efficiency import Figure, efficiency
from torc.reports.charts.timeline import timeline
from torc.reports.html import code, iso, pill, safe, size, span, table, when
from torc.reports.report_data import ReportData, charted
from torc.workflow.resources import UNASKED_MEMORY_BYTES

#: rows of the table of all attempts
MOST_ROWS = 20_000
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
    """Write the page. `with_attempts`: with a table of all attempts."""
    workflow = report.summary.workflow
    attempts = charted(report)
    sections = [
        ("outcome", "Outcome", _outcome(report, efficiency(attempts))),
        ("timeline", "Timeline", _timeline(report, timeline(attempts))),
        ("failures", "Failures", _failures(report)),
        ("efficiency", "Efficiency", _efficiency(report, spreads(attempts) if attempts else "")),
    ]
    if with_attempts:
        sections.append(("attempts", "Attempts", _attempts(report)))
    sections += [
        ("data", "Inputs and outputs", provenance.files(report)),
        ("provenance", "Provenance", provenance.provenance(report)),
    ]
    shown = [(name, title, body) for name, title, body in sections if body]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown)
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{body}</section>' for name, title, body in shown)
    title = f"{workflow.name}: run {workflow.run_id}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{safe(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="Torc {safe(report.version)}"><style>{style()}</style></head><body>'
        f'<a class="skip" href="#outcome">To the report</a><header><div><h1>{safe(workflow.name)}</h1>{_head(report)}'
        f'<nav aria-label="Sections">{links}</nav></div></header><main>{body}</main>'
        f"<footer><div>Made {iso(report.made_at)} by Torc {safe(report.version)}. "
        "What looks like a password or token is left out. Times are in UTC.</div></footer>"
        f"<script>{script()}</script></body></html>\n"
    )


def _head(report: ReportData) -> str:
    workflow = report.summary.workflow
    ran = ""
    if workflow.started_at is not None:
        ran = f", begun {when(workflow.started_at)}" + (
            f", ended {when(workflow.ended_at)}" if workflow.ended_at else ""
        )
    described = f"<p>{safe(workflow.description)}</p>" if workflow.description else ""
    return (
        f'<p>{pill(workflow.state)} <span class="soft">&nbsp; workflow {workflow.id}, run {workflow.run_id}, '
        f"of {safe(workflow.user)}{ran}</span></p>{described}"
    )


def _outcome(report: ReportData, figures: Sequence[Figure]) -> str:
    summary = report.summary
    counts = {state.value: count for state, count in summary.workflow.counts.by_state.items() if count}
    ordered = sorted(counts, key=_ORDER.index)
    total = sum(counts.values()) or 1
    tiles = [Figure("jobs", f"{total:,}", "of the workflow"), *figures]
    if summary.num_retries:
        tiles.append(Figure("retries", f"{summary.num_retries:,}", "attempts beyond the first of each job"))
    tiles.append(Figure("CPU time", span(summary.cpu_seconds), "user and system time of all attempts"))
    if summary.peak_memory_bytes:
        tiles.append(Figure("largest job", size(summary.peak_memory_bytes), "most memory that an attempt used"))
    bar = "".join(f'<i class="{state}" style="flex:{counts[state]} 0 0"></i>' for state in ordered)
    key = "".join(f'<li class="{state}">{counts[state]:,} {safe(state.replace("_", " "))}</li>' for state in ordered)
    shown = "".join(
        f"<div><b>{safe(tile.value)}</b><span>{safe(tile.name)}</span><small>{safe(tile.how)}</small></div>"
        for tile in tiles
    )
    waits = "".join(f"<li>{count:,} wait for {code(name)}</li>" for name, count in summary.blocked_by.items())
    return (
        f'<div class="bar" aria-hidden="true">{bar}</div><ul class="key">{key}</ul><div class="figures">{shown}</div>'
        + (f"<ul>{waits}</ul>" if waits else "")
    )


def _timeline(report: ReportData, chart: str) -> str:
    cut = f" Of the attempts, the first {len(report.attempts):,} are drawn; there are more." if report.is_cut else ""
    return f'<p class="words">What ran when, and how much at once.{cut}</p>{chart}'


# -- failures ---------------------------------------------------------------------------------------------------


def _failures(report: ReportData) -> str:
    found = report.diagnoses
    if not found.num_failed:
        return '<p class="words">No job has failed.</p>'
    kinds = ", ".join(f"{count:,} {category.replace('_', ' ')}" for category, count in found.by_category.items())
    were = "was" if found.num_canceled == 1 else "were"
    canceled = f" {found.num_canceled:,} more {were} canceled because of these." if found.num_canceled else ""
    jobs = "job" if found.num_failed == 1 else "jobs"
    blocks = "".join(map(_group, found.groups))
    more = found.num_groups - len(found.groups)
    rest = f"<p>{more:,} more kinds are left out.</p>" if more else ""
    return (
        f'<p class="words">{found.num_failed:,} {jobs} failed ({safe(kinds)}). Those that failed alike are told together.'
        f"{canceled}</p>{blocks}{rest}"
    )


def _group(group: FailureGroup) -> str:
    sample, count, ids = group.sample, group.count, group.job_ids
    found = sample.diagnosis
    assert found is not None
    quotes = "\n".join(
        f"{quote.log}{f':{quote.line}' if quote.line is not None else ''}: {quote.text}" for quote in found.quotes
    )
    figures = "".join(f"<li>{safe(figure)}</li>" for figure in found.figures)
    listed = ", ".join(map(str, ids)) + (", …" if count > len(ids) else "")
    program = f" in {code(found.program)}" if found.program else ""
    return (
        f"<article><h3>{count:,} x {safe(found.category.replace('_', ' '))}{program}</h3>"
        f'<p>{safe(_sentence(found.what))}. <span class="soft">{round(100 * found.confidence)}% sure.</span></p>'
        + (f"<ul>{figures}</ul>" if figures else "")
        + (f"<pre>{safe(quotes, 4000)}</pre>" if quotes else "")
        + f'<p>What usually helps: {safe(found.advice)}.</p><p class="soft">Job{"s" if count > 1 else ""} {listed}; '
        f"the lines are of {code(sample.job_name)}, attempt {sample.attempt}.</p></article>"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# -- efficiency -------------------------------------------------------------------------------------------------


def _efficiency(report: ReportData, chart: str) -> str:
    used = report.utilization
    if not used.num_attempts:
        return ""
    rows = [
        (
            code(item.requirement),
            f"{item.num_attempts:,}",
            str(item.num_cpus),
            f"{item.cpus.p95:.1f}",
            _asked(item.memory_bytes),
            size(item.memory.median),
            size(item.memory.most),
            span(item.runtime_seconds),
            span(item.wall.median),
            span(item.wall.most),
        )
        for item in used.classes
    ]
    header = (
        "class",
        "#attempts",
        "#CPUs asked",
        "#busy",
        "#memory asked",
        "#median",
        "#most",
        "#runtime asked",
        "#median",
        "#most",
    )
    advice = "".join(
        f"<li>{code(item.requirement)}: {safe(text)}</li>" for item in used.classes for text in item.advice
    )
    above = [
        (
            f"{item.job_id}",
            code(item.job_name),
            item.resource,
            _amount(item.resource, item.asked),
            _amount(item.resource, item.used),
        )
        for item in used.exceeded
    ]
    return (
        '<p class="words">What attempts used against what they asked for, by requirement class. Busy: CPUs that 95 of 100 '
        f"attempts kept busy on average, at most.</p>{chart}{table('Requests and use', header, rows)}"
        + (f"<h3>Far more asked for than used</h3><ul>{advice}</ul>" if advice else "")
        + (
            table(
                f"More used than asked for: the {len(above)} furthest of {used.num_exceeded:,}",
                ("#job", "name", "what", "#asked", "#used"),
                above,
            )
            if above
            else ""
        )
    )


def _asked(amount: int) -> str:
    return size(amount) if amount > UNASKED_MEMORY_BYTES else "nothing"


def _amount(resource: str, value: float) -> str:
    if resource == "memory":
        return size(value)
    return span(value) if resource == "runtime" else f"{value:.1f}"


def _attempts(report: ReportData) -> str:
    header = ("#job", "name", "#attempt", "state", "#code", "began", "#time", "#CPU time", "#peak memory", "why")
    shown = report.attempts[:MOST_ROWS]
    rows = (
        (
            str(line.job_id),
            safe(line.job_name, 200),
            str(line.attempt),
            pill(line.state.value),
            "" if line.return_code is None else str(line.return_code),
            when(line.started_at).removesuffix(" UTC"),
            span(line.wall_seconds),
            span(line.cpu_seconds),
            size(line.peak_memory_bytes),
            safe(line.why or "", 200),
        )
        for line in shown
    )
    more = f", the first {len(shown):,}" if len(shown) < len(report.attempts) or report.is_cut else ""
    return (
        '<input id="filter" type="search" placeholder="Show only …" aria-label="Show only attempts with this text">'
        + table(f"Attempts in the order of their end{more}", header, rows, look="attempts")
    )
