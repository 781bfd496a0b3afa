"""The distribution of what jobs used relative to their requests, for each requirement class: memory, runtime, CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torc.reports.charts.records import ChartedAttempt, by_group
from torc.reports.charts.svg import WIDTH, Scale, box, figure, legend, line, path, shortened, svg, text
from torc.reports.charts.timeline import told
from torc.units import human_bytes, human_duration
from torc.workflow.resources import DEFAULT_MEMORY_BYTES

MOST_CLASSES = 16
#: fewer attempts than this are drawn as dots
_MOST_DOTS = 40
_BINS = 60
_ROW, _TOP, _BETWEEN, _RIGHT = 56, 62, 26, 20
_LEAST_HIGH, _MOST_HIGH = 1.2, 2.5


@dataclass(frozen=True, slots=True)
class _SpreadColumn:
    name: str
    used: Callable[[ChartedAttempt], float]
    asked: Callable[[ChartedAttempt], float]
    say: Callable[[float], str]


_COLUMNS = (
    _SpreadColumn("peak memory", lambda a: a.peak_memory_bytes, lambda a: a.request.memory_bytes, human_bytes),
    _SpreadColumn("runtime", lambda a: a.seconds, lambda a: a.request.runtime_seconds, human_duration),
    _SpreadColumn(
        "CPUs busy on average",
        lambda a: a.cpu_seconds / a.seconds if a.seconds > 0 else 0.0,
        lambda a: a.request.num_cpus,
        figure,
    ),
)


def spreads(attempts: Sequence[ChartedAttempt], *, width: int = WIDTH) -> str:
    """Draw the share of the request that attempts used, one row per class, largest first."""
    ended = [attempt for attempt in attempts if attempt.state != "running" and attempt.seconds > 0]
    if not ended:
        return svg(width, 40, [text(width / 2, 24, "nothing has ended yet", look="label", anchor="middle")], "spreads")
    groups = list(by_group(ended).items())
    left = 150.0
    each = (width - left - _RIGHT - _BETWEEN * 2) / 3
    bottom = _TOP + _ROW * len(groups[:MOST_CLASSES])
    drawn = [legend(left, 16, [("stroke asked", "asked for", True), ("stroke middle", "median", True)])]
    for number, column in enumerate(_COLUMNS):
        start = left + number * (each + _BETWEEN)
        scale = Scale(0, _high(ended, column), start, start + each)
        drawn += _frame(scale, bottom, column.name)
        for row, (_, members) in enumerate(groups[:MOST_CLASSES]):
            drawn += _cell(members, column, scale, _TOP + row * _ROW)
    for row, (name, members) in enumerate(groups[:MOST_CLASSES]):
        y = _TOP + row * _ROW + 30
        drawn.append(text(left - 10, y, shortened(name, left - 14), look="row", anchor="end"))
        drawn.append(text(left - 10, y + 15, f"{len(members):,}", look="tick", anchor="end"))
    if len(groups) > MOST_CLASSES:
        drawn.append(text(left, bottom + 46, f"and {len(groups) - MOST_CLASSES} smaller classes", look="label"))
    return svg(width, bottom + 52, drawn, "what jobs used relative to their requests")


def _asks(attempt: ChartedAttempt, column: _SpreadColumn) -> bool:
    return column.asked(attempt) > (DEFAULT_MEMORY_BYTES if column.name == "peak memory" else 0)


def _shares(members: Sequence[ChartedAttempt], column: _SpreadColumn) -> list[float]:
    return [column.used(each) / column.asked(each) for each in members if _asks(each, column)]


def _high(attempts: Sequence[ChartedAttempt], column: _SpreadColumn) -> float:
    return min(_MOST_HIGH, max(_LEAST_HIGH, 1.05 * max(_shares(attempts, column), default=0.0)))


def _frame(scale: Scale, bottom: float, name: str) -> list[str]:
    drawn = [text((scale.start + scale.end) / 2, _TOP - 16, name, look="label", anchor="middle")]
    step = 0.25 if scale.high <= 1.3 else 0.5
    for count in range(int(scale.high / step) + 1):
        x = scale(count * step)
        look = "stroke asked" if count * step == 1.0 else "grid"
        drawn.append(line(x, _TOP - 6, x, bottom, look))
        drawn.append(text(x, bottom + 15, f"{count * step:.0%}", look="tick", anchor="middle"))
    drawn.append(line(scale.start, bottom, scale.end, bottom, "axis"))
    drawn.append(text((scale.start + scale.end) / 2, bottom + 31, "of the request", look="label", anchor="middle"))
    return drawn


def _cell(members: Sequence[ChartedAttempt], column: _SpreadColumn, scale: Scale, top: float) -> list[str]:
    used = sorted(column.used(each) for each in members)
    middle, most = used[(len(used) - 1) // 2], used[-1]
    known = [each for each in members if _asks(each, column)]
    if not known:
        words = f"{column.say(middle)}, at most {column.say(most)}; none requested"
        return [text(scale.start + 4, top + 33, shortened(words, scale.end - scale.start), look="note")]
    asked = max(column.asked(each) for each in known)
    words = f"{column.say(middle)} of {column.say(asked)}, at most {column.say(most)}"
    drawn = [text(scale.start + 4, top + 13, shortened(words, scale.end - scale.start), look="note halo")]
    draw = _dots if len(known) <= _MOST_DOTS else _hill
    drawn += draw(known, column, scale, top)
    x = scale(min(sorted(_shares(known, column))[(len(known) - 1) // 2], scale.high))
    drawn.append(line(x, top + 19, x, top + _ROW - 3, "stroke middle"))
    return drawn


def _dots(members: Sequence[ChartedAttempt], column: _SpreadColumn, scale: Scale, top: float) -> list[str]:
    drawn = []
    for number, each in enumerate(members):
        x = scale(min(column.used(each) / column.asked(each), scale.high))
        y = top + 24 + (number * 7) % 25  # spread out, so that they can be distinguished
        drawn.append(box((x - 3, y - 3), (6, 6), f"dot {each.state}", tip=told(each), round_=3))
    return drawn


def _hill(members: Sequence[ChartedAttempt], column: _SpreadColumn, scale: Scale, top: float) -> list[str]:
    counts = [0] * _BINS
    for share in _shares(members, column):
        counts[min(_BINS - 1, int(share / scale.high * _BINS))] += 1
    height = Scale(0, max(counts), top + _ROW - 3, top + 19)
    step = (scale.end - scale.start) / _BINS
    points = [(scale.start, height(0))]
    for number, count in enumerate(counts):
        points += [(scale.start + number * step, height(count)), (scale.start + (number + 1) * step, height(count))]
    above = sum(share > 1 for share in _shares(members, column))
    tip = f"{len(members):,} attempts, {above:,} of them above the request"
    return [path([*points, (scale.end, height(0))], "fill used", closed=True, tip=tip)]
