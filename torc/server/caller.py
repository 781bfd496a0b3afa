"""Who calls. The seam between the network and `Request.access`: everything that the server answers, it answers to a `Caller`.

Without accounts, one secret opens the server, and it is in `.torc/server.json`, which its owner alone can read. Behind it stands the
kernel: it tells whose process the other end of a connection belongs to. With accounts, everybody shows a token (`authentication`).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import HTTPConnection

from torc.errors import Forbidden, Unauthorized
from torc.tcp_table import ESTABLISHED, hex_address, tcp_sockets
from torc.workflow.access import Caller

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
LONGEST_SECRET = 4096
_HINT = (
    "torc finds it below the directory of the server; elsewhere, have TORC_TOKEN_FILE name `.torc/server.json` there, "
    "or send `Authorization: Bearer TOKEN`"
)


#: (token, address) -> the job that shows it, if it is one of a job
FindJob = Callable[[str, str], Awaitable[Caller | None]]


class Authenticator(Protocol):
    """Tells who calls."""

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return who is at the other end. Raises Unauthorized, Forbidden, or TooMany when asked too often."""
        ...

    def confirm(self, connection: HTTPConnection) -> None:
        """Check, once the body is read and before anything is done, that nobody else is there now. Raises Forbidden."""
        ...


class OwnerOnLoopback:
    """Answers whoever shows the secret of this server, from a process of the user that it runs as, or of root, on this machine.

    `find_job` tells whether another token is one that a runner has given to its jobs.
    """

    def __init__(self, token: str, find_job: FindJob | None = None) -> None:
        self._owner = os.geteuid()
        self._token = digest_of(token)
        self._find_job = find_job

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return who is at the other end, by the secret and by the kernel's table of connections."""
        caller = self._peer(connection)
        kind, shown = shown_secret(connection)
        if kind != "bearer":
            raise Unauthorized("this server requires its token", hint=_HINT)
        if hmac.compare_digest(digest_of(shown), self._token):
            return caller
        job = await self._find_job(shown, caller.address) if self._find_job else None
        if job is None:
            raise Unauthorized("this token is not a token of this server", hint=_HINT)
        return job

    def confirm(self, connection: HTTPConnection) -> None:
        """Ask the kernel again: the caller may have closed the connection since, and its port be another user's."""
        self._peer(connection)

    def _peer(self, connection: HTTPConnection) -> Caller:
        client, server = connection.scope.get("client"), connection.scope.get("server")
        if not client or not server or not ipaddress.ip_address(client[0]).is_loopback:
            raise Forbidden("this server answers its own machine only", hint="begin it with --auth to let others in")
        # not remembered: the port may be another user's a moment later, and asking takes some 10 us
        uid = owner_of_connection(client, (client[0], server[1]))
        if uid is None:
            raise Forbidden(
                "nobody can tell whose connection this is",
                hint="keep it open until the response arrives; if the kernel does not tell, start the server with --auth",
            )
        if uid not in {self._owner, 0}:
            raise Forbidden(
                "this server belongs to another user of this machine",
                hint="ask for an account there, or begin a server of your own with `torc server start`",
            )
        return Caller(f"user:{user_name(uid)}", client[0])


def shown_secret(connection: HTTPConnection) -> tuple[str, str]:
    """Return what a caller shows: the scheme in lower case ("" where there is nothing), and the secret. Raises Unauthorized."""
    kind, _, shown = connection.headers.get("authorization", "").partition(" ")
    if len(shown) > LONGEST_SECRET:
        raise Unauthorized("this is not a token", hint="tokens are shorter")
    return kind.lower(), shown.strip()


def digest_of(secret: str) -> bytes:
    """Return what may be kept and compared of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def user_name(uid: int) -> str:
    """Return the name of a user of this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner_of_connection(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the user that one end of a TCP connection on this machine belongs to; None: the kernel does not tell.

    An end that nobody holds any more belongs to nobody: the kernel shows such sockets with the uid of root.
    """
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
    uid, inode = struct.unpack_from("=II", answer, 16 + 4 + 48 + 12)
    return int(uid) if answer[16 + 1] == ESTABLISHED and inode else None


def owner_by_table(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Look a connection up in the table of all of them: slower the more there are."""
    here, there = (f"{hex_address(_packed(address))}:{port:04X}" for address, port in (local, remote))
    try:
        for found in tcp_sockets(ipv6=":" in local[0]):
            if found.local == here and found.remote == there:
                return found.uid if found.state == ESTABLISHED and found.inode else None
    except OSError:
        return None
    return None


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address.partition("%")[0])
