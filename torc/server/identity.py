"""Who calls. The seam between the network and `Request.access`: everything that the server answers, it answers to a `Caller`.

Without accounts, only the owner of the server's process is answered, and only over loopback: the kernel tells whose process
the other end of a connection belongs to. With accounts, everybody shows a token (`accounts`).
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import Protocol

from starlette.requests import HTTPConnection

from torc.core.access import Caller
from torc.errors import Forbidden

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1


class Identity(Protocol):
    """Tells who calls."""

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Tell who is at the other end. Raises Unauthorized, Forbidden, or TooMany when asked too often."""
        ...


class OwnerOnLoopback:
    """Answers the user that the server runs as, and root, on the same machine. Nobody else."""

    def __init__(self) -> None:
        self._owner = os.geteuid()

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Tell who is at the other end, by the kernel's table of connections."""
        client, server = connection.scope.get("client"), connection.scope.get("server")
        if not client or not server or not ipaddress.ip_address(client[0]).is_loopback:
            raise Forbidden("this server answers its own machine only", hint="begin it with --auth to let others in")
        # not remembered: the port may be another user's a moment later, and asking takes some 10 us
        uid = owner_of_connection(client, (client[0], server[1]))
        if uid is None:
            raise Forbidden(
                "nobody can tell whose connection this is",
                hint="begin the server with --auth, and sign in with a token",
            )
        if uid not in {self._owner, 0}:
            raise Forbidden(
                "this server belongs to another user of this machine",
                hint="ask for an account there, or begin a server of your own with `torc server start`",
            )
        return Caller(f"user:{user_name(uid)}", client[0])


def user_name(uid: int) -> str:
    """Give the name of a user of this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner_of_connection(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Give the user that one end of a TCP connection on this machine belongs to; None: the kernel does not tell."""
    uid = owner_by_diag(local, remote)
    return owner_by_table(local, remote) if uid is None else uid


def owner_by_diag(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Ask the kernel about one connection (sock_diag(7), inet_diag_req_v2); some kernels are built without that."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    sides = [_packed(side[0]).ljust(16, b"\0") for side in (local, remote)]
    ports = struct.pack("!HH", local[1], remote[1])
    no_cookie = b"\xff" * 8
    kind = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
    asked = kind + ports + sides[0] + sides[1] + bytes(4) + no_cookie
    header = struct.pack("=IHHII", 16 + len(asked), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(1.0)
            kernel.send(header + asked)
            answer = kernel.recv(8192)
    except OSError:
        return None
    if len(answer) < 16 + 72 or struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return None
    # inet_diag_msg: family, state, timer, retrans, id (48 bytes), expires, rqueue, wqueue, uid, inode
    uid: int = struct.unpack_from("=I", answer, 16 + 4 + 48 + 12)[0]
    return uid


def owner_by_table(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Look a connection up in the table of all of them (proc(5), /proc/net/tcp): slower the more there are."""
    wanted = [_as_in_table(side) for side in (local, remote)]
    try:
        lines = Path("/proc/net/tcp6" if ":" in local[0] else "/proc/net/tcp").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            return int(fields[7])
    return None


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address.partition("%")[0])


def _as_in_table(side: tuple[str, int]) -> str:
    """Write an address as the kernel prints it: words of four bytes in the order of the machine."""
    packed = _packed(side[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{side[1]:04X}"
