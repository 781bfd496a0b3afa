"""Machines in OpenSSH's notation: `[user@]host[:port]`. Whether they exist is not checked here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_PORT = re.compile(r"[0-9]{1,5}")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True, slots=True)
class Destination:
    """A machine and a user name. `host` may be an alias in the caller's `ssh_config`; no part looks like an option."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        """Return the notation used by people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"{user}{host}" + ("" if self.port is None else f":{self.port}")


def parse_destination(text: str) -> Destination:
    """Parse `[user@]host[:port]`, with an IPv6 address in brackets. Raises ValueError with the reason."""
    user, at, place = text.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise ValueError(
            f"`{user[:100]}` is not a valid user name: use letters, digits and . _ + -, not starting with `-`"
        )
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"`{text[:100]}`: write an IPv6 address as [ADDRESS] or [ADDRESS]:PORT")
        _check_ipv6(host)
        colon, port = rest[:1], rest[1:]
    else:
        if place.count(":") > 1:
            raise ValueError(f"`{text[:100]}`: write an IPv6 address in brackets, [ADDRESS]:PORT")
        host, colon, port = place.partition(":")
        if not _HOST.fullmatch(host):
            raise ValueError(
                f"`{host[:100]}` is not a valid host: use letters, digits and . _ -, not starting with `-`"
            )
    return Destination(host, user if at else None, _port(port) if colon else None)


def _check_ipv6(host: str) -> None:
    address, percent, zone = host.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError(f"`{host[:100]}` is not an IPv6 address") from None
    if percent and not _ZONE.fullmatch(zone):
        raise ValueError(f"`{zone[:100]}` is not a network interface")


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 0 < int(text) < 65536:
        raise ValueError(f"`{text[:100]}` is not a port: use a number from 1 to 65535")
    return int(text)
