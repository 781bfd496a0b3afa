"""Problems in a document: code, message, position, suggestion; rendered with a caret for people, as a dictionary for programs.

They are not exceptions: problems are collected and reported together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torc.display_text import display_width

Severity = Literal["error", "warning"]
#: applies an SGR code (ECMA-48, 8.3.117) to text
Style = Callable[[str, str], str]


def _plain(code: str, text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Span:
    """A range of text: 1-based line and columns (characters); the end column is exclusive."""

    line: int
    column: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem in a document. `path` has the form `jobs[3].command`.

    `source_line` is the line of the text, or an excerpt of a very long line that starts `source_offset` characters into it.
    """

    code: str
    message: str
    path: str = ""
    file: str = "<spec>"
    span: Span | None = None
    source_line: str | None = None
    suggestion: str | None = None
    severity: Severity = "error"
    source_offset: int = 0

    @property
    def line(self) -> int | None:
        """Return the line, from 1."""
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        """Return the column, from 1, in characters."""
        return self.span.column if self.span else None

    @property
    def end_column(self) -> int | None:
        """Return the column after the last one."""
        return self.span.end_column if self.span else None

    def render(self, style: Style = _plain) -> str:
        """Format the problem for people: position, message, the line with a caret, suggestion. `style` colors parts of it."""
        color = "31" if self.severity == "error" else "33"
        place = self.file if self.span is None else f"{self.file}:{self.span.line}:{self.span.column}"
        where = f" (at {self.path})" if self.path else ""
        lines = [f"{style('1', place)}: {style(color, self.severity)}[{self.code}]: {self.message}{where}"]
        if self.span is not None and self.source_line is not None:
            number = str(self.span.line)
            shown, indent, width = self._excerpt(self.span, self.source_line)
            lines += [f" {number} | {shown}", f" {' ' * len(number)} | {indent}{style(color, '^' * width)}"]
        if self.suggestion:
            lines.append(f"   help: {self.suggestion}")
        return "\n".join(lines)

    def _excerpt(self, span: Span, line: str) -> tuple[str, str, int]:
        """Return the excerpt of the line, the indentation of the caret, and the width of the caret."""
        start = min(span.column - 1 - self.source_offset, len(line))
        cut = 0 if len(line) <= _WIDEST else max(0, min(start - 40, len(line) - _WIDEST))
        shown = "".join(c if c.isprintable() else " " for c in line[cut : cut + _WIDEST])
        before, marked = shown[: start - cut], shown[start - cut : start - cut + span.end_column - span.column]
        return shown, " " * display_width(before), max(1, display_width(marked))

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as a dictionary."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "path": self.path,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "end_column": self.end_column,
            "source_line": self.source_line,
            "source_offset": self.source_offset,
            "suggestion": self.suggestion,
        }


_WIDEST = 140
