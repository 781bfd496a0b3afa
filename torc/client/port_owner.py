"""Who listens on a port of this machine: a token of one's own server must not go to whoever took its port after it died."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError

from torc.urls import LOOPBACK

_LISTEN = 0x0A
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def listener_uids(port: int) -> set[int] | None:
    """Return the users whose processes listen on a TCP port here (proc(5), /proc/net/tcp); None: the kernel does not say."""
    found: set[int] = set()
    is_known = False
    for table in _TABLES:
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        is_known = True
        for line in lines:
            fields = line.split()
            if int(fields[3], 16) == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[7]))
    return found if is_known else None


def is_ours(port: int, uids: Collection[int] | None = None) -> bool:
    """Return whether only the caller and root listen on a port, as far as the kernel says."""
    found = listener_uids(port)
    return found is None or found <= set(uids or (os.geteuid(), 0))


class _OwnConnection(HTTPConnection):
    """A connection to a server of the caller's own: nothing is sent to anybody else's process."""

    def connect(self) -> None:
        """Connect. Raises NewConnectionError where another user listens."""
        self._check()
        super().connect()
        self._check()  # who listens now listened then, or took the port a moment ago: neither gets anything

    def _check(self) -> None:
        if self.host in LOOPBACK and not is_ours(self.port or 80):
            self.close()
            raise NewConnectionError(self, "a process of another user listens on its port")


class OwnConnectionPool(HTTPConnectionPool):
    """Connections to a server of the caller's own."""

    ConnectionCls = _OwnConnection
