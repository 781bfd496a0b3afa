"""URLs that somebody else wrote: what is not one is told, never raised as a ValueError."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

#: the names of this machine that no other machine can be reached by
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def split_url(text: str) -> SplitResult | None:
    """Return the parts of a URL, or None for text that is not one (brackets left open, a port that is none)."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts
