"""The plots of a run, as a page or a picture: when jobs ran, what they used over time, and its distribution relative to requests.

Totals of attempts come from the store, time series from the databases that runners write to the output directory. Failures and
provenance are in `html_report`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import resvg_py
from markupsafe import Markup

from torc.api.attempts import ListAttempts
from torc.api.base import Torc
from torc.api.data import ListRequirements
from torc.api.pagination import items_of
from torc.api.runs import ListRunners
from torc.api.workflows import GetWorkflow
from torc.errors import Invalid, NotFound, Unavailable
from torc.reports.charts.distributions import spreads
from torc.reports.charts.efficiency import Figure, efficiency
from torc.reports.charts.page import PAGE_STYLE, SCRIPT, STYLE, Section, picture
from torc.reports.charts.profiles import profiles, totals
from torc.reports.charts.records import ChartedAttempt, Series
from torc.reports.charts.timeline import timeline
from torc.reports.report_data import drawn
from torc.reports.templates import render
from torc.runner.time_series import RecordedSeries, SeriesPoint, recorded
from torc.workflow.resources import Capacity

SUFFIXES = (".html", ".svg", ".png")
_PAGE = 10_000
_ZOOM = 2.0  # PNG pixels per pixel of the drawing: for print and high-resolution screens
_FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")


@dataclass(frozen=True, slots=True)
class Plots:
    """The plots of a run."""

    title: str
    words: str
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]
    num_attempts: int
    num_series: int


def plots(torc: Torc, workflow_id: int, folder: Path, run_id: int | None = None, jobs: str | None = None) -> Plots:
    """Draw a run (default: the current one). `jobs`: only jobs with this name, where `*` matches anything.

    Raises NotFound if there is nothing to draw, Unavailable if a time series database cannot be read.
    """
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    run = workflow.run_id if run_id is None else run_id
    lines = list(items_of(torc, ListAttempts(workflow_id=workflow_id, run_id=run, limit=_PAGE)))
    requirements = {item.name: item for item in items_of(torc, ListRequirements(workflow_id=workflow_id, limit=_PAGE))}
    started = [line.started_at for line in lines if line.started_at is not None]
    attempts = [each for each in drawn(lines, requirements) if jobs is None or fnmatchcase(each.name, jobs)]
    if not attempts:
        if not run:
            raise NotFound(f"workflow {workflow_id} has not run yet", hint=f"torc run {workflow_id} runs it")
        what = f"no job named `{jobs}` has run in" if jobs else "nothing has ended yet in"
        raise NotFound(f"{what} run {run} of workflow {workflow_id}", hint="torc status shows its state")
    series = list(_series(recorded(folder, workflow_id, run), attempts, min(started)))
    return Plots(
        title=f"{workflow.name}, run {run}",
        words=_words(attempts, series, folder),
        figures=tuple(efficiency(attempts)),
        sections=tuple(_sections(attempts, series, _capacity(torc, workflow_id, run))),
        num_attempts=len(attempts),
        num_series=len(series),
    )


def rendered(made: Plots, suffix: str, *, dark: bool = False) -> bytes:
    """Return the plots as a .html, .svg or .png file. Raises Invalid for another suffix, Unavailable if text cannot be drawn."""
    if suffix == ".html":
        return page(made.title, made.words, made.figures, made.sections).encode("utf-8", "replace")
    if suffix not in SUFFIXES:
        raise Invalid(f"there is no plot as `{suffix}`", hint=f"use a file name that ends in {', '.join(SUFFIXES)}")
    drawing = picture(made.title, made.figures, made.sections, dark=dark)
    if suffix == ".svg":
        return drawing.encode("utf-8", "replace")
    if not any(_fonts()):
        raise Unavailable(
            "this machine has no fonts for writing text in a PNG",
            hint="write .svg or .html and open it elsewhere",
        )
    return bytes(resvg_py.svg_to_bytes(svg_string=drawing, zoom=_ZOOM))


def page(title: str, words: str, figures: Sequence[Figure], sections: Sequence[Section]) -> str:
    """Write one HTML file that needs nothing beside itself."""
    return render(
        "plots.html",
        title=title,
        words=words,
        figures=figures,
        sections=[(section.title, section.words, Markup(section.body)) for section in sections],
        style=Markup(STYLE + PAGE_STYLE),
        script=Markup(SCRIPT),
    )


def _fonts() -> Iterator[Path]:
    for name in _FONTS:
        for path in Path(name).expanduser().rglob("*"):
            if path.suffix.lower() in {".ttf", ".otf", ".ttc"}:
                yield path


def _words(attempts: Sequence[ChartedAttempt], series: Sequence[Series], folder: Path) -> str:
    jobs = len({each.job_id for each in attempts})
    told = f"{len(attempts):,} attempts of {jobs:,} jobs"
    return f"{told}, {len(series):,} of them with samples" if series else f"{told}; no samples in {folder}"


def _sections(
    attempts: Sequence[ChartedAttempt], series: Sequence[Series], capacity: Capacity | None
) -> Iterator[Section]:
    yield Section("Timeline", "When attempts ran, and how many at once.", timeline(attempts))
    if series:
        yield Section(
            "Use over the run",
            "All jobs together, compared with the requests of running jobs.",
            totals(series, capacity),
        )
    yield Section(
        "Use over the runtime of jobs", "For each requirement class, compared with the request.", profiles(series)
    )
    yield Section(
        "Use against requests", "The distribution of memory, runtime and CPU use in each class.", spreads(attempts)
    )


def _series(found: Iterator[RecordedSeries], attempts: Sequence[ChartedAttempt], zero: float) -> Iterator[Series]:
    known = {(each.job_id, each.attempt): each for each in attempts}
    for each in found:
        attempt = known.get((each.job_id, each.attempt))
        if attempt is None or not each.points:
            continue
        has_gpus = any(point.gpus_busy is not None for point in each.points)
        yield Series(
            job_id=each.job_id,
            attempt=each.attempt,
            name=each.job_name,
            group=attempt.group,
            start=max(0.0, each.started_at - zero),
            request=each.request,
            times=tuple(point.seconds for point in each.points),
            cpus=tuple(_busy(each.points)),
            memory_bytes=tuple(point.memory_bytes for point in each.points),
            gpus=tuple(point.gpus_busy or 0.0 for point in each.points) if has_gpus else (),
            gpu_memory_bytes=tuple(point.gpu_memory_bytes or 0 for point in each.points) if has_gpus else (),
        )


def _busy(points: Sequence[SeriesPoint]) -> Iterator[float]:
    """Yield the CPUs busy between samples. CPU time ticks a hundred times a second, so intervals below a second are merged."""
    times = [0.0, *(point.seconds for point in points)]
    used = [0.0, *(point.cpu_seconds for point in points)]
    for number in range(1, len(times)):
        before = min(number - 1, max(0, bisect_right(times, times[number] - 1.0) - 1))
        passed = times[number] - times[before]
        yield max(0.0, used[number] - used[before]) / passed if passed > 0 else 0.0


def _capacity(torc: Torc, workflow_id: int, run_id: int) -> Capacity | None:
    """Return the total capacity of a run's nodes, counting the largest runner on each."""
    nodes: dict[str, tuple[int, int]] = {}
    for runner in items_of(torc, ListRunners(workflow_id=workflow_id, limit=_PAGE)):
        if runner.run_id == run_id:
            had = nodes.get(runner.host, (0, 0))
            nodes[runner.host] = max(had[0], runner.capacity.num_cpus), max(had[1], runner.capacity.memory_bytes)
    return _summed(nodes) if nodes else None


def _summed(nodes: Mapping[str, tuple[int, int]]) -> Capacity:
    return Capacity(sum(cpus for cpus, _ in nodes.values()), sum(memory for _, memory in nodes.values()))
