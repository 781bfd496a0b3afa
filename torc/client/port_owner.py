"""Who listens on an address of this machine: a token must not be sent to a user who took over the port of a dead server."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
from collections.abc import Collection, Sequence
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError

from torc.errors import Invalid
from torc.tcp_table import LISTEN, hex_address, tcp_sockets
from torc.urls import LOOPBACK, split_url

_MAPPED = "0" * 16 + "FFFF0000"  # ::ffff:0:0/96, as the kernel writes it
#: names that resolve to these addresses here, whatever else they may resolve to
_NAMED = {"localhost": ("127.0.0.1", "::1")}


def listener_uids(host: str, port: int) -> set[int] | None:
    """Return the users whose processes take connections to an address here.

    None: unknown. As in the kernel, a socket for exactly that address takes precedence over one for all addresses; listeners on
    the same port of other addresses do not matter.
    """
    found: dict[str, set[int]] = {}
    is_known = False
    for ipv6 in (False, True):
        with contextlib.suppress(OSError):
            for item in tcp_sockets(ipv6=ipv6):
                if item.state == LISTEN and item.port == port:
                    found.setdefault(item.address, set()).add(item.uid)
            is_known = True
    if not is_known:
        return None
    return set[int]().union(*(_first(found, address) for address in _NAMED.get(host, (host,))))


def _first(found: dict[str, set[int]], host: str) -> set[int]:
    for addresses in _listening_for(host):
        users = set[int]().union(*(found.get(address, ()) for address in addresses))
        if users:
            return users
    return set()


def _listening_for(host: str) -> Sequence[tuple[str, ...]]:
    """Return, in order of precedence, the kernel's forms of the addresses of sockets that accept connections to an address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv6Address):
        return (hex_address(address.packed),), ("0" * 32,)
    exact = hex_address(address.packed)
    # a socket of `::` next to one of `0.0.0.0` is for IPv6 only
    return (exact, _MAPPED + exact), ("0" * 8,), (_MAPPED + "0" * 8, "0" * 32)


def server_uid(url: str) -> int | None:
    """Return the user, other than the caller and root, who runs the server at a loopback URL; None if there is none."""
    parts = split_url(url)
    if parts is None or parts.scheme != "http" or parts.hostname not in LOOPBACK:
        return None
    others = (listener_uids(parts.hostname, parts.port or 80) or set()) - {os.geteuid(), 0}
    return others.pop() if len(others) == 1 else None


def uid_of(user: str) -> int:
    """Return the uid of a user of this machine. Raises Invalid."""
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise Invalid(f"server_user: this machine has no user `{user}`", hint="see TORC_SERVER_USER") from None


class ForeignListener(NewConnectionError):
    """A process of another user listens where a server was expected."""


class _CheckedConnection(HTTPConnection):
    """A connection to this machine over which nothing is sent unless the caller, root or one of `users` listens at the other end.

    `is_own`: the server is the caller's own, so addresses of this machine that other machines can reach are checked as well.
    """

    def __init__(self, *arguments: Any, users: Collection[int] = (), is_own: bool = False, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._users, self._is_own = {os.geteuid(), 0, *users}, is_own

    def connect(self) -> None:
        """Connect. Raises ForeignListener."""
        if self.host in LOOPBACK:
            self._check(self.host, self.port or 80, is_connected=False)
        super().connect()
        # whoever listens now also listened then, or has just taken the port: in both cases the check holds
        there, here = self.sock.getpeername(), self.sock.getsockname()
        is_loopback = ipaddress.ip_address(there[0].partition("%")[0]).is_loopback
        if is_loopback or (self._is_own and there[0] == here[0]):
            self._check(there[0], there[1], is_connected=True)

    def _check(self, host: str, port: int, *, is_connected: bool) -> None:
        found = listener_uids(host, port)
        if found is None or (found <= self._users and (found or not is_connected)):
            return
        self.close()
        if found:
            raise ForeignListener(self, "a process of another user listens there")
        raise NewConnectionError(self, "it has just ended")


class CheckedConnectionPool(HTTPConnectionPool):
    """Connections to servers that are sent a token."""

    ConnectionCls = _CheckedConnection
