"""A whole and checked copy of a live SQLite database, while runners and servers write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from torc.errors import Conflict, Invalid, NotFound, Unavailable
from torc.store.dialect import backup_sqlite


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied: where to, how large, and how many workflows are in it."""

    path: str
    size_bytes: int
    workflows: int


def back_up(database: str, target: Path) -> Backup:
    """Copy a database to a new file that only the caller can read.

    The copy is one state of the database (a read transaction of WAL, which keeps no writer waiting). It appears under its
    name only when it is whole and SQLite finds nothing wrong with it. Raises Invalid, NotFound, Conflict or Unavailable.
    """
    if "://" in database and not database.startswith("sqlite:///"):
        raise Invalid("only SQLite databases are copied so", hint="for PostgreSQL there is pg_dump")
    source = Path(database.removeprefix("sqlite:///"))
    if not source.exists():
        raise NotFound(f"there is no database {source}", hint="name one with --db")
    if target.exists():
        raise Conflict(f"{target} is there already", hint="name another file: a backup overwrites nothing")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        backup_sqlite(source, fresh)
        workflows = _check(fresh)
        with open(fresh, "rb") as file:
            os.fsync(file.fileno())
        os.link(fresh, target)  # unlike a rename, it overwrites nothing
    except FileExistsError:
        raise Conflict(f"{target} is there already", hint="name another file: a backup overwrites nothing") from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(
            f"cannot copy {source} to {target}: {error}", hint="check the disks of both, and the permissions"
        ) from None
    finally:
        for left in (fresh, fresh.with_name(fresh.name + "-wal"), fresh.with_name(fresh.name + "-shm")):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    return Backup(str(target.absolute()), target.stat().st_size, workflows)


def _check(path: Path) -> int:
    """Have SQLite check a copy, and count its workflows. Raises Unavailable or sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=DELETE")  # one file, to be carried away
        found = db.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise Unavailable(
                f"the copy is damaged: {found[0][0]}", hint="the database itself may be: run `torc workflows check`"
            )
        if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise Unavailable(
                "the copy has rows that point nowhere", hint="the database itself has them: run `torc workflows check`"
            )
        return int(db.execute("SELECT count(*) FROM workflow").fetchone()[0])
