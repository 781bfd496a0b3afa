"""`.torc/server.json` tells commands below its directory how to reach a running server. Only its owner can read it."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from torc.client.private_files import write_private
from torc.files import read_private
from torc.processes import boot_id, start_ticks
from torc.urls import LOOPBACK, split_url

FILE = "server.json"
#: outlives the server, so that the next one can reuse the port
PORT_FILE = "server.port"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server started for a directory. `process_started`: in clock ticks since boot, which identifies the process with its pid."""

    url: str
    pid: int
    host: str
    process_started: int
    boot_id: str
    version: str
    database: str
    started_at: float
    token: str | None = field(default=None, repr=False)  # grants the rights of its owner
    ca_file: str | None = None

    def is_here(self) -> bool:
        """Return whether it was started on this machine."""
        return self.host == socket.gethostname() and self.boot_id == boot_id()

    def is_alive(self) -> bool:
        """Return whether it may still be running: certain on this machine, otherwise judged by whether its address is reachable."""
        if self.is_here():
            return start_ticks(self.pid) == self.process_started
        return (
            self.host != socket.gethostname()
            and (parts := split_url(self.url)) is not None
            and parts.hostname not in LOOPBACK
        )


def this_process(
    url: str, version: str, database: str, started_at: float, *, ca_file: str | None, token: str | None = None
) -> ServerAddress:
    """Return the address of this process's server."""
    pid = os.getpid()
    started = start_ticks(pid)
    assert started is not None
    return ServerAddress(
        url, pid, socket.gethostname(), started, boot_id(), version, database, started_at, token, ca_file
    )


def write(folder: Path, place: ServerAddress) -> None:
    """Write a server's address, atomically and readable only by its owner. Raises Unavailable."""
    write_private(folder / FILE, json.dumps(asdict(place), indent=1))
    write_private(folder / PORT_FILE, f"{port_of(place)}\n")


def port_of(place: ServerAddress) -> int | None:
    return urlsplit(place.url).port


def last_port(folder: Path) -> int | None:
    """Return the port of a folder's last server, however it ended: runners looking for it still try that port."""
    place = read(folder)
    try:
        text = read_private(folder / PORT_FILE) if place is None else str(port_of(place))
        port = int(text)
    except (OSError, ValueError):
        return None
    return port if 0 < port < 1 << 16 else None


def read(folder: Path) -> ServerAddress | None:
    """Read a server's address; None if there is none, or the file belongs to or is accessible by others."""
    try:
        return parse(read_private(folder / FILE))
    except (OSError, ValueError):
        return None


def secret(folder: Path) -> str:
    """Return the token for a new server: that of the previous one, unless it was stopped.

    Runners and commands that know the token can then continue.
    """
    before = read(folder)
    return (before.token if before is not None else None) or secrets.token_urlsafe(32)


def parse(text: str) -> ServerAddress | None:
    """Parse the file's text; None if it is invalid."""
    try:
        return ServerAddress(**json.loads(text))
    except (ValueError, TypeError):
        return None


def remove(folder: Path, place: ServerAddress) -> None:
    """Remove the file if it still belongs to this server."""
    if read(folder) == place:
        (folder / FILE).unlink(missing_ok=True)
