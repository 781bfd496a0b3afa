"""A document as every reader gives it: plain data, and where in the text each part of it stands.

Paths are tuples of keys and indexes, as pydantic names places. Positions are looked for only when there is something
to report: reading stays fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torc.spec.diagnostics import Diagnostic, Severity, Span

Path = tuple[str | int, ...]
#: Finds the value at a path, or the key itself when asked for it; None: there is no such place.
Locate = Callable[[Path, bool], Span | None]

MAX_DEPTH = 64
MAX_CHARACTERS = 256 << 20


@dataclass(slots=True)
class Document:
    """Text, data, and the way from the one to the other."""

    name: str
    text: str
    data: Any
    locate: Locate
    problems: list[Diagnostic] = field(default_factory=list)

    def span(self, path: Path, *, key: bool = False) -> Span | None:
        """Give the place of a path, or of the nearest enclosing one that the document has."""
        while True:
            found = self.locate(path, key)
            if found is not None or not path:
                return found
            path, key = path[:-1], False

    def problem(
        self,
        code: str,
        message: str,
        path: Path = (),
        *,
        key: bool = False,
        suggestion: str | None = None,
        severity: Severity = "error",
    ) -> Diagnostic:
        """Make a diagnostic about a place in this document."""
        return at(self.name, self.text, self.span(path, key=key), code, message, path, suggestion, severity)


def at(  # noqa: PLR0913, PLR0917
    name: str,
    text: str,
    span: Span | None,
    code: str,
    message: str,
    path: Path = (),
    suggestion: str | None = None,
    severity: Severity = "error",
) -> Diagnostic:
    """Make a diagnostic about a span of a text."""
    line = None
    if span is not None:
        lines = text.splitlines()
        line = lines[span.line - 1] if span.line <= len(lines) else ""
    return Diagnostic(code, message, path_text(path), name, span, line, suggestion, severity)


def path_text(path: Path) -> str:
    """Write a path for people: `jobs[3].command`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
