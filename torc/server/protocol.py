"""HTTP with protection against malicious clients: a header section that arrives too slowly, or never ends, closes the connection."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 20.0
_LARGEST_HEAD = 64 << 10
#: every header lookup searches all of them
_MOST_HEADERS = 200
#: headers that must not be repeated: a proxy might use the other one (RFC 9112, 3.2; RFC 9110, 5.3)
_ONCE = frozenset({b"host", b"authorization", b"content-type", b"origin"})


class GuardedProtocol(HttpToolsProtocol):
    """A connection. uvicorn closes idle connections after a response; this class also closes those that have not sent a request."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._limit: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._num_headers = 0
        self._seen: set[bytes] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        self._have_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Handle the first byte of a request."""
        self._head_bytes = 0
        self._num_headers = 0
        self._seen.clear()
        if self._limit is None:
            self._wait_for_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Handle a part of the path."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header."""
        self._count(name + value)
        self._num_headers += 1
        if self._num_headers > _MOST_HEADERS:
            raise ValueError("too many headers")
        if (lower := name.lower()) in _ONCE:
            if lower in self._seen:
                raise ValueError("a header that must not be repeated was repeated")
            self._seen.add(lower)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Handle the end of the headers."""
        self._have_head()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        self._limit = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _have_head(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _count(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if self._head_bytes > _LARGEST_HEAD:
            raise ValueError("the headers are too large")  # the parser makes it an answer of 400
