"""The contract: a request is a value that declares its reply type, and a Torc is anything that answers requests.

HTTP routes, the HTTP client, the OpenAPI document and the authorization table are all derived from the table REQUESTS. No SQL
and no HTTP here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from torc.workflow.access import Access

R = TypeVar("R")
T = TypeVar("T")
Q = TypeVar("Q", bound="Request[Any]")

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

#: largest request bodies in bytes: simple fields; lists of jobs, reports or data; a whole workflow
SMALL, MEDIUM, LARGE = 1 << 20, 16 << 20, 64 << 20


@cache
def _adapter(reply_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(reply_type)


# defer_build: a command uses three of the fifty; building all of them would cost a tenth of a second at each start
MODEL = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Value(BaseModel):
    """The base of everything that replies consist of."""

    model_config = MODEL


class Request(BaseModel, Generic[R]):
    """A query or a command.

    Over HTTP, fields named in `http_path` are sent in the path, the others in the query (GET, DELETE) or as JSON.
    """

    model_config = MODEL
    http_method: ClassVar[Method]
    http_path: ClassVar[str]
    access: ClassVar[Access]
    writes: ClassVar[bool]
    largest_body: ClassVar[int]
    takes_long: ClassVar[bool]
    reply_type: ClassVar[Any]

    @classmethod
    def reply(cls) -> TypeAdapter[Any]:
        """Return the adapter that validates and serializes replies to this kind of request."""
        return _adapter(cls.reply_type)


class Page(BaseModel, Generic[T]):
    """Part of a list. Sending the same request with `cursor`, if present, returns the next part."""

    model_config = MODEL
    items: list[T]
    cursor: str | None = Field(None, description="send it to get the next page; absent on the last page")


REQUESTS: dict[str, type[Request[Any]]] = {}


def request(
    method: Method, path: str, access: Access = "read", largest_body: int = SMALL, *, takes_long: bool = False
) -> Callable[[type[Q]], type[Q]]:
    """Class decorator: register a request in the table. All except GET write.

    `takes_long`: it may take minutes if there are very many jobs.
    """

    def enter(kind: type[Q]) -> type[Q]:
        generic = next(c for c in kind.__mro__ if issubclass(c, Request) and c.__pydantic_generic_metadata__["args"])
        kind.http_method, kind.http_path, kind.access = method, path, access
        kind.writes, kind.largest_body, kind.takes_long = method != "GET", largest_body, takes_long
        kind.reply_type = generic.__pydantic_generic_metadata__["args"][0]
        if kind.__name__ in REQUESTS:
            raise TypeError(f"two requests are called {kind.__name__}")
        REQUESTS[kind.__name__] = kind
        return kind

    return enter


class Torc(Protocol):
    """Anything that answers requests: a database (Embedded) or a server (Remote)."""

    def send(self, request: Request[R], /) -> R:
        """Answer a request. Raises TorcError or a subclass."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...
