"""Schema versions: a new database is created directly, an older one is migrated by Alembic after a backup.

Alembic and the models of the tables take most of a second to import, so they are imported only when there is something to create or
migrate.
"""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from torc.errors import Conflict, Unavailable
from torc.store.dialect import Dialect
from torc.store.sqlite_copy import copy

#: all schema versions, oldest first
VERSIONS = tuple(f"{number:04d}" for number in range(1, 19))
HEAD = VERSIONS[-1]
_ADVISORY_LOCK = 7267633  # any number that nobody else uses in the database
_POLL_SECONDS = 0.05


def bring_up_to_date(engine: Engine, dialect: Dialect, path: Path | None, patience_seconds: float = 10.0) -> None:
    """Create the tables, or migrate them to HEAD. Raises Conflict for a database of a newer Torc.

    Several processes may open a new database at once: one creates it while the others wait.
    """
    end = time.monotonic() + patience_seconds
    while True:
        try:
            _bring_up_to_date(engine, dialect, path)
            return
        except (DBAPIError, sqlite3.Error) as error:
            # SQLite does not wait for whoever is switching the journal of a new database
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)


def _bring_up_to_date(engine: Engine, dialect: Dialect, path: Path | None) -> None:
    with dialect.begin_read(engine) as db:
        version = current_version(db)
    if version == HEAD:
        return
    _refuse_newer(version)
    if version is not None and path is not None:
        with contextlib.suppress(
            FileExistsError
        ):  # made before an upgrade that was cut off, or by somebody else just now
            copy(path, path.with_name(f"{path.name}.before-{HEAD}"))
    with dialect.begin_write(engine) as db:
        if dialect.name == "postgresql":
            db.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        version = current_version(db)  # another process may have been faster
        _refuse_newer(version)
        if version is None:
            importlib.import_module("torc.store.creation").create_all(db, HEAD)
        elif version != HEAD:
            importlib.import_module("torc.store.alembic_runner").upgrade(db, HEAD)


def must_be_up_to_date(engine: Engine, dialect: Dialect, path: Path) -> None:
    """Check a database that can only be read. Raises Conflict for a newer one, Unavailable for one that is to be migrated first."""
    with dialect.begin_read(engine) as db:
        version = current_version(db)
    _refuse_newer(version)
    if version != HEAD:
        raise Unavailable(
            f"the database {path} was made by an older Torc (schema {version or 'none'}) and cannot be upgraded here: "
            "it can only be read",
            hint="copy it to a writable folder, and name the copy with --db",
        )


def _refuse_newer(version: str | None) -> None:
    if version is not None and version not in VERSIONS:
        raise Conflict(
            f"the database was made by a newer Torc (schema {version}, this one knows {HEAD})",
            hint="upgrade Torc, or name another database with --db",
        )


def current_version(db: Connection) -> str | None:
    """Return the schema version of a database; None: it has no tables of ours yet."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()
