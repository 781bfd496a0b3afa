"""Numbers and times as reports write them."""

from __future__ import annotations

import time

from torc.units import human_bytes, human_duration


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
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 10 else human_duration(int(seconds))
