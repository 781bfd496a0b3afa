"""A document as returned by every reader: plain data, and the position of each part in the text.

Paths are tuples of keys and indexes, as in pydantic. Positions are computed only when there is something to report, which keeps
reading fast.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from torc.spec.diagnostics import Diagnostic, Severity, Span

Path = tuple[str | int, ...]
#: Returns the position of the value at a path, or of its key; None if there is none.
Locate = Callable[[Path, bool], Span | None]

MAX_DEPTH = 64
#: Further problems are only counted: nobody reads them, and each costs a search for its position.
MAX_PROBLEMS = 500
#: Characters of a line that a diagnostic includes around its position.
_MOST_OF_A_LINE = 1000
#: and of a value that is searched for a part of it
_MOST_OF_A_VALUE = 100_000

_BREAK = re.compile(r"\r\n|\r|\n")


class Lines:
    """The lines of a text, computed on first use. A line ends with LF, CR LF or CR."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts: list[int] = []

    def span(self, position: int, width: int = 1) -> Span:
        """Return the span that starts at a position; it ends with its line at the latest."""
        position = max(0, min(position, len(self.text)))
        number = self._number(position)
        start, end = self.limits(number)
        column = min(position, end) - start + 1
        return Span(number, column, max(min(column + width, end - start + 1), column + 1))

    def limits(self, number: int) -> tuple[int, int]:
        """Return the start and end of a line (from 1), without its line ending."""
        starts = self._found()
        start = starts[number - 1]
        end = starts[number] if number < len(starts) else len(self.text)
        while end > start and self.text[end - 1] in "\r\n" and number < len(starts):
            end -= 1
        return start, end

    def _number(self, position: int) -> int:
        return bisect_right(self._found(), position)

    def _found(self) -> list[int]:
        if not self._starts:
            self._starts = [0, *(match.end() for match in _BREAK.finditer(self.text))]
        return self._starts


class Document:
    """Text, data, the mapping between them, and the problems found."""

    def __init__(self, name: str, text: str, data: Any = None, locate: Locate | None = None) -> None:
        self.name, self.text, self.data = name, text, data
        self.lines = Lines(text)
        self.problems: list[Diagnostic] = []
        self.num_problems = 0
        self.failed = False
        self.may_differ = False  # numbers may be written differently from their usual format: 1.10, 0x10
        self._locate: Locate = locate or (lambda path, key: None)
        self._seen: set[tuple[str, str, Path]] = set()

    def span(self, path: Path, *, key: bool = False) -> Span | None:
        """Return the span of a path, or of the nearest enclosing path that exists."""
        while True:
            found = self._locate(path, key)
            if found is not None or not path:
                return found
            path, key = path[:-1], False

    def written(self, path: Path) -> str | None:
        """Return the text of the scalar at a path as written; None if not found."""
        span = self._locate(path, False)
        if span is None:
            return None
        start = self.lines.limits(span.line)[0] + span.column - 1
        return self.text[start : start + span.end_column - span.column]

    def report(
        self,
        code: str,
        message: str,
        path: Path = (),
        *,
        key: bool = False,
        span: Span | None = None,
        suggestion: str | None = None,
        severity: Severity = "error",
    ) -> None:
        """Record a problem, once per place: at a span or at the position of the path."""
        if (code, message, path) in self._seen:
            return
        self.num_problems += 1
        self.failed = self.failed or severity == "error"
        if len(self.problems) >= MAX_PROBLEMS:
            return
        self._seen.add((code, message, path))
        place = span or self.span(path, key=key)
        line, offset = (None, 0) if place is None else self._excerpt(place)
        self.problems.append(
            Diagnostic(code, message, path_text(path), self.name, place, line, suggestion, severity, offset)
        )

    def part(self, path: Path, text: str) -> Span | None:
        """Return the span of a part of the value at a path, or of the whole value if the part is written differently."""
        span = self.span(path)
        if span is None:
            return None
        start = self.lines.limits(span.line)[0] + span.column - 1
        at = self.text.find(text, start, start + _MOST_OF_A_VALUE)
        return span if at < 0 else self.lines.span(at, len(text))

    def _excerpt(self, span: Span) -> tuple[str, int]:
        start, end = self.lines.limits(span.line)
        if end - start <= _MOST_OF_A_LINE:
            return self.text[start:end], 0
        first = max(0, min(span.column - 1 - _MOST_OF_A_LINE // 2, end - start - _MOST_OF_A_LINE))
        return self.text[start + first : start + first + _MOST_OF_A_LINE], first

    def found(self) -> list[Diagnostic]:
        """Return the problems ordered by position, including a note if some were not described."""
        found = sorted(self.problems, key=lambda p: (p.span.line, p.span.column) if p.span else (0, 0))
        if self.num_problems > len(found):
            more = f"{self.num_problems - len(found):,} more problems are not listed"
            severity: Severity = "error" if self.failed else "warning"
            found.append(Diagnostic("more_problems", more, file=self.name, severity=severity))
        return found


def path_text(path: Path) -> str:
    """Format a path: `jobs[3].command`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
