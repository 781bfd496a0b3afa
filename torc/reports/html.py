"""Text of others in HTML: without secrets, without escapes, escaped. And numbers and times as reports write them."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence

from torc.redaction import cleaned, redact
from torc.units import human_bytes, human_duration

_LONGEST = 2000


def safe(text: object, limit: int = _LONGEST) -> str:
    """Write any text as content of an element."""
    return html.escape(cleaned(redact(str(text)), limit))


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, look: str = "") -> str:
    """Write a table of cells that are HTML already. A heading that begins with # is one of numbers."""
    heads = "".join(f'<th scope="col"{_number(name)}>{safe(name.removeprefix("#"))}</th>' for name in header)
    numbers = [_number(name) for name in header]
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, numbers, strict=True)) + "</tr>\n"
        for row in rows
    )
    kind = f' class="{look}"' if look else ""
    return (
        f'<div class="wide"><table{kind}><caption>{safe(caption)}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _number(name: str) -> str:
    return ' class="n"' if name.startswith("#") else ""


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Write names and values (HTML); those without a value are left out."""
    return (
        "<dl>"
        + "".join(f"<div><dt>{safe(name)}</dt><dd>{value}</dd></div>" for name, value in items if value)
        + "</dl>"
    )


def folded(title: str, body: str) -> str:
    """Write what can be unfolded; in print it is."""
    return f"<details><summary>{safe(title)}</summary>{body}</details>"


def listing(text: str, limit: int) -> str:
    """Write a text as it stands, its beginning where it is longer than so many characters."""
    shown = cleaned(redact(text))
    more = f"\n[{len(shown) - limit:,} more characters are left out]" if len(shown) > limit else ""
    return f"<pre>{html.escape(shown[:limit])}{more}</pre>"


def pill(state: str) -> str:
    """Write a state: by name and color."""
    return f'<span class="pill {safe(state)}">{safe(state.replace("_", " "))}</span>'


def when(seconds: float | None) -> str:
    """Write a time, in UTC."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def iso(seconds: float) -> str:
    """Write a time as ISO 8601, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def size(amount: float | None) -> str:
    """Write an amount of bytes; nothing for nothing."""
    return human_bytes(int(amount)) if amount else ""


def span(seconds: float | None) -> str:
    """Write a duration."""
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 10 else human_duration(int(seconds))


def code(text: object) -> str:
    """Write a short text in letters of one width."""
    return f"<code>{safe(text)}</code>"
