"""What jobs used while they ran, compared with their requests: for each requirement class, and for all jobs together.

A few jobs are drawn as one line each; for many, the median, the 10th to 90th percentile, and the maximum are drawn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torc.reports.charts.records import Series, by_group
from torc.reports.charts.svg import (
    LETTER,
    WIDTH,
    Scale,
    Unit,
    escaped,
    figure,
    legend,
    line,
    memory_unit,
    path,
    rounded_up,
    shortened,
    svg,
    text,
    time_axis,
    value_axis,
)
from torc.reports.charts.timeline import area
from torc.units import human_bytes
from torc.workflow.resources import DEFAULT_MEMORY_BYTES, Capacity

#: more jobs of a class than this are summarized
MOST_LINES = 24
MOST_CLASSES = 10
_MOST_SUMMED = 1500
_POINTS = 120
_TELLING = 0.02
_PANEL, _LEFT, _BETWEEN, _RIGHT = 130, 60, 66, 16
#: a request that exceeds the use by this factor is stated but not drawn: the line would leave no room for the rest
_FAR = 5.0
_ROOM = 3.0


@dataclass(frozen=True, slots=True)
class _ProfileColumn:
    name: str
    values: Callable[[Series], Sequence[float]]
    asked: Callable[[Series], float]
    unit: Callable[[float], Unit]
    say: Callable[[float], str]


_CPU = _ProfileColumn("CPUs busy", lambda s: s.cpus, lambda s: s.request.num_cpus, lambda _: Unit(1, ""), figure)
_MEMORY = _ProfileColumn("memory", lambda s: s.memory_bytes, lambda s: s.request.memory_bytes, memory_unit, human_bytes)
_GPU = _ProfileColumn("GPUs busy", lambda s: s.gpus, lambda s: s.request.num_gpus, lambda _: Unit(1, ""), figure)
_GPU_MEMORY = _ProfileColumn("GPU memory", lambda s: s.gpu_memory_bytes, lambda _: 0, memory_unit, human_bytes)


def profiles(series: Sequence[Series], *, width: int = WIDTH) -> str:
    """Draw CPU and memory (and GPUs, if any) over the runtime of the jobs in each class."""
    series = [each for each in series if each.times]
    if not series:
        return _nothing(width)
    columns = [_CPU, _MEMORY, *([_GPU, _GPU_MEMORY] if any(each.gpus for each in series) else [])]
    groups = list(by_group(series).items())
    looks = [("stroke asked", "asked for", True)]
    if len(groups[0][1]) > MOST_LINES:
        looks += [
            ("stroke middle", "median", True),
            ("fill band", "10th to 90th percentile", False),
            ("stroke most", "maximum", True),
        ]
    drawn: list[str] = [legend(_LEFT, 16, looks)]
    top = 74.0
    panel_width = (width - _LEFT - _RIGHT - _BETWEEN * (len(columns) - 1)) / len(columns)
    for name, members in groups[:MOST_CLASSES]:
        title = f"{name} ({len(members):,} {'attempt' if len(members) == 1 else 'attempts'})"
        drawn.append(text(8, top - 26, shortened(title, width - 20), look="heading"))
        for number, column in enumerate(columns):
            left = _LEFT + number * (panel_width + _BETWEEN)
            drawn += _panel(members, column, (left, left + panel_width), top)
        top += _PANEL + 92
    if len(groups) > MOST_CLASSES:
        drawn.append(text(8, top - 30, f"and {len(groups) - MOST_CLASSES} smaller classes", look="label"))
    return svg(width, top - 20, drawn, "use of resources over the runtime of jobs")


def totals(series: Sequence[Series], capacity: Capacity | None = None, *, width: int = WIDTH) -> str:
    """Draw what all jobs used together over the run, the requests of running jobs, and the capacity."""
    series = [each for each in series if each.times]
    if not series:
        return _nothing(width)
    end = max(each.start + each.times[-1] for each in series)
    drawn: list[str] = [
        legend(
            _LEFT,
            16,
            [("fill used", "used", False), ("stroke asked", "requested by running jobs", True)]
            + ([("stroke there", "there is", True)] if capacity else []),
        )
    ]
    top = 52.0
    there = (capacity.num_cpus, capacity.memory_bytes) if capacity else (0, 0)
    for column, limit in zip((_CPU, _MEMORY), there, strict=True):
        drawn += _total(series, column, limit, Scale(0, end, _LEFT, width - _RIGHT), top)
        top += _PANEL + 74
    return svg(width, top - 28, drawn, "use of resources over the run")


def _nothing(width: int) -> str:
    words = "no samples: they are recorded if the spec has resource_monitor: {enabled: true, granularity: time_series}"
    return svg(width, 40, [text(width / 2, 24, words, look="label", anchor="middle")], "use of resources")


def _panel(members: Sequence[Series], column: _ProfileColumn, ends: tuple[float, float], top: float) -> list[str]:
    end = max(each.times[-1] for each in members) or 1.0
    scale = Scale(0, end, *ends)
    observed = max((max(column.values(each), default=0.0) for each in members), default=0.0)
    asked = max(column.asked(each) for each in members)
    is_asked = asked > 0 and not (column is _MEMORY and asked <= DEFAULT_MEMORY_BYTES)
    is_near = is_asked and asked <= _FAR * observed
    unit = column.unit(max(observed, asked if is_near else 0.0))
    high = rounded_up(max(observed, asked if is_near else 0.0, 1e-9) / unit.size * 1.04, 4) * unit.size
    height = Scale(0, high, top + _PANEL, top)
    label = f"{column.name} ({unit.name})" if unit.name else column.name
    drawn = [
        *value_axis(height, scale.end, unit, left=scale.start),
        *time_axis(scale, top, top + _PANEL, "time since the job started"),
        text(scale.start, top - 8, label, look="label"),
    ]
    drawn += (_lines if len(members) <= MOST_LINES else _bands)(members, column, scale, height)
    if is_near:
        y = height(asked)
        drawn.append(line(scale.start, y, scale.end, y, "stroke asked"))
    if is_asked:
        words = f"requested {column.say(asked)}{'' if is_near else ' ↑'}"
        drawn.append(text(scale.end, top - 8, words, look="note", anchor="end"))
    return drawn


def _lines(members: Sequence[Series], column: _ProfileColumn, scale: Scale, height: Scale) -> list[str]:
    drawn = []
    for number, each in enumerate(members):
        values = column.values(each)
        if not values:
            continue
        again = f", attempt {each.attempt}" if each.attempt > 1 else ""
        tip = f"{each.name}{again}: {column.name} {column.say(max(values))} at the peak"
        points = [(scale(at), height(value)) for at, value in zip(each.times, values, strict=True)]
        if len(points) == 1:
            points = [(scale(0), points[0][1]), *points]
        look = f"stroke class{number % 8} thin"
        drawn.append(f'<g class="item" data-name="{escaped(each.name)}">{path(points, look, tip=tip)}</g>')
    return drawn


def _bands(members: Sequence[Series], column: _ProfileColumn, scale: Scale, height: Scale) -> list[str]:
    every = -(-len(members) // _MOST_SUMMED)
    highest = max(members, key=lambda each: max(column.values(each), default=0.0))  # the maximum must not miss it
    chosen = [*members[::every], *([highest] if every > 1 else [])]
    low: list[tuple[float, float]] = []
    middle, high, most = list(low), list(low), list(low)
    for number in range(_POINTS):
        at = scale.high * (number + 0.5) / _POINTS
        values = sorted(_value(each.times, column.values(each), at) for each in chosen if each.times[-1] >= at)
        if not values:
            break
        most.append((scale(at), height(values[-1])))
        if len(values) * every < _TELLING * len(members):
            continue  # the last few say nothing about the rest
        last = len(values) - 1
        for row, share in ((low, 0.1), (middle, 0.5), (high, 0.9)):
            row.append((scale(at), height(values[round(last * share)])))
    if len(middle) < 2:
        return []
    return [
        path([*high, *reversed(low)], "fill band", closed=True, tip="10th to 90th percentile"),
        path(most, "stroke most thin", tip="the maximum of all jobs at this time"),
        path(middle, "stroke middle", tip="the median of the jobs that ran this long"),
    ]


def _value(times: Sequence[float], values: Sequence[float], at: float) -> float:
    """Return the value of the sample that covers a moment: the next one, which describes the interval before it."""
    return values[min(bisect_left(times, at), len(values) - 1)] if values else 0.0


def _total(series: Sequence[Series], column: _ProfileColumn, limit: float, scale: Scale, top: float) -> list[str]:
    bins = int(scale.end - scale.start) // 2
    used, asked = [0.0] * bins, [0.0] * bins
    width = scale.high / bins
    for each in series:
        first = int(each.start / width)
        last = min(bins - 1, int((each.start + each.times[-1]) / width))
        values, request = column.values(each), column.asked(each)
        for number in range(max(0, first), last + 1):
            begin, end = max(number * width, each.start), min((number + 1) * width, each.start + each.times[-1])
            share = max(0.0, end - begin) / width
            used[number] += _value(each.times, values, (begin + end) / 2 - each.start) * share
            asked[number] += request * share
    highest = max(*used, *asked)
    is_near = 0 < limit <= _ROOM * highest
    unit = column.unit(max(highest, limit if is_near else 0.0))
    height = Scale(
        0,
        rounded_up(max(highest, limit if is_near else 0.0, 1e-9) / unit.size * 1.04, 4) * unit.size,
        top + _PANEL,
        top,
    )
    label = f"{column.name} ({unit.name})" if unit.name else column.name
    busy = sum(used) / bins
    drawn = [
        *value_axis(height, scale.end, unit, left=scale.start),
        *time_axis(scale, top, top + _PANEL, "time since the run started"),
        text(scale.start, top - 8, label, look="label"),
        path(
            area(used, [0.0] * bins, scale, height),
            "fill used",
            closed=True,
            tip=f"{column.say(busy)} on average, {column.say(max(used))} at most",
        ),
        path(area(asked, [0.0] * bins, scale, height)[:-2], "stroke asked"),
    ]
    words = f"{column.say(busy)} used of {column.say(sum(asked) / bins)} requested on average"
    if limit:
        words += f", available: {column.say(limit)}"
    if is_near:
        drawn.append(line(scale.start, height(limit), scale.end, height(limit), "stroke there"))
    drawn.append(
        text(scale.end, top - 8, shortened(words, scale.end - scale.start - 20 * LETTER), look="note", anchor="end")
    )
    return drawn
