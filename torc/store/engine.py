"""From a path or a URL to an open store: an engine set up for its database, with tables that are up to date."""

from __future__ import annotations

import ctypes
import os
import re
import sqlite3
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from torc.errors import Invalid, NotFound, StoreLost, Unavailable
from torc.store import readonly, schema_version
from torc.store.dialect import Dialect, Postgres, Sqlite
from torc.store.file_guard import FileGuard, copies, damage, what_to_do
from torc.store.readonly import ReadOnly
from torc.urls import split_url

#: magic numbers of file systems on which SQLite's WAL is unsafe (statfs(2), linux/magic.h)
_NETWORK = {
    0x6969: "NFS",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x00C36400: "Ceph",
    0xAAD7AAEA: "PanFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x01021997: "9p",
}
BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Store:
    """An open database. `notes` are to be shown to the user once."""

    engine: Engine
    dialect: Dialect
    path: Path | None
    notes: tuple[str, ...] = ()
    read_only: ReadOnly | None = None

    def refuse_to_write(self) -> None:
        """Raise Unavailable if nothing can be written."""
        if self.read_only is not None and self.path is not None:
            raise self.read_only.refusal(self.path)

    def look_inside(self) -> None:
        """Look for damage in a SQLite database, as far as that takes no time to speak of. Raises StoreLost."""
        if isinstance(self.dialect, Sqlite):
            self.dialect.look_inside(self.engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if self.read_only is not None:
            self.read_only.close()
        if isinstance(self.dialect, Sqlite) and self.dialect.guard is not None:
            self.dialect.guard.close()


_ALMOST_URL = re.compile(r"\s*postgres(ql)?(\+\w+)?:", re.IGNORECASE)


def open_store(where: str | Path, *, create: bool = True) -> Store:
    """Open a SQLite file, or a `postgresql+psycopg://` URL. Raises Invalid, NotFound or Unavailable."""
    text = str(where)
    if "://" in text and not text.startswith("sqlite:///"):
        return _open_postgres(text)
    if _ALMOST_URL.match(text) and not Path(text).exists():  # it may hold a password, and is no file of anybody's
        raise Invalid("this URL of a database has no `//`", hint="write postgresql+psycopg://USER@HOST:PORT/DATABASE")
    return _open_sqlite(Path(text.removeprefix("sqlite:///")).absolute(), create)


def _open_postgres(url: str) -> Store:
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    if not url.startswith("postgresql+psycopg://"):
        raise Invalid(
            f"cannot open a database of kind `{url.split('://', 1)[0]}`",
            hint="name a SQLite file, or a URL postgresql+psycopg://user@host/database",
        )
    parts = split_url(url)
    if parts is None or parts.netloc.count("@") > 1:
        raise Invalid(
            "the URL of the database is not valid",  # it may hold a password
            hint="write postgresql+psycopg://USER@HOST:PORT/DATABASE; put an IPv6 address in brackets; in a password, write "
            "%40 for @, %2F for /, %3A for :, %3F for ?, %23 for #",
        )
    try:
        engine = create_engine(url, pool_size=5, max_overflow=10)
    except ModuleNotFoundError:
        raise Invalid(
            "PostgreSQL needs the package psycopg", hint=f"{sys.executable} -m pip install 'psycopg[binary]'"
        ) from None
    store = Store(engine, Postgres(), None)
    try:
        schema_version.bring_up_to_date(engine, store.dialect, None)
    except DBAPIError as error:
        raise Unavailable(
            f"the database does not answer: {str(error.orig).strip().splitlines()[0]}",
            hint="check the URL, and that the server runs",
        ) from None
    return store


def _open_sqlite(path: Path, create: bool) -> Store:
    fresh = not path.exists()
    if fresh and not create:
        if hint := _what_to_do(path):
            raise StoreLost(f"there is no database {path} any more", hint=hint)
        raise NotFound(f"there is no database {path}", hint="`torc create SPEC` makes one")
    network = network_file_system(path.parent)
    try:
        if fresh:
            # readable by nobody else from the start
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR))
        elif path.stat().st_size == 0 and (hint := _what_to_do(path)):
            raise StoreLost(f"the database {path} is empty", hint=hint)
        guard = FileGuard(path)
        reading = None if fresh else readonly.of(path)
        engine = _sqlite_engine(path, guard, reading, wal=network is None)
        if reading is None:
            schema_version.bring_up_to_date(engine, Sqlite(), path)
        else:
            schema_version.must_be_up_to_date(engine, Sqlite(), path)
    except (OSError, DBAPIError, sqlite3.Error) as error:
        if wrong := damage(error):
            raise StoreLost(f"the database {path} {wrong}", hint=what_to_do(path)) from None
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise Unavailable(
            f"cannot open the database {path}: {cause}", hint="check the path and its permissions"
        ) from None
    notes: tuple[str, ...] = (reading.note,) if reading is not None and reading.note is not None else ()
    if network is not None and reading is None:
        notes = (
            f"{path} is on {network}, where several machines cannot safely share a SQLite database: "
            "a rollback journal is used; for more than one machine use a server",
        )
    if fresh and (hint := _what_to_do(path)):
        notes = (*notes, f"{path} is new. A copy of an earlier database exists: {hint}")
    return Store(engine, Sqlite(guard), path, notes, reading)


def _what_to_do(path: Path) -> str | None:
    """Say how to restore the database that was here; None if there is no trace of one."""
    return what_to_do(path) if next(copies(path), None) is not None else None


def _sqlite_engine(path: Path, guard: FileGuard, reading: ReadOnly | None, *, wal: bool) -> Engine:
    # a database that was deleted must not come back empty: mode=rw
    uri = f"file:{quote(str(path))}?mode=rw" if reading is None else reading.uri

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, BUSY_SECONDS, uri=True, check_same_thread=False, isolation_level=None)

    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=QueuePool, creator=connect)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        if guard.is_other():
            raise sqlite3.OperationalError("unable to open database file: it was replaced")
        cursor = connection.cursor()
        if reading is not None:
            cursor.execute("PRAGMA query_only=ON")
            cursor.close()
            return
        cursor.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        # NORMAL under WAL survives kill -9; a power cut may take the last transactions, whose jobs then run again
        cursor.execute(f"PRAGMA synchronous={'NORMAL' if wal else 'FULL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.close()

    return engine


def network_file_system(directory: Path) -> str | None:
    """Return the name of the network file system of a directory; None if it is local or unknown."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(256)
        if libc.statfs(os.fsencode(directory), buffer) != 0:
            return None
    except (OSError, AttributeError):
        return None
    magic = struct.unpack_from("l", buffer.raw)[0] & 0xFFFFFFFF
    return _NETWORK.get(magic)
