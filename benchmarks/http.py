"""A client of the benchmarks' own: many connections on one event loop, with as little work a request as can be."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes


@dataclass(frozen=True)
class Address:
    """A server on loopback, and what opens it."""

    port: int
    token: str


class Connection:
    """One kept connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader, self._writer = reader, writer
        self._head = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"

    @classmethod
    async def open(cls, at: Address) -> Connection:
        """Connect to a server on loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", at.port), at.token)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON, give the JSON of the answer. Raises CommandFailed for a status other than 2xx."""
        data = json.dumps(body).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self._writer.write(f"POST /api/v1{path} HTTP/1.1\r\n{self._head}{kind}".encode() + data)
        status, answer = await self.answer()
        if status // 100 != 2:
            raise processes.CommandFailed(f"POST {path}: {status} {answer[:300]!r}")
        return dict(json.loads(answer))

    async def answer(self) -> tuple[int, bytes]:
        """Read one answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        return int(head[9:12]), await self._reader.readexactly(length)

    async def listen(self, path: str) -> None:
        """Ask for a stream, and read the head of the answer."""
        self._writer.write(f"GET /api/v1{path} HTTP/1.1\r\n{self._head}\r\n".encode())
        await self._reader.readuntil(b"\r\n\r\n")

    async def hear(self, what: bytes) -> None:
        """Wait until something comes on the stream."""
        await self._reader.readuntil(what)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@contextmanager
def server(folder: Path, *options: str, database: str | None = None) -> Iterator[tuple[Address, int]]:
    """Run a server for a database in a folder, or for a named one; returns where it is, and its pid."""
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, **({"TORC_DB": database} if database else {})}
    done = subprocess.run(
        [*processes.TORC, "server", "start", "--no-access-log", "-f", "json", *options],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise processes.CommandFailed(done.stderr)
    found = json.loads(done.stdout)
    try:
        token = json.loads(Path(found["token_file"]).read_text(encoding="utf-8"))["token"]
        yield Address(int(found["url"].rpartition(":")[2]), token), int(found["pid"])
    finally:
        subprocess.run([*processes.TORC, "server", "stop"], cwd=folder, capture_output=True, check=False)
