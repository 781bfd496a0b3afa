"""The Gantt chart of a run, with the number of concurrent jobs below. Many jobs are merged into rows of similar names.

What jobs used is shown by `profiles` and `distributions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torc.reports.charts.records import ChartedAttempt, by_group
from torc.reports.charts.svg import (
    LETTER,
    WIDTH,
    Scale,
    Unit,
    box,
    escaped,
    legend,
    line,
    path,
    rounded_up,
    shortened,
    svg,
    text,
    time_axis,
    value_axis,
)
from torc.units import human_bytes, human_duration
from torc.workflow.graph_export import first_word, numbers_starred

#: more jobs than this are grouped by similar names
MOST_ROWS = 45
_MOST_CLASSES = 7
_ROW, _STRIP, _PANEL = 20, 28, 110
_TOP, _GAP, _RIGHT = 34, 64, 16
_LEAST_LABEL, _MOST_LABEL = 90, 230
STATES = ("completed", "failed", "terminated", "canceled", "running")


def timeline(attempts: Sequence[ChartedAttempt], *, width: int = WIDTH) -> str:
    """Draw when attempts ran. Without attempts, the chart says so."""
    if not attempts:
        return svg(width, 40, [text(width / 2, 24, "nothing has run yet", look="label", anchor="middle")], "timeline")
    rows = _rows(attempts)
    is_single = len({attempt.job_id for attempt in attempts}) <= MOST_ROWS
    titles = [label if is_single else f"{label} ({len(members):,})" for label, members in rows]
    left = min(max(_LEAST_LABEL, 24 + LETTER * max(map(len, titles))), _MOST_LABEL)
    end = max(attempt.end for attempt in attempts) or 1.0
    scale = Scale(0.0, end, left, width - _RIGHT)
    height = _ROW if is_single else _STRIP
    bottom = _TOP + height * len(rows)
    panel = bottom + _GAP
    drawn = [*time_axis(scale, _TOP, bottom, "time since the run started")]
    for number, ((label, members), title) in enumerate(zip(rows, titles, strict=True)):
        top = _TOP + number * height
        inside = _bars(members, scale, top) if is_single else _strip(members, scale, top)
        name = text(left - 8, top + height / 2 + 4, shortened(title, left - 10), look="row", anchor="end")
        drawn.append(f'<g class="item" data-name="{escaped(label)}">{name}{inside}</g>')
    seen = [state for state in STATES if any(attempt.state == state for attempt in attempts)]
    drawn.append(legend(left, 16, [(f"fill {state}", state, False) for state in seen]))
    drawn += _parallelism(attempts, scale, panel)
    return svg(width, panel + _PANEL + 40, drawn, f"timeline of {len(attempts)} attempts")


def running(intervals: Iterable[tuple[float, float]], high: float, bins: int) -> list[float]:
    """Return the average number of open intervals in each of `bins` equal parts of 0 to `high`."""
    changes = sorted(
        [(start, 1) for start, end in intervals if end > start] + [(end, -1) for start, end in intervals if end > start]
    )
    means, at, open_ = [], 0, 0
    for number in range(bins):
        now, until = high * number / bins, high * (number + 1) / bins
        total = 0.0
        while at < len(changes) and changes[at][0] < until:
            moment, change = changes[at]
            total += open_ * (max(moment, now) - now)
            now, open_, at = max(moment, now), open_ + change, at + 1
        means.append((total + open_ * (until - now)) * bins / high)
    return means


def area(
    values: Sequence[float], floor: Sequence[float], scale: Scale, height: Callable[[float], float]
) -> list[tuple[float, float]]:
    """Return the outline of the area between two rows of values, spaced equally over a scale."""
    step = (scale.end - scale.start) / len(values)

    def edge(row: Sequence[float]) -> list[tuple[float, float]]:
        points = []
        for number, value in enumerate(row):
            is_flat = 0 < number < len(row) - 1 and row[number - 1] == value == row[number + 1]
            if not is_flat:
                points.append(
                    (
                        scale.start + step * (number + (0 if number == 0 else 1 if number == len(row) - 1 else 0.5)),
                        height(value),
                    )
                )
        return points

    return [*edge(values), *reversed(edge(floor))]


def told(attempt: ChartedAttempt) -> str:
    """Describe an attempt in one or two lines."""
    request = attempt.request
    cpus = attempt.cpu_seconds / attempt.seconds if attempt.seconds > 0 else 0.0
    again = f", attempt {attempt.attempt}" if attempt.attempt > 1 else ""
    why = f"\n{attempt.why}" if attempt.why else ""
    return (
        f"{attempt.name}{again}: {attempt.state} after {human_duration(attempt.seconds)}{why}\n"
        f"memory {human_bytes(attempt.peak_memory_bytes)} of {human_bytes(request.memory_bytes)}, "
        f"CPU {cpus:.2f} of {request.num_cpus}, {attempt.group}"
    )


def _rows(attempts: Sequence[ChartedAttempt]) -> list[tuple[str, list[ChartedAttempt]]]:
    """Return the content of each row, ordered by first start."""
    rows: dict[str, list[ChartedAttempt]] = {}
    if len({attempt.job_id for attempt in attempts}) <= MOST_ROWS:
        jobs: dict[int, list[ChartedAttempt]] = {}
        for attempt in attempts:
            jobs.setdefault(attempt.job_id, []).append(attempt)
        found = [(members[0].name, members) for members in jobs.values()]
    else:
        for stem in (numbers_starred, first_word):
            rows = {}
            for attempt in attempts:
                rows.setdefault(stem(attempt.name), []).append(attempt)
            if len(rows) <= MOST_ROWS:
                break
        found = sorted(rows.items(), key=lambda row: -len(row[1]))
        rest = [attempt for _, members in found[MOST_ROWS:] for attempt in members]
        found = found[:MOST_ROWS] + ([("others", rest)] if rest else [])
    return sorted(found, key=lambda row: min(attempt.start for attempt in row[1]))


def _bars(members: Sequence[ChartedAttempt], scale: Scale, top: float) -> str:
    drawn = []
    for attempt in sorted(members, key=lambda each: each.start):
        x = scale(attempt.start)
        size = (max(1.5, scale(attempt.end) - x), _ROW - 7)
        drawn.append(box((x, top + 3.5), size, f"fill {attempt.state}", tip=told(attempt), round_=2))
    return "".join(drawn)


def _strip(members: Sequence[ChartedAttempt], scale: Scale, top: float) -> str:
    """Draw how many of a row's jobs ran at each time, by final state."""
    bins = int(scale.end - scale.start)
    rows = [
        (state, running([(a.start, a.end) for a in members if a.state == state], scale.high, bins))
        for state in reversed(STATES)
        if any(a.state == state for a in members)
    ]
    most = max(map(sum, zip(*(row for _, row in rows), strict=True)))
    height = Scale(0, most or 1, top + _STRIP - 3, top + 3)
    floor = [0.0] * bins
    drawn = [line(scale.start, top + _STRIP - 3, scale.end, top + _STRIP - 3, "grid")]
    for state, row in rows:
        above = [low + value for low, value in zip(floor, row, strict=True)]
        counted = [a for a in members if a.state == state]
        longest = max(a.seconds for a in counted)
        tip = f"{len(counted):,} {state}, up to {human_duration(longest)} each; at most {most:,.1f} at once in this row"
        drawn.append(path(area(above, floor, scale, height), f"fill {state}", closed=True, tip=tip))
        floor = above
    return "".join(drawn)


def _parallelism(attempts: Sequence[ChartedAttempt], scale: Scale, top: float) -> list[str]:
    bins = int(scale.end - scale.start)
    groups = list(by_group(attempts).items())
    if len(groups) > _MOST_CLASSES:
        others = [attempt for _, members in groups[_MOST_CLASSES - 1 :] for attempt in members]
        groups = [*groups[: _MOST_CLASSES - 1], ("others", others)]
    rows = [(name, running([(a.start, a.end) for a in members], scale.high, bins)) for name, members in groups]
    most = rounded_up(max(map(sum, zip(*(row for _, row in rows), strict=True))), 4)
    height = Scale(0, most, top + _PANEL, top)
    drawn = [
        *value_axis(height, scale.end, Unit(1, ""), left=scale.start, is_whole=True),
        *time_axis(scale, top, top + _PANEL, "time since the run started"),
        text(scale.start, top - 9, "jobs at once", look="label"),
    ]
    floor = [0.0] * bins
    for number, (name, row) in enumerate(rows):
        above = [low + value for low, value in zip(floor, row, strict=True)]
        tip = f"{name}: {max(row):,.1f} at once at most, {sum(row) / bins:,.1f} on average"
        drawn.append(path(area(above, floor, scale, height), f"fill class{number}", closed=True, tip=tip))
        floor = above
    if len(rows) > 1:
        drawn.append(
            legend(scale.start + 110, top - 9, [(f"fill class{n}", name, False) for n, (name, _) in enumerate(rows)])
        )
    return drawn
