"""`.torc/server.json`: a running server tells the commands below its directory where it is. Only its owner can read it."""

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
#: outlives the server, so that the next one can be found where this one was
PORT_FILE = "server.port"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server that was begun from a directory. `process_started`: in clock ticks since boot, so that no other process can be meant."""

    url: str
    pid: int
    host: str
    process_started: int
    boot_id: str
    version: str
    database: str
    started_at: float
    token: str | None = field(default=None, repr=False)  # what opens it, as its owner
    ca_file: str | None = None

    def is_here(self) -> bool:
        """Return whether it was begun on this machine."""
        return self.host == socket.gethostname() and self.boot_id == boot_id()

    def is_alive(self) -> bool:
        """Return whether it may run still: surely, on this machine; elsewhere, as far as its address can be reached from here."""
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
    """Describe the server that this process is."""
    pid = os.getpid()
    started = start_ticks(pid)
    assert started is not None
    return ServerAddress(
        url, pid, socket.gethostname(), started, boot_id(), version, database, started_at, token, ca_file
    )


def write(folder: Path, place: ServerAddress) -> None:
    """Tell where a server is, at once and only to its owner. Raises Unavailable."""
    write_private(folder / FILE, json.dumps(asdict(place), indent=1))
    write_private(folder / PORT_FILE, f"{port_of(place)}\n")


def port_of(place: ServerAddress) -> int | None:
    """Return the port in the URL of a server."""
    return urlsplit(place.url).port


def last_port(folder: Path) -> int | None:
    """Return the port of the last server of a folder, however it ended: runners that still look for it ask there."""
    place = read(folder)
    try:
        text = read_private(folder / PORT_FILE) if place is None else str(port_of(place))
        port = int(text)
    except (OSError, ValueError):
        return None
    return port if 0 < port < 1 << 16 else None


def read(folder: Path) -> ServerAddress | None:
    """Read where a server is; None: there is none, or the file is not the caller's own or not for the caller alone."""
    try:
        return parse(read_private(folder / FILE))
    except (OSError, ValueError):
        return None


def secret(folder: Path) -> str:
    """Return what is to open a server that begins in a folder: what opened the one before, where that has not been stopped.

    Runners and commands that knew that one go on then.
    """
    before = read(folder)
    return (before.token if before is not None else None) or secrets.token_urlsafe(32)


def parse(text: str) -> ServerAddress | None:
    """Read the text of such a file; None: it is none."""
    try:
        return ServerAddress(**json.loads(text))
    except (ValueError, TypeError):
        return None


def remove(folder: Path, place: ServerAddress) -> None:
    """Take the file away, if it is still that of this server."""
    if read(folder) == place:
        (folder / FILE).unlink(missing_ok=True)
