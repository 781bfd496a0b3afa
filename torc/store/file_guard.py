"""Detects that a SQLite database was deleted, moved, replaced or truncated while it is open.

SQLite itself goes on with what it has open: commits succeed and nobody will ever see them. Two calls of stat(2) after each
transaction tell, and every few seconds a look at what is in the files (`file_pages`). Other damage SQLite says itself (`damage`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError

from torc.errors import StoreLost
from torc.store.file_pages import DatabasePages
from torc.store.sqlite_copy import BESIDE, Damaged, copy

#: the header of a database file
_HEADER_BYTES = 100
_RESCUED = "rescued"
#: what is read whole when a run ends: some 0.5 s
_MOST_BYTES_READ = 64 << 20
#: primary result codes (https://sqlite.org/rescode.html)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SHORT_READ = sqlite3.SQLITE_IOERR | (2 << 8)


class FileGuard:
    """Knows which file is open. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wal = f"{path}-wal"
        # O_PATH: closing another kind of descriptor would drop SQLite's locks on the file (fcntl(2))
        self._fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        info = os.fstat(self._fd)
        self._id = info.st_dev, info.st_ino
        self._size = info.st_size
        self._wal_id: tuple[int, int] | None = None
        self._pages = DatabasePages(path, self._damage_inside)
        self.lost: StoreLost | None = None  # once it was noticed, that is final
        self.rescued: Path | None = None

    def what_is_wrong(self) -> str | None:
        """Return what happened to the file; None if it is still there."""
        try:
            info = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return self._gone()
        except OSError:  # a file system that is away, which SQLite says
            return None
        if (info.st_dev, info.st_ino) != self._id:
            return "was replaced by another file"
        if info.st_size < _HEADER_BYTES:
            return "was emptied"
        if info.st_size < self._size and damaged_inside(self.path) is not None:  # VACUUM makes it smaller too
            return "was cut off"
        self._size = info.st_size
        try:
            info = os.stat(self._wal)
            wal_id = info.st_dev, info.st_ino
        except OSError:
            wal_id = None
        if wal_id != self._wal_id:
            if _has_deleted(self._wal):
                return "has lost its log (the file beside it that ends in -wal)"
            self._wal_id = wal_id
        return self._pages.damage()

    def _damage_inside(self) -> str | None:
        error = damaged_inside(self.path)
        return None if error is None else damage(error)

    def is_other(self) -> bool:
        """Return whether the path now refers to another file than the open one."""
        with contextlib.suppress(OSError):
            info = os.stat(self.path)
            return (info.st_dev, info.st_ino) != self._id
        return True

    def _gone(self) -> str:
        if os.fstat(self._fd).st_nlink == 0:
            return "was deleted"
        with contextlib.suppress(OSError):
            return f"was moved to {os.readlink(f'/proc/self/fd/{self._fd}')}"
        return "was moved"

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _has_deleted(path: str) -> bool:
    """Return whether this process has a file open that was deleted: it may have been made anew in order, by whoever closed it last."""
    deleted = f"{path} (deleted)"
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == deleted:
                return True
    return False


def damage(error: BaseException) -> str | None:
    """Say what SQLite found damaged in a file; None: the error is of another kind."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if not isinstance(cause, sqlite3.Error) or code is None:
        return None
    if code & 0xFF in _DAMAGED or code == _SHORT_READ:
        return f"is damaged ({cause})"
    if str(cause).startswith("no such table"):
        return f"is not whole ({cause})"
    return None


def damaged_inside(path: Path) -> sqlite3.Error | None:
    """Read a whole database as another process would, and return what is wrong in it. A large one takes too long: None."""
    try:
        if path.stat().st_size > _MOST_BYTES_READ:
            return None
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as db:
            found = db.execute("PRAGMA quick_check(1)").fetchall()
    except OSError:
        return None
    except sqlite3.Error as error:
        return error if damage(error) is not None else None
    return None if found == [("ok",)] else Damaged(found[0][0])


def rescue(raw: Any, path: Path) -> Path | None:
    """Save what a connection still sees of a database whose file is gone. None: it is damaged as well, or nothing can be written."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    for folder in (path.parent, path.parent.parent):
        target = folder / f"{path.name}.{_RESCUED}-{stamp}"
        with contextlib.suppress(OSError, sqlite3.Error):
            copy(raw, target)
            return target
    return None


def copies(path: Path) -> Iterator[Path]:
    """Return backups and other copies next to a database, newest first."""
    places = (path.parent / "backups", path.parent, path.parent.parent)
    found: list[tuple[float, Path]] = []
    for folder in places:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                is_copy = entry.name.startswith(
                    (f"{path.name}.{_RESCUED}-", f"{path.name}.backup-", f"{path.name}.before-")
                )
                if is_copy and not entry.name.endswith(BESIDE) and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat().st_mtime, Path(entry.path)))
    yield from (each for _, each in sorted(found, reverse=True))


def what_to_do(path: Path, rescued: Path | None = None) -> str:
    """Say how to continue after a database was lost or damaged."""
    if rescued is not None:
        return f"all that was stored is saved in {rescued}: torc server restore {rescued}"
    last = next(copies(path), None)
    if last is None:
        return "there is no backup beside it; restore one from elsewhere: torc server restore FILE"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.stat().st_mtime))
    return f"restore the last backup, of {when}: torc server restore {last}"
