"""Real servers on loopback, on a thread of the test's own process, and clients that speak to them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection

from torc.client.remote import Remote
from torc.server import serve
from torc.server.app import app
from torc.server.caller import Authenticator
from torc.store.engine import Store
from torc.workflow.access import Caller


class Tester:
    """Takes every caller for the user `tester`, as the tests' own Torc does."""

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Say so."""
        return Caller("user:tester", "127.0.0.1")

    def confirm(self, connection: HTTPConnection) -> None:
        """Say so again."""


@dataclass
class Serving:
    """A server that answers."""

    url: str
    stop: Callable[[], None]


class Door(Remote):
    """A client and its server; `store` is what the server answers from, for tests that look at rows."""

    def __init__(self, store: Store, identity: Authenticator | None = None, **settings: Any) -> None:
        self.serving = start(store, identity or Tester(), **settings)
        self.store = store
        super().__init__(self.serving.url)

    def close(self) -> None:
        """End both."""
        super().close()
        self.serving.stop()


def start(store: Store, identity: Authenticator, bound: socket.socket | None = None, **settings: Any) -> Serving:
    """Begin a server on a free port, or on a socket that listens already, and wait until it answers."""
    listen = serve.Listen()
    bound = bound or serve.bind(listen)
    application = app(store, identity, **settings)
    ready = threading.Event()
    server = serve.server(application, listen, ready.set)
    failure: list[BaseException] = []

    def work(sockets: list[socket.socket]) -> None:
        try:
            server.run(sockets=sockets)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, args=([bound],), daemon=True)
    thread.start()
    assert ready.wait(30), "the server does not begin"
    assert not failure, failure

    def stop() -> None:
        server.handle_exit(15, None)
        thread.join(30)
        bound.close()
        assert not thread.is_alive(), "the server does not end"

    return Serving(serve.url_of(listen, bound), stop)
