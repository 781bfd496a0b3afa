"""A Torc that sends requests to a server over HTTP. Which server is decided by `connect`."""

from __future__ import annotations

import base64
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import urllib3
from pydantic import ValidationError
from urllib3.connection import HTTPConnection

from torc import __version__
from torc.api.base import Request
from torc.api.runs import Exchange
from torc.backoff import backoff
from torc.client.port_owner import CheckedConnectionPool, ForeignListener
from torc.errors import BY_CODE, Invalid, TorcError, Unauthorized, Unavailable
from torc.redaction import redact_url
from torc.urls import split_url

R = TypeVar("R")
_LOG = logging.getLogger(__name__)
PREFIX = "/api/v1"
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
#: there is no other way to learn that a large workflow was stored after all
_LONG_READ_SECONDS = 3600.0
#: to notice a dead peer: seconds until the first probe, seconds between probes, number of probes (tcp(7))
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
#: how long a request is retried while the server does not answer
PATIENCE_SECONDS = 3.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_CONNECTIONS = 8
_AWAY = {502, 503, 504, 429}
_VERSION_HEADER = "Torc-Version"
#: statuses of replies without a version: a server reveals it only to known callers
_TELLING_NOTHING = {401, 403, 413, 421, 429, 502, 503, 504}


class MovedServer(NamedTuple):
    """The address of a restarted server. `token` replaces the previous one."""

    url: str
    token: str | None = None
    ca_file: str | None = None


class Remote:
    """Sends each request to a server over pooled connections. Thread-safe.

    `password`: name and password, for signing in (RFC 7617); everything else uses a token. `renew` returns another token when this
    one is no longer valid: somebody may have signed in again, or the server may have restarted. `find_moved` finds a server that
    does not answer: it may have restarted at another address. `token_file` and `server_file` are passed to processes that use
    the same server as TORC_TOKEN_FILE and TORC_SERVER_FILE. On this machine, tokens and passwords are sent only to processes of the
    caller, root and `server_users`; `is_own`: the server is the caller's own.
    """

    def __init__(  # noqa: PLR0913 - all but the first are keyword arguments
        self,
        url: str,
        *,
        token: str | None = None,
        password: tuple[str, str] | None = None,
        renew: Callable[[], str | None] | None = None,
        find_moved: Callable[[str], MovedServer | None] | None = None,
        ca_file: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        token_file: str | None = None,
        server_file: str | None = None,
        is_own: bool = False,
        server_users: Collection[int] = (),
    ) -> None:
        self.url = checked_url(url)
        self._is_own, self._server_users = is_own, server_users
        self.token, self.ca_file, self.token_file, self.server_file = token, ca_file, token_file, server_file
        self.notes: tuple[str, ...] = ()
        self._patience = patience_seconds
        self._headers = {"User-Agent": f"torc/{__version__}", "Accept-Encoding": "gzip"}
        self._renew, self._find_moved = renew, find_moved
        self._moving = threading.Lock()
        if token:
            self._headers["Authorization"] = _bearer(token)
        elif password:
            named = ":".join(password).encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(named).decode()}"
        self._pool = self._new_pool()
        self._has_compared = False

    def with_other(self, *, token: str | None = None, password: tuple[str, str] | None = None) -> Remote:
        """Return a client of the same server with another token or password."""
        return Remote(
            self.url,
            token=token,
            password=password,
            ca_file=self.ca_file,
            is_own=self._is_own,
            server_users=self._server_users,
        )

    def send(self, request: Request[R], /) -> R:
        """Send a request to the server. Raises TorcError or a subclass, as if a local database had answered."""
        kind = type(request)
        base = self.url
        method, url, body = _written(base, request)
        waiting = float(getattr(request, "wait_seconds", 0.0))
        end = time.monotonic() + (0.0 if isinstance(request, Exchange) else self._patience)
        pauses = backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while True:
            try:
                return self._ask(kind, method, url, body, waiting)
            except (Unauthorized, Unavailable) as error:  # another server may answer now
                is_refused = isinstance(error, Unauthorized)
                if is_refused and self._has_renewed():
                    continue
                if not (is_refused or _may_repeat(request)) or not self._has_moved(base):
                    raise
                base = self.url
                method, url, body = _written(base, request)
                continue
            except _Again as again:
                may_repeat = again.was_not_done or _may_repeat(request)
                if again.is_unreachable and self._has_moved(base) and may_repeat:
                    base = self.url
                    method, url, body = _written(base, request)
                    continue
                pause = next(pauses)
                if not may_repeat or time.monotonic() + pause > end:
                    raise again.error from None
                _LOG.info("trying again: %s", again.error.message)
            time.sleep(pause)

    def close(self) -> None:
        """Close connections."""
        self._pool.clear()

    def _has_renewed(self) -> bool:
        """Look for another token; return whether there is one."""
        token = self._renew() if self._renew is not None else None
        if token is None or token == self.token:
            return False
        self.token = token
        self._headers = {**self._headers, "Authorization": _bearer(token)}
        return True

    def _has_moved(self, url: str) -> bool:
        """Look for the server at another address; return whether to use a new one."""
        if self._find_moved is None:
            return False
        with self._moving:
            if self.url != url:  # another thread has found it
                return True
            found = self._find_moved(url)
            if found is None:
                return False
            _LOG.warning("the server of %s was restarted at %s; using that address from now on", url, found.url)
            self.url = checked_url(found.url)
            if found.token is not None:
                self.token = found.token
                self._headers = {**self._headers, "Authorization": _bearer(found.token)}
            self.ca_file = found.ca_file or self.ca_file
            self._pool.clear()
            self._pool = self._new_pool()
            return True

    def _new_pool(self) -> urllib3.PoolManager:
        pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=_CONNECTIONS,
            retries=False,
            socket_options=_socket_options(),
            ssl_context=_tls(self.ca_file) if self.url.startswith("https:") else None,
        )
        checked: Any = partial(CheckedConnectionPool, is_own=self._is_own, users=self._server_users)
        pool.pool_classes_by_scheme = {**pool.pool_classes_by_scheme, "http": checked}
        return pool

    def _ask(self, kind: type[Request[R]], method: str, url: str, body: bytes | None, waiting: float) -> R:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        seconds = _LONG_READ_SECONDS if kind.takes_long else _READ_SECONDS + waiting
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)
        try:
            answer = self._pool.request(method, url, body=body, headers=headers, timeout=timeout, redirect=False)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise _Again(self._unreachable(error), was_not_done=True, is_unreachable=True) from None
        except urllib3.exceptions.SSLError as error:
            raise Unavailable(
                f"cannot establish a secure connection to {self.url}: {error}",
                hint="check its certificate, or set its certificate authority: torc config set ca_file FILE",
            ) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _Again(self._unreachable(error), was_not_done=False, is_unreachable=True) from None
        if answer.status not in _TELLING_NOTHING:
            self._compare(answer.headers.get(_VERSION_HEADER))
        if answer.status >= 400 or answer.status in {301, 302, 303, 307, 308}:
            told = _error(self.url, answer.status, answer.data)
            if answer.status in _AWAY:
                raise _Again(told, was_not_done=answer.status in {503, 429})
            raise told
        try:
            return kind.reply().validate_json(answer.data or b"null")  # type: ignore[no-any-return]
        except ValidationError as error:
            raise Unavailable(
                f"{self.url} returned a response that this version ({__version__}) does not understand: {error.errors()[0]['msg']}",
                hint="check that the URL is that of a Torc server, and that both have the same version",
            ) from None

    def _unreachable(self, error: BaseException) -> Unavailable:
        if isinstance(error, ForeignListener):
            return Unavailable(
                f"a process of another user listens at {self.url}, so the token was not sent",
                hint="check the URL; if you trust this server, sign in (torc login URL), or set the user who "
                "runs it: TORC_SERVER_USER=NAME",
            )
        cause = getattr(error, "reason", None) or error
        while cause.__context__ is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        text = getattr(cause, "strerror", None) or str(cause).rpartition(": ")[2] or type(cause).__name__
        return Unavailable(
            f"the server {self.url} does not answer: {text}",
            hint="check the URL, and that it is running (`torc server status`)",
        )

    def _compare(self, version: str | None) -> None:
        """Warn once if the server has another version."""
        if self._has_compared:
            return
        self._has_compared = True
        if version is None:
            _LOG.warning("%s does not identify itself as a Torc server", self.url)
        elif _release(version) != _release(__version__):
            _LOG.warning("the server has version %s, this is %s: update the older one", version, __version__)


def _may_repeat(request: Request[Any]) -> bool:
    """Return whether a request may be repeated even though it may already have been executed."""
    return not request.writes or request.http_method == "PUT"


class _Again(Exception):
    """Carries an error after which the request may be retried."""

    def __init__(self, error: TorcError, *, was_not_done: bool, is_unreachable: bool = False) -> None:
        super().__init__(error.message)
        self.error, self.was_not_done, self.is_unreachable = error, was_not_done, is_unreachable


def _bearer(token: str) -> str:
    """Return the authorization header for a token. Raises Invalid, without the token, if it contains invalid characters."""
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid(
            "the token for the server contains an invalid character",
            hint="copy it again: TORC_TOKEN, or the file given by TORC_TOKEN_FILE, must contain only the token",
        )
    return f"Bearer {token}"


def checked_url(url: str) -> str:
    """Return a server URL without a trailing path. Raises Invalid."""
    parts = split_url(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise Invalid(
            f"`{redact_url(url)[:200]}` is not a valid server URL",
            hint="write http://HOST:PORT or https://HOST:PORT",
        )
    if parts.username or parts.password:
        raise Invalid("a password in a URL may end up in logs", hint="leave it out and sign in with `torc login`")
    return url.rstrip("/").removesuffix(PREFIX)


def _socket_options() -> list[tuple[int, int, int]]:
    return [
        *HTTPConnection.default_socket_options,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, option, value) for option, value in _KEEP_ALIVE),
    ]


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Invalid(f"cannot read the certificates in {ca_file}: {error}", hint="use a PEM file") from None


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


def _written(base: str, request: Request[Any]) -> tuple[str, str, bytes | None]:
    """Return the method, URL and body of a request."""
    kind = type(request)
    in_path = {part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")}
    path = kind.http_path.format(**{name: getattr(request, name) for name in in_path})
    url = base + PREFIX + path
    if kind.http_method in {"GET", "DELETE"}:
        fields = request.model_dump(mode="json", exclude=in_path, exclude_unset=True, exclude_none=True)
        texts = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in fields.items()}
        return kind.http_method, f"{url}?{urlencode(texts)}" if texts else url, None
    return kind.http_method, url, request.model_dump_json(exclude=in_path, exclude_unset=True).encode()


def _error(base: str, status: int, body: bytes) -> TorcError:
    """Turn a problem document into the error that the server raised."""
    try:
        found = json.loads(body)
        message, code = str(found["detail"]), str(found["code"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(
            f"{base} answered {status}, but not like a Torc server",
            hint="check the URL; there may be a proxy in front of the server",
        )
    hint = found.get("hint") or (f"sign in: torc login {base}" if status == 401 else None)
    details = found.get("details") if isinstance(found.get("details"), dict) else {}
    kind = Unauthorized if status == 401 else BY_CODE.get(code, TorcError)
    return kind(message, hint=hint, **details)
