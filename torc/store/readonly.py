"""SQLite databases that this user can only read: on a read-only file system, or owned by somebody else.

Nothing is written next to such a file. If a crash left a log (-wal) that cannot be merged there, a copy is read instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from torc.errors import Unavailable


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """How a database is read. `uri` is for SQLite; `why` says why nothing can be written, `note` what its user should know."""

    uri: str
    why: str
    note: str | None = None
    folder: tempfile.TemporaryDirectory[str] | None = None  # of a copy

    def close(self) -> None:
        """Remove the copy."""
        if self.folder is not None:
            self.folder.cleanup()

    def refusal(self, path: Path) -> Unavailable:
        """Return the error for who wants to write."""
        return Unavailable(
            f"the database {path} {self.why}: nothing was changed",
            hint="the database can be read; to change it, make the file and its folder writable, or work on a copy",
        )


def of(path: Path) -> ReadOnly | None:
    """Return the URI for reading a database that cannot be written; None if it is writable. Raises OSError or sqlite3.Error."""
    why = _why(path)
    if why is None:
        return None
    plain = f"file:{quote(str(path))}?mode=ro"
    if _can_be_read(plain):  # with the log, and beside whoever writes it, where there is such a one
        return ReadOnly(plain, why)
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or log.stat().st_size == 0:
        return ReadOnly(f"{plain}&immutable=1", why)
    folder = _copied(path, log)
    uri = f"file:{quote(str(Path(folder.name, path.name)))}?mode=ro&immutable=1"
    return ReadOnly(uri, why, f"{path} was not closed cleanly and {why}: a copy of it is read", folder)


def _why(path: Path) -> str | None:
    """SQLite makes files beside the database: the folder counts, too, unless those are there already."""
    others = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    for needed in (path, *(others if all(other.exists() for other in others) else (path.parent,))):
        if not os.access(needed, os.W_OK, effective_ids=True):
            return "is on a read-only file system" if _is_mounted_read_only(needed) else "is read-only for you"
    return None


def _is_mounted_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _can_be_read(uri: str) -> bool:
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        db.execute("SELECT count(*) FROM sqlite_master")
        return True
    return False


def _copied(path: Path, log: Path) -> tempfile.TemporaryDirectory[str]:
    """Copy a database with its log to a private folder in which the log can be merged."""
    folder = tempfile.TemporaryDirectory(prefix="torc-read-")
    try:
        copy = Path(folder.name, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        with contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode=DELETE")
    except (OSError, sqlite3.Error):
        folder.cleanup()
        raise
    return folder
