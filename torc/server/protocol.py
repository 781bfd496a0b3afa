"""HTTP as uvicorn reads it, for callers that mean no good: a head that comes too slowly, or never ends, closes the connection."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 20.0
_LARGEST_HEAD = 64 << 10
#: who looks for a header looks through all of them
_MOST_HEADERS = 200
#: two of them, and who stands before the server may go by the other one (RFC 9112, 3.2; RFC 9110, 5.3)
_ONCE = frozenset({b"host", b"authorization", b"content-type", b"origin"})


class GuardedProtocol(HttpToolsProtocol):
    """One connection. uvicorn closes those that are idle after an answer; this one also those that have yet to ask."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._limit: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._num_headers = 0
        self._seen: set[bytes] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._have_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Take the first byte of a request."""
        self._head_bytes = 0
        self._num_headers = 0
        self._seen.clear()
        if self._limit is None:
            self._wait_for_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the path."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count(name + value)
        self._num_headers += 1
        if self._num_headers > _MOST_HEADERS:
            raise ValueError("there are too many headers")
        if (lower := name.lower()) in _ONCE:
            if lower in self._seen:
                raise ValueError("a header is given twice that may be given once")
            self._seen.add(lower)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have a whole head."""
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
            raise ValueError("the head is too large")  # the parser makes it an answer of 400
