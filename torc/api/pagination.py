"""Iterate over paged lists by following their cursors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torc.api.base import Page, Request, Torc

T = TypeVar("T")


def items_of(torc: Torc, request: Request[Page[T]]) -> Iterator[T]:
    """Yield the items of all pages of a list, fetching each page when needed. `limit` of the request is the page size."""
    while True:
        page = torc.send(request)
        yield from page.items
        if page.cursor is None:
            return
        request = request.model_copy(update={"cursor": page.cursor})
