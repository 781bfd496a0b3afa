"""Problems of a spec: what, where, and how to mend it. Rendered for people with a caret, for programs as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text: 1-based line and columns, the end column exclusive."""

    line: int
    column: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem of a document. `path` is like `jobs[3].command`."""

    code: str
    message: str
    path: str = ""
    file: str = "<spec>"
    span: Span | None = None
    source_line: str | None = None
    suggestion: str | None = None
    severity: Severity = "error"

    def render(self, *, color: bool = False) -> str:
        """Give the text for people: place, message, the line with a caret, the suggestion."""
        red, bold, off = (
            ("\x1b[31m" if self.severity == "error" else "\x1b[33m", "\x1b[1m", "\x1b[0m") if color else ("", "", "")
        )
        place = self.file if self.span is None else f"{self.file}:{self.span.line}:{self.span.column}"
        where = f" (at {self.path})" if self.path else ""
        lines = [f"{bold}{place}{off}: {red}{self.severity}{off}[{self.code}]: {self.message}{where}"]
        if self.span is not None and self.source_line is not None:
            number = str(self.span.line)
            shown, caret_at, width = _clip(self.source_line, self.span)
            gutter = " " * len(number)
            lines += [f" {number} | {shown}", f" {gutter} | {' ' * caret_at}{red}{'^' * width}{off}"]
        if self.suggestion:
            lines.append(f"   help: {self.suggestion}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Give the problem for programs."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "path": self.path,
            "file": self.file,
            "line": self.span.line if self.span else None,
            "column": self.span.column if self.span else None,
            "end_column": self.span.end_column if self.span else None,
            "source_line": self.source_line,
            "suggestion": self.suggestion,
        }


_WIDEST = 140


def _clip(line: str, span: Span) -> tuple[str, int, int]:
    """Give what to show of a line, where the caret goes, and how wide it is."""
    start = span.column - 1
    width = max(1, min(span.end_column, len(line) + 1) - span.column)
    cut = 0 if len(line) <= _WIDEST else max(0, min(start - 40, len(line) - _WIDEST))
    shown = "".join(c if c.isprintable() else " " for c in line[cut : cut + _WIDEST])
    return shown, start - cut, min(width, max(1, _WIDEST - (start - cut)))
