"""Makes text written by others safe to show: characters that a terminal would interpret become visible escapes.

For what is shown to a person. Text for reports and assistants, which has no use for such characters, is `cleaned` in
`torc.redaction`. Imports little: each command needs it.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

#: control characters other than tab and newline, characters that change the text direction, and invisible ones. Joiners (U+200C,
#: U+200D) stay: some scripts and emoji need them
INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff"
)
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_IN_A_LINE = re.compile(f"[{INVISIBLE}\t\n]")
_SPACES = {"\t": " ", "\n": " "}


def visible(text: str) -> str:
    """Escape `^[` for ESC, `\\x9b` for CSI, `\\u202e` for a direction override; tabs and newlines stay."""
    return _INVISIBLE.sub(_written, text)


def visible_line(text: str) -> str:
    """Like `visible`, for text on a single line, such as a table cell: tabs and newlines become spaces."""
    return _IN_A_LINE.sub(lambda match: _SPACES.get(match[0]) or _written(match), text)


def display_width(text: str) -> int:
    """Count the columns that text takes in a terminal: wide characters take two, combining ones none."""
    return len(text) if text.isascii() else int(_cells().cell_len(text))


def fitted(text: str, width: int) -> str:
    """Cut text to so many columns, or fill it up with spaces."""
    return text[:width].ljust(width) if text.isascii() else str(_cells().set_cell_size(text, width))


def chopped(text: str, width: int) -> list[str]:
    """Cut text into lines of so many columns at most."""
    if text.isascii():
        return [text[at : at + width] for at in range(0, len(text), width)] or [""]
    return list(_cells().chop_cells(text, width)) or [""]


def _cells() -> Any:
    return import_module("rich.cells")  # few texts are wide


def escaped_json(text: str) -> str:
    """Escape such characters in JSON, where they can occur only within strings."""
    return _INVISIBLE.sub(lambda match: _json_escape(ord(match[0])), text)


def _written(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number < 0x20 or number == 0x7F:
        return f"^{chr(number ^ 0x40)}"
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, as `surrogateescape` reads it
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escape(number: int) -> str:
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
