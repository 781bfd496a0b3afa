"""Torc's errors: one class for each case in which a caller would react differently.

    TorcError           something inside Torc broke                    HTTP 500, exit 1
      Invalid           correct the input and try again                HTTP 422, exit 2
      NotFound          refer to something that exists                 HTTP 404, exit 3
      Conflict          the state has changed; check, then decide      HTTP 409, exit 4
      Forbidden         request the permission                         HTTP 403, exit 4
        Unauthorized    sign in                                        HTTP 401, exit 4
      Unavailable       wait and try again; nothing was done           HTTP 503, exit 5
        StoreLost       restore the database: it is gone or damaged    HTTP 503, exit 5

An error has a stable code, a message that says what happened to what, a hint that says what to do, and details for programs. It is
rendered in four places only: the command line, HTTP, MCP and the runner's log.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TorcError(Exception):
    """The base class; raised itself only if Torc, not its caller, is at fault."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class Invalid(TorcError):
    """The request can never succeed as it is. `details["diagnostics"]` lists the problems in a spec."""

    code = "invalid"
    status = 422
    exit_code = 2


class NotFound(TorcError):
    """There is nothing with that id or name."""

    code = "not_found"
    status = 404
    exit_code = 3


class Conflict(TorcError):
    """The stored state does not allow it (any more)."""

    code = "conflict"
    status = 409
    exit_code = 4


class Forbidden(TorcError):
    """The caller may not do this."""

    code = "forbidden"
    status = 403
    exit_code = 4


class Unauthorized(Forbidden):
    """The caller is not authenticated: no token or password, or an invalid one."""

    status = 401


class Unavailable(TorcError):
    """Something that Torc needs did not answer: a locked database, a server, a full disk. Nothing was changed."""

    code = "unavailable"
    status = 503
    exit_code = 5


class StoreLost(Unavailable):
    """The database was deleted, moved, replaced or damaged, and will not come back by itself."""


BY_CODE: dict[str, type[TorcError]] = {
    kind.code: kind for kind in (TorcError, Invalid, NotFound, Conflict, Forbidden, Unavailable)
}
