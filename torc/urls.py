"""Parsing of URLs from outside, without ValueError for invalid ones."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

#: names of this machine that cannot refer to another machine
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def split_url(text: str) -> SplitResult | None:
    """Return the parts of a URL, or None for an invalid one (unbalanced brackets, invalid port)."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts
