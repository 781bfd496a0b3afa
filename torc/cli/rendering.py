"""Values as tables for people and JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from torc.cli.session import SESSION
from torc.cli.terminal import print_json, style
from torc.display_text import chopped, display_width, fitted, visible, visible_line
from torc.units import human_bytes, human_duration

Column = tuple[str, Callable[[Any], Any]]
_STATES = {
    "completed": "32",
    "running": "36",
    "pending": "36",
    "ready": "34",
    "failed": "31",
    "terminated": "33",
    "canceled": "35",
    "pending_failed": "31",
    "interrupted": "33",
}
_NARROWEST, _NARROWEST_FOLD = 8, 16


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print_json(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def show_list(
    items: Sequence[Any],
    columns: Sequence[Column],
    *,
    empty: str = "nothing there",
    more: bool = False,
    folds: bool = False,
) -> None:
    """Print a list as a table or as JSON."""
    if SESSION.json:
        show_json(list(items))
        return
    if not items:
        print(empty, file=sys.stderr)
        return
    most = 1000 if folds else 120
    rows = [[text(get(item), most=most) for _, get in columns] for item in items]
    table([name for name, _ in columns], rows, folds=folds)
    if more:
        print("there are more: raise --limit", file=sys.stderr)


def show_one(value: BaseModel, fields: Sequence[Column]) -> None:
    """Print a value, a line a field, or as JSON."""
    if SESSION.json:
        show_json(value)
        return
    width = max(len(name) for name, _ in fields)
    for name, get in fields:
        shown = visible(text(get(value), most=100_000))
        if shown:
            print(f"{name.ljust(width)}  {shown.replace(chr(10), chr(10) + ' ' * (width + 2))}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, folds: bool = False) -> None:
    """Print a table, cut to the width of the terminal; where it `folds`, the last column goes on in further lines instead."""
    rows = [[visible_line(cell) for cell in row] for row in rows]
    widths = [max(display_width(row[at]) for row in [header, *rows]) for at in range(len(header))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns
        if folds:
            widths[-1] = min(widths[-1], max(_NARROWEST_FOLD, room - sum(widths[:-1]) - 2 * (len(widths) - 1)))
        while sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > _NARROWEST:
            widths[widths.index(max(widths))] -= 1
    print("  ".join(bold(fitted(name, width)) for name, width in zip(header, widths, strict=True)).rstrip())
    shown = [part for row in rows for part in _folded(row, widths[-1])] if folds else rows
    for row in shown:
        cells = [colored(_cut(cell, width), cell) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _folded(row: Sequence[str], width: int) -> list[list[str]]:
    lines = textwrap.wrap(row[-1], width) or [""]
    first, *more = [part for line in lines for part in chopped(line, width)]
    return [[*row[:-1], first], *([*[""] * (len(row) - 1), line] for line in more)]


def _cut(cell: str, width: int) -> str:
    """Return a cell in just so many columns."""
    return fitted(cell, width) if display_width(cell) <= width else fitted(cell, width - 1) + "…"


def uses_color() -> bool:
    """Return whether standard output takes colors."""
    return SESSION.color and sys.stdout.isatty()


def bold(shown: str) -> str:
    """Make text bold where that is possible."""
    return style("1", shown) if uses_color() else shown


def colored(shown: str, state: str) -> str:
    """Color text that is a state."""
    code = _STATES.get(state)
    return style(code, shown) if code and uses_color() else shown


def text(value: Any, *, most: int = 120) -> str:
    """Write a value in a cell."""
    if value is None or (isinstance(value, dict | list) and not value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, (dict, list, tuple)):
        value = (
            ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else json.dumps(value, ensure_ascii=False)
        )
    return str(value)[:most]


def when(seconds: float | None) -> str:
    """Write a time: local, to the second."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def plural(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def memory(amount: int | None) -> str:
    """Write an amount of memory."""
    return "" if not amount else human_bytes(amount)


def duration(seconds: float | None) -> str:
    """Write a duration: milliseconds where it is short."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f}s"
    return human_duration(int(seconds))


def attribute(name: str) -> Callable[[Any], Any]:
    """Return what reads an attribute."""
    return lambda item: getattr(item, name)


def columns(*names: str) -> list[Column]:
    """Return columns that show attributes as they are."""
    return [(name, attribute(name)) for name in names]


def all_pages(ask: Callable[[str | None], Any], most: int) -> tuple[list[Any], bool]:
    """Collect pages until there are `most` items; tells whether there is more."""
    items: list[Any] = []
    cursor: str | None = None
    while len(items) < most:
        page = ask(cursor)
        items += page.items
        cursor = page.cursor
        if cursor is None:
            break
    return items[:most], cursor is not None or len(items) > most


def note(message: str) -> None:
    """Say something beside the output."""
    print(message, file=sys.stderr)


def unique(items: Iterable[str]) -> list[str]:
    """Drop repetitions, keep the order."""
    return list(dict.fromkeys(items))
