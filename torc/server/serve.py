"""Runs the application on a socket until a signal stops it; requests in progress are completed first."""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from torc.errors import Invalid, Unavailable
from torc.server.protocol import GuardedProtocol

_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 20
_BACKLOG = 2048
#: interval after which another thread gets the interpreter: with the default of 5 ms, compiling a spec delays all others
_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: port 0 is any free port; certificate and key are PEM files."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: str | None = None
    key: str | None = None


class _UvicornServer(uvicorn.Server):
    """Releases requests that wait for changes when a signal arrives: uvicorn waits for all responses before it stops."""

    def __init__(self, config: uvicorn.Config, application: Starlette, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._application, self._on_ready = application, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to shut down."""
        self._application.state.answers.waiting.close()
        super().handle_exit(sig, frame)


def bind(listen: Listen) -> socket.socket:
    """Bind the port. Raises Unavailable or Invalid."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise Invalid(
            f"cannot find the address {listen.host}: {error.strerror}",
            hint="use an address of this machine with --host",
        ) from None
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise Unavailable(
            f"cannot listen on {listen.host}:{listen.port}: {error.strerror}",
            hint="another program may use the port: choose another one with --port, or 0 for any",
        ) from None
    bound.set_inheritable(False)
    return bound


def url_of(listen: Listen, bound: socket.socket) -> str:
    """Return the URL of the server."""
    host, port = bound.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = socket.getfqdn()
        if host.partition(".")[0] in {"localhost", "localhost6"}:  # some hosts files map every name to these
            host = socket.gethostname()
    scheme = "https" if listen.certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def serve(application: Starlette, bound: socket.socket, listen: Listen, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises Invalid if the certificate cannot be used."""
    made = server(application, listen, on_ready)
    _raise_limit_of_files()
    with _uncaught_signals():
        made.run(sockets=[bound])


def server(application: Starlette, listen: Listen, on_ready: Callable[[], None]) -> uvicorn.Server:
    """Create the uvicorn server: call `run` with a socket. Raises Invalid if the certificate cannot be used."""
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=GuardedProtocol,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
    )
    try:
        config.load()
    except OSError as error:
        raise Invalid(
            f"cannot use the certificate {listen.certificate}: {error}", hint="use PEM files that this user can read"
        ) from None
    return _UvicornServer(config, application, on_ready)


def _raise_limit_of_files() -> None:
    """Raise the limit of open files to the hard limit, for as many connections as possible."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _uncaught_signals() -> Iterator[None]:
    """Ignore the signal that uvicorn raises again after it has stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    old: dict[int, Any] = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def log_access(*, wanted: bool) -> None:
    """Log each request on standard error, as one JSON object per line."""
    logger = logging.getLogger("torc.access")
    logger.propagate = False
    logger.setLevel(logging.INFO if wanted else logging.CRITICAL)
    if wanted and not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
