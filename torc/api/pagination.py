"""Lists that come in pages, as one: what follows their cursors. Not for showing a page to somebody who asks for the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torc.api.base import Page, Request, Torc

T = TypeVar("T")


def items_of(torc: Torc, request: Request[Page[T]]) -> Iterator[T]:
    """Yield the items of all pages of a list, each page asked for when it is needed. `limit` of the request: of a page."""
    while True:
        page = torc.send(request)
        yield from page.items
        if page.cursor is None:
            return
        request = request.model_copy(update={"cursor": page.cursor})
