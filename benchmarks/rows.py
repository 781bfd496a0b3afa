"""The rows of the table, and how it is printed. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

HEADINGS = ("measure", "value", "yardstick", "ratio", "target", "met?")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `met` is None where the design sets no target."""

    measure: str
    value: str
    yardstick: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return self.measure, self.value, self.yardstick, ratio, self.target, met

    def to_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return asdict(self)


def table(rows: Iterable[Row]) -> str:
    """Lay the rows out in columns, plain text."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def milliseconds(seconds: float) -> str:
    """Return a time for people, with three digits."""
    return f"{seconds * 1000:.3g} ms" if seconds * 1000 < 1000 else f"{seconds * 1000:,.0f} ms"


def megabytes(size_bytes: float) -> str:
    """Return a size in MiB, as the targets count."""
    return f"{size_bytes / (1 << 20):,.0f} MB"
