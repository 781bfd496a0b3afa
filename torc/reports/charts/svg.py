"""Building blocks of charts: numbers, text, lines and axes as SVG (https://www.w3.org/TR/SVG11/)."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from torc.units import DAY, HOUR, MINUTE

WIDTH = 960
#: average width of a letter in charts
LETTER = 6.3
_TIME_STEPS = (
    1,
    2,
    5,
    10,
    15,
    30,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """The divisor of an axis's numbers, and its name."""

    size: float
    name: str


def coordinate(value: float) -> str:
    """Format a number as briefly as possible."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def escaped(text: str) -> str:
    """Escape text as the content of an element; control characters, which XML does not allow, are replaced."""
    return html.escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def shortened(text: str, most_pixels: float) -> str:
    """Shorten text in the middle to about the given width."""
    most = max(4, int(most_pixels / LETTER))
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def text(x: float, y: float, content: str, *, look: str = "", anchor: str = "start") -> str:
    """Return text; `anchor` is start, middle or end."""
    kind = f' class="{look}"' if look else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{coordinate(x)}" y="{coordinate(y)}"{kind}{where}>{escaped(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    """Return a straight line."""
    ends = (coordinate(value) for value in (x1, y1, x2, y2))
    return '<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>'.format(*ends, look)


def box(corner: tuple[float, float], size: tuple[float, float], look: str, *, tip: str = "", round_: float = 0) -> str:
    """Return a rectangle, given its upper left corner."""
    x, y, width, height = (coordinate(value) for value in (*corner, *size))
    edge = f' rx="{coordinate(round_)}"' if round_ else ""
    inside = f"><title>{escaped(tip)}</title></rect>" if tip else "/>"
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}"{edge} class="{look}"{inside}'


def path(points: Iterable[tuple[float, float]], look: str, *, closed: bool = False, tip: str = "") -> str:
    """Return a line through points."""
    through = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    inside = f"><title>{escaped(tip)}</title></path>" if tip else "/>"
    return f'<path d="M{through}{"Z" if closed else ""}" class="{look}"{inside}'


def svg(width: float, height: float, parts: Iterable[str], title: str) -> str:
    """Combine parts; `title` is for screen readers."""
    size = f'viewBox="0 0 {coordinate(width)} {coordinate(height)}" width="{coordinate(width)}" height="{coordinate(height)}"'
    inside = "".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{escaped(title)}" {size}>{inside}</svg>'


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels, linearly."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel for a value."""
        return self.start + (value - self.low) / (self.high - self.low or 1.0) * (self.end - self.start)


def steps(high: float, most: int = 5) -> list[float]:
    """Return at most `most` + 1 round values from 0 to `high` or slightly less."""
    if high <= 0:
        return [0.0]
    raw = high / most
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    return [count * step for count in range(int(high / step * 1.0001) + 1)]


def rounded_up(high: float, most: int = 5) -> float:
    """Return the round value at which an axis for values up to `high` ends."""
    found = steps(high, most)
    step = found[1] if len(found) > 1 else high or 1.0
    return ceil(high / step * 0.999) * step


def time_steps(high: float, most: int = 8) -> list[float]:
    """Return times from 0 to `high` seconds at intervals that people would choose."""
    if high < most:
        return steps(high, most)
    step = next(
        (step for step in _TIME_STEPS if step * most >= high), _TIME_STEPS[-1] * ceil(high / _TIME_STEPS[-1] / most)
    )
    return [float(count * step) for count in range(int(high / step) + 1)]


def time_unit(high: float) -> Unit:
    """Return a suitable unit for times up to `high` seconds."""
    for size, name, least in ((DAY, "days", 2 * DAY), (HOUR, "hours", 2 * HOUR), (MINUTE, "minutes", 3 * MINUTE)):
        if high >= least:
            return Unit(size, name)
    return Unit(1, "seconds") if high >= 1 else Unit(0.001, "milliseconds")


def memory_unit(high: float) -> Unit:
    """Return a suitable unit for amounts of memory up to `high` bytes."""
    for exponent, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if high >= 1 << exponent:
            return Unit(1 << exponent, name)
    return Unit(1, "bytes")


def figure(value: float) -> str:
    """Format a number on an axis."""
    if not value % 1:
        return f"{value:,.0f}"
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.01 else f"{value:.2g}"


def time_axis(scale: Scale, top: float, bottom: float, what: str) -> list[str]:
    """Draw the time axis below a plot, with its grid and label."""
    unit = time_unit(scale.high)
    drawn = [line(scale.start, bottom, scale.end, bottom, "axis")]
    for value in time_steps(scale.high):
        x = scale(value)
        drawn += [
            line(x, top, x, bottom, "grid"),
            text(x, bottom + 15, figure(value / unit.size), look="tick", anchor="middle"),
        ]
    drawn.append(
        text((scale.start + scale.end) / 2, bottom + 31, f"{what} ({unit.name})", look="label", anchor="middle")
    )
    return drawn


def value_axis(scale: Scale, right: float, unit: Unit, *, left: float, is_whole: bool = False) -> list[str]:
    """Draw the value axis beside a plot, with its grid. `is_whole`: the values are counts."""
    drawn = []
    for value in steps(scale.high / unit.size, 4):
        if is_whole and value % 1:
            continue
        y = scale(value * unit.size)
        drawn += [line(left, y, right, y, "grid"), text(left - 6, y + 4, figure(value), look="tick", anchor="end")]
    return drawn


def legend(x: float, y: float, entries: Sequence[tuple[str, str, bool]]) -> str:
    """Draw a legend in one row: (class, meaning, whether it is a line)."""
    drawn = []
    for look, meaning, is_line in entries:
        drawn.append(line(x, y - 4, x + 16, y - 4, look) if is_line else box((x, y - 10), (12, 12), look, round_=2))
        drawn.append(text(x + (21 if is_line else 17), y, meaning, look="legend"))
        x += 44 + LETTER * len(meaning)
    return "".join(drawn)
