"""The end of a log file as text, and the number of its first line.

Interpreting the text is in `torc.failures.diagnosis`; finding logs is in `torc.reports.log_files`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO

from torc.files import open_log

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileTail:
    """The end of a file. `first_line` is its first line number, if it could be counted; `left_out` is the number of bytes before it."""

    text: str
    first_line: int | None
    left_out: int
    is_binary: bool  # has more NUL bytes than text would


def end_of(path: str | PathLike[str], most_bytes: int, *, most_counted_bytes: int) -> FileTail | None:
    """Return the last lines of a file, without NUL; None if it is unreadable or empty.

    The lines before them are counted if they take at most `most_counted_bytes`.
    """
    try:
        with open_log(path) as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - most_bytes)
            file.seek(start)
            data = file.read(most_bytes)
            cut = (data.find(b"\n") + 1) if start else 0
            left_out = start + cut
            before = _count_lines(file, left_out) if left_out <= most_counted_bytes else None
    except OSError:
        return None
    first = data[:4096]
    text = data[cut:].decode("utf-8", errors="replace").replace("\x00", "")
    if not text.strip():
        return None
    return FileTail(text, None if before is None else before + 1, left_out, first.count(0) > len(first) // 10)


def _count_lines(file: BinaryIO, end: int) -> int:
    """Count the newlines before a position."""
    file.seek(0)
    found = 0
    while end > 0 and (block := file.read(min(end, _BLOCK_BYTES))):
        found += block.count(b"\n")
        end -= len(block)
    return found
