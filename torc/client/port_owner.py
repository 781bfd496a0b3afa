"""Who listens on an address of this machine: a token must not go to whoever took the port of a server that died."""

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
#: names that resolve to these here, whatever else they may resolve to
_NAMED = {"localhost": ("127.0.0.1", "::1")}


def listener_uids(host: str, port: int) -> set[int] | None:
    """Return the users whose processes take connections to an address here.

    None: the kernel does not say. As in the kernel, a socket of just that address is asked before one of all addresses: who
    listens on the same port of another address gets nothing.
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
    """Return the addresses, as the kernel writes them, of sockets that take connections to one; those asked first come first."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv6Address):
        return (hex_address(address.packed),), ("0" * 32,)
    exact = hex_address(address.packed)
    # a socket of `::` beside one of `0.0.0.0` is for IPv6 alone
    return (exact, _MAPPED + exact), ("0" * 8,), (_MAPPED + "0" * 8, "0" * 32)


def server_uid(url: str) -> int | None:
    """Return the user, other than the caller and root, whose server a loopback URL leads to; None: nobody else's."""
    parts = split_url(url)
    if parts is None or parts.scheme != "http" or parts.hostname not in LOOPBACK:
        return None
    others = (listener_uids(parts.hostname, parts.port or 80) or set()) - {os.geteuid(), 0}
    return others.pop() if len(others) == 1 else None


def uid_of(user: str) -> int:
    """Return the number of a user of this machine. Raises Invalid."""
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise Invalid(f"server_user: this machine has no user `{user}`", hint="see TORC_SERVER_USER") from None


class ForeignListener(NewConnectionError):
    """A process of another user listens where a server was expected."""


class _CheckedConnection(HTTPConnection):
    """A connection to this machine that nothing is sent over unless the caller, root or one of `users` listens at its end.

    `is_own`: it is to a server of the caller's own, and checked at addresses of this machine that others can reach, too.
    """

    def __init__(self, *arguments: Any, users: Collection[int] = (), is_own: bool = False, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._users, self._is_own = {os.geteuid(), 0, *users}, is_own

    def connect(self) -> None:
        """Connect. Raises ForeignListener."""
        if self.host in LOOPBACK:
            self._check(self.host, self.port or 80, is_connected=False)
        super().connect()
        # who listens now listened then, or took the port a moment ago: neither gets anything
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
    """Connections to servers that are to be shown a token."""

    ConnectionCls = _CheckedConnection
