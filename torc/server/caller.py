"""Identifies callers. It connects the network with `Request.access`: the server answers every request on behalf of a `Caller`.

Without accounts, the server has one secret, in `.torc/server.json`, which only its owner can read. In addition, the kernel
reports which user's process is at the other end of a connection. With accounts, all callers send a token (`authentication`).
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
    "torc finds it below the server's directory; elsewhere, set TORC_TOKEN_FILE to its `.torc/server.json`, "
    "or send `Authorization: Bearer TOKEN`"
)


#: (token, address) -> the calling job, if the token belongs to one
FindJob = Callable[[str, str], Awaitable[Caller | None]]


class Authenticator(Protocol):
    """Identifies callers."""

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return the caller. Raises Unauthorized, Forbidden, or TooMany after too many attempts."""
        ...

    def confirm(self, connection: HTTPConnection) -> None:
        """Check, after the body is read and before anything is done, that the caller is still the same. Raises Forbidden."""
        ...


class OwnerOnLoopback:
    """Accepts callers with the server's secret, from processes of its own user or of root on this machine.

    `find_job` identifies tokens that runners have given to their jobs.
    """

    def __init__(self, token: str, find_job: FindJob | None = None) -> None:
        self._owner = os.geteuid()
        self._token = digest_of(token)
        self._find_job = find_job

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return the caller, identified by the secret and the kernel's table of connections."""
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
        """Ask the kernel again: the caller may have closed the connection, and another user may have its port now."""
        self._peer(connection)

    def _peer(self, connection: HTTPConnection) -> Caller:
        client, server = connection.scope.get("client"), connection.scope.get("server")
        if not client or not server or not ipaddress.ip_address(client[0]).is_loopback:
            raise Forbidden(
                "this server only accepts connections from its own machine",
                hint="start it with --auth to let others in",
            )
        # not cached: the port may be another user's a moment later, and asking takes only some 10 us
        uid = owner_of_connection(client, (client[0], server[1]))
        if uid is None:
            raise Forbidden(
                "cannot determine whose connection this is",
                hint="keep it open until the response arrives; if it happens again, start the server with --auth",
            )
        if uid not in {self._owner, 0}:
            raise Forbidden(
                "this server belongs to another user of this machine",
                hint="ask for an account there, or start a server of your own with `torc server start`",
            )
        return Caller(f"user:{user_name(uid)}", client[0])


def shown_secret(connection: HTTPConnection) -> tuple[str, str]:
    """Return the credentials of a request: the scheme in lower case (empty without any) and the secret. Raises Unauthorized."""
    kind, _, shown = connection.headers.get("authorization", "").partition(" ")
    if len(shown) > LONGEST_SECRET:
        raise Unauthorized("this is not a token", hint="tokens are shorter")
    return kind.lower(), shown.strip()


def digest_of(secret: str) -> bytes:
    """Return a digest of a secret that is safe to store and compare."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def user_name(uid: int) -> str:
    """Return the name of a user of this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner_of_connection(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the user who owns one end of a TCP connection on this machine; None if unknown.

    A closed end has no owner: the kernel lists such sockets with the uid of root.
    """
    uid = owner_by_diag(local, remote)
    return owner_by_table(local, remote) if uid is None else uid


def owner_by_diag(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Ask the kernel about one connection (sock_diag(7), inet_diag_req_v2), which some kernels do not support."""
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
