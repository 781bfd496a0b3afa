"""Notices that pages of an open SQLite database, or of its log, were overwritten or cut off, without reading all of it.

A process that has what it needs in its cache would learn that only much later. Every few seconds this compares what cannot be
otherwise: the header, the first bytes of the pages in which tables begin, the log with the index of it that all processes share, and
whether somebody has written to a file while SQLite has not. What looks wrong is looked at again before it is called so, for
others may be writing. Files are read by the descriptors that SQLite has open: closing another one would drop its locks (fcntl(2)).
Formats: https://sqlite.org/fileformat2.html and https://sqlite.org/walformat.html.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

LOOK_SECONDS = 2.0
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
#: types of the pages of B-trees
_TYPES = frozenset({2, 5, 10, 13})
_INDEX = struct.Struct("=IIIBBHII8s8s8s")
_INDEX_VERSION = 3007000
_INDEX_BYTES = 2 * _INDEX.size + 4
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_LOG_MAGIC = frozenset({b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"})
_MOST_FRAMES = 500
_TRIES, _PAUSE_SECONDS = 4, 0.005
_LOST_LOG = "has lost part of its log (the file beside it that ends in -wal)"


class LogIndex(NamedTuple):
    """The header of the shared index of the log."""

    change: int
    page_size: int
    num_frames: int
    checksum: bytes  # of the last frame, as the machine writes numbers
    salt: bytes  # as in the log
    num_in_file: int  # frames whose pages are in the database itself

    def needed(self) -> int:
        """Return how long the log must be."""
        return _LOG_HEADER_BYTES + self.num_frames * (_FRAME_HEADER_BYTES + self.page_size)


class DatabasePages:
    """Looks at an open database now and then. `read_all` reads all of it: says what is wrong; None: nothing, or it is too large."""

    def __init__(self, path: Path, read_all: Callable[[], str | None], seconds: float = LOOK_SECONDS) -> None:
        self._path, self._read_all, self._seconds = path, read_all, seconds
        self._next = 0.0
        self._lock = threading.Lock()
        self._fds: dict[str, int] = {}
        self._roots: list[int] | None = None
        self._seen: dict[str, tuple[int, object, bool]] = {}

    def damage(self) -> str | None:
        """Say what is wrong; None: nothing that can be seen, or it is not time to look yet."""
        now = time.monotonic()
        if now < self._next or not self._lock.acquire(blocking=False):
            return None
        try:
            self._next = now + self._seconds
            return self._persistent(self._header_damage) or self._persistent(self._log_damage) or self._inside_damage()
        finally:
            self._lock.release()

    @staticmethod
    def _persistent(look: Callable[[], str | None]) -> str | None:
        found = None
        for at in range(_TRIES):
            found = look()
            if found is None:
                return None
            if at < _TRIES - 1:
                time.sleep(_PAUSE_SECONDS)
        return found

    def _header_damage(self) -> str | None:
        header = self._read("", _HEADER_BYTES, 0)
        return "was overwritten" if header is not None and header[: len(_MAGIC)] != _MAGIC else None

    def _log_damage(self) -> str | None:
        """Compare the log with its index, as far as the log has what the database itself has not."""
        index = self._index()
        if index is None or index.num_frames <= index.num_in_file:
            return None
        size = self._size("-wal")
        header = self._read("-wal", _LOG_HEADER_BYTES, 0)
        last = self._read("-wal", _FRAME_HEADER_BYTES, index.needed() - index.page_size - _FRAME_HEADER_BYTES)
        if size is None or header is None or last is None:
            return None
        is_right = header[:4] in _LOG_MAGIC and header[16:24] == index.salt == last[8:16]
        if size >= index.needed() and is_right and last[16:24] == _swapped(index.checksum) and self._has_salt(index):
            return None
        # What a log holds stays until the log starts over, which gives it another salt: then this compared it with an older index.
        now = self._index()
        if now is None or now.salt != index.salt:
            return None
        return _LOST_LOG if size < index.needed() else f"{_LOST_LOG}: it was overwritten"

    def _has_salt(self, index: LogIndex) -> bool:
        """Return whether frames of the log bear its salt: what was overwritten or cut off stays so though others write on behind it."""
        frame = _FRAME_HEADER_BYTES + index.page_size
        for number in range(0, index.num_frames, max(1, index.num_frames // _MOST_FRAMES)):
            found = self._read("-wal", len(index.salt), _LOG_HEADER_BYTES + number * frame + 8)
            if found is not None and found != index.salt:
                return False
        return True

    def _inside_damage(self) -> str | None:
        index, header = self._index(), self._read("", _HEADER_BYTES, 0)
        if index is None or header is None:  # without a log, others may be in the middle of writing
            return None
        (page_size,) = struct.unpack_from(">H", header, 16)
        page_size = 65536 if page_size == 1 else page_size
        looks_wrong = self._is_written_by_others("", (index.num_in_file, index.salt))
        looks_wrong |= self._is_written_by_others("-wal", (index.change, index.num_frames, index.salt))
        if looks_wrong and (found := self._read_all()) is not None:
            return found
        try:
            wrong = [number for number in self._tables() if self._is_no_table(number, page_size)]
        except sqlite3.Error as error:
            return _damage_of(error)
        if wrong:
            time.sleep(_PAUSE_SECONDS)
        if any(self._is_no_table(number, page_size) for number in wrong):
            if (found := self._read_tables()) is not None:
                return found
            self._roots = [number for number in self._tables() if number not in wrong]  # the log has them
        return None

    def _is_written_by_others(self, end: str, state: object) -> bool:
        """Return whether a file was written while SQLite has written nothing to it: `state` changes whenever it does.

        It does so after it has written, so that is believed when it still is so at the next look.
        """
        try:
            written = os.stat(f"{self._path}{end}").st_mtime_ns
        except OSError:
            return False
        before, state_before, is_suspected = self._seen.get(end, (written, state, False))
        if state != state_before or written == before or is_suspected:
            self._seen[end] = written, state, False
            return state == state_before and written != before
        self._seen[end] = before, state, True
        return False

    def _is_no_table(self, number: int, page_size: int) -> bool:
        page = self._read("", 1, (number - 1) * page_size)
        return page is not None and page[0] not in _TYPES

    def _tables(self) -> list[int]:
        """Return the pages in which tables begin, but for the first of all, which begins with the header. Raises sqlite3.Error."""
        if self._roots is None:
            with contextlib.closing(self._connect()) as db:
                query = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND rootpage > 1"
                self._roots = [row[0] for row in db.execute(query)]
        return self._roots

    def _read_tables(self) -> str | None:
        """Have SQLite read the first page of every table."""
        if (found := self._read_all()) is not None:
            return found
        try:
            with contextlib.closing(self._connect()) as db:
                tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 1").fetchall()
                for (name,) in tables:
                    db.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()
        except sqlite3.Error as error:
            return _damage_of(error)
        self._roots = None  # others may have arranged it anew
        return None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self._path))}?mode=rw", uri=True)

    # -- files --------------------------------------------------------------------------------------------------

    def _index(self) -> LogIndex | None:
        """Return the index of the log; None: there is none, or somebody is writing it."""
        found = self._read("-shm", _INDEX_BYTES, 0)
        if found is None or found[: _INDEX.size] != found[_INDEX.size : 2 * _INDEX.size]:
            return None
        version, _, change, is_made, _, page_size, num_frames, _, checksum, salt, _ = _INDEX.unpack_from(found)
        if version != _INDEX_VERSION or not is_made:
            return None
        (num_in_file,) = struct.unpack_from("=I", found, 2 * _INDEX.size)
        return LogIndex(change, 65536 if page_size == 1 else page_size, num_frames, checksum, salt, num_in_file)

    def _size(self, end: str) -> int | None:
        try:
            return os.stat(f"{self._path}{end}").st_size
        except OSError:
            return None

    def _read(self, end: str, size: int, offset: int) -> bytes | None:
        """Read from a file that SQLite has open; None: it has not, or the file is shorter, unless it is the log."""
        try:
            info = os.stat(f"{self._path}{end}")
        except OSError:
            return None
        name = info.st_dev, info.st_ino
        found = self._read_by(self._fds.get(end, -1), name, size, offset)
        if found is None:
            for fd in _descriptors():
                found = self._read_by(fd, name, size, offset)
                if found is not None:
                    self._fds[end] = fd
                    break
        if found is None or (len(found) < size and end != "-wal"):
            return None
        return found

    @staticmethod
    def _read_by(fd: int, name: tuple[int, int], size: int, offset: int) -> bytes | None:
        if fd < 0:
            return None
        try:
            info = os.fstat(fd)
            return os.pread(fd, size, offset) if (info.st_dev, info.st_ino) == name else None
        except OSError:  # closed meanwhile, or opened for another purpose than reading
            return None


def _damage_of(error: sqlite3.Error) -> str | None:
    code = getattr(error, "sqlite_errorcode", None) or 0
    is_damage = code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return f"is damaged ({error})" if is_damage else None


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return []


def _swapped(numbers: bytes) -> bytes:
    """Return two numbers of this machine as the log has them."""
    return struct.pack(">II", *struct.unpack("=II", numbers))
