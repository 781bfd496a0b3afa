"""What similar failures share: the program that a command runs, and a line without the parts that differ between jobs."""

from __future__ import annotations

import re

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*\Z")
_SEGMENTS = re.compile(r"&&|\|\||[;|&\n]")
_INTERPRETERS = {
    "python",
    "bash",
    "sh",
    "zsh",
    "csh",
    "Rscript",
    "R",
    "julia",
    "perl",
    "ruby",
    "node",
    "java",
    "matlab",
    "octave",
}
_LAUNCHERS = {
    "env",
    "exec",
    "time",
    "nice",
    "nohup",
    "srun",
    "mpirun",
    "mpiexec",
    "timeout",
    "sudo",
    "command",
    "stdbuf",
    "xvfb-run",
}
#: commands that only prepare the one that follows
_PREPARES = {
    "cd",
    "export",
    "source",
    ".",
    "module",
    "ml",
    "set",
    "echo",
    "printf",
    "mkdir",
    "ulimit",
    "unset",
    "sleep",
    "date",
    "true",
    ":",
    "for",
    "if",
    "while",
    "do",
    "then",
    "else",
    "until",
    "case",
    "test",
    "[",
    "trap",
    "umask",
    "shopt",
    "touch",
    "done",
    "fi",
    "esac",
    "exit",
    "return",
}
_NORMAL = (
    (re.compile(r"0x[0-9a-fA-F]+"), "<hex>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"(/[\w.@+-]+){2,}/?"), "<path>"),
    (re.compile(r"'[^']{0,200}'|\"[^\"]{0,200}\"|`[^`]{0,200}`"), "'...'"),
    (re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"), "#"),
    (re.compile(r"\s+"), " "),
)


def program_of(command: str) -> str:
    """Return the program that a command runs: an interpreter's script, without its folder."""
    names = [name for segment in _SEGMENTS.split(command) if (name := _program(segment)) is not None]
    return next((name for name in names if name not in _PREPARES), names[0] if names else "")


def _program(segment: str) -> str | None:
    """Return the program of one simple command."""
    interpreter = None
    for word in segment.strip().lstrip("({").split():
        name = word.strip("'\"").rpartition("/")[2]
        plain = re.sub(r"[\d.]+\Z", "", name)
        if word.startswith("#"):
            break
        if interpreter is not None and word in {"-c", "-e"}:
            return f"{interpreter} {word}"
        if not name or _ASSIGNMENT.match(word) or word.startswith("-") or word.isdigit() or name in _LAUNCHERS:
            continue
        if interpreter is None and plain in _INTERPRETERS:
            interpreter = name
            continue
        return name
    return interpreter


def normalised(line: str) -> str:
    """Return a line without the parts that differ between jobs: numbers, paths, quoted text."""
    for pattern, text in _NORMAL:
        line = pattern.sub(text, line)
    return line.strip()[:200]
