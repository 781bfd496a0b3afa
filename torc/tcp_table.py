"""The kernel's table of the TCP sockets of this machine (proc(5), /proc/net/tcp and tcp6)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: include/net/tcp_states.h
ESTABLISHED, LISTEN = 0x01, 0x0A


class TcpSocket(NamedTuple):
    """A line of the table: an end is written as words of four bytes in the order of the machine, a colon, and the port."""

    local: str
    remote: str
    fields: list[str]

    @property
    def address(self) -> str:
        return self.local.partition(":")[0]

    @property
    def port(self) -> int:
        return int(self.local.partition(":")[2], 16)

    @property
    def state(self) -> int:
        return int(self.fields[3], 16)

    @property
    def uid(self) -> int:
        return int(self.fields[7])

    @property
    def inode(self) -> int:
        return int(self.fields[9])


def hex_address(packed: bytes) -> str:
    """Write an address, in the order of the network, as the table does."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def tcp_sockets(*, ipv6: bool) -> Iterator[TcpSocket]:
    """Yield the sockets of one family. Raises OSError where the kernel does not show them."""
    text = Path("/proc/net/tcp6" if ipv6 else "/proc/net/tcp").read_text(encoding="ascii")
    for line in text.splitlines()[1:]:
        fields = line.split()
        yield TcpSocket(fields[1], fields[2], fields)
