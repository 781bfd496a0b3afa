"""Complete, verified copies of a SQLite database: for backups, before upgrades, and of one whose file is gone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

BESIDE = ("-wal", "-shm", "-journal")


class Damaged(sqlite3.DatabaseError):
    """What SQLite found wrong in a file that it can read."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def copy(source: Path | sqlite3.Connection, target: Path, work: Callable[[Path], None] | None = None) -> int:
    """Write what is in a database, or what a connection sees of it, to a new file that only the caller can read.

    A read transaction of WAL keeps no writer waiting. The file takes its name only when it is on the disk, SQLite has found
    nothing wrong with it, and `work` has done with it what it has to. Returns the number of workflows. Raises sqlite3.Error,
    OSError (FileExistsError: nothing is overwritten), and what `work` raises.
    """
    if os.path.lexists(target):
        raise FileExistsError(target)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(fresh)) as new:
            if isinstance(source, sqlite3.Connection):
                source.backup(new)
            else:
                with contextlib.closing(opened(source)) as old:
                    old.backup(new)
        workflows = check(fresh)
        if work is not None:
            work(fresh)
        sync(fresh)
        os.link(fresh, target)  # unlike a rename, this never overwrites
        sync(target.parent)
        return workflows
    finally:
        remove(fresh)


def opened(path: Path) -> sqlite3.Connection:
    """Open a database that is there, to read; also one on a disk that cannot be written to. Raises sqlite3.Error."""
    mode = "rw" if os.access(path.parent, os.W_OK) else "ro"
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True)


def check(path: Path) -> int:
    """Have SQLite check a copy, and count its workflows. Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=DELETE")  # one file, to be carried away
        found = db.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise Damaged(found[0][0])
        if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise Damaged("it has rows with dangling references")
        return int(db.execute("SELECT count(*) FROM workflow").fetchone()[0])


def hosts_of_runners(path: Path, now: float) -> list[str]:
    """Return the machines whose runners say that they work with a database. Raises sqlite3.Error."""
    query = "SELECT DISTINCT host FROM runner WHERE is_active AND lease_expires_at > ? ORDER BY host"
    with contextlib.closing(opened(path)) as db:
        return [host for (host,) in db.execute(query, (now,))]


def remove(path: Path) -> None:
    """Remove a database file and SQLite's files next to it."""
    for name in (path.name, *(path.name + end for end in BESIDE)):
        with contextlib.suppress(OSError):
            path.with_name(name).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk. Raises OSError."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
