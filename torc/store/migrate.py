"""Schema versions: a fresh database is made at once, an older one is brought up to date by Alembic after a backup.

Alembic takes half a second to import, so it is imported only when there is something to migrate.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlmodel import SQLModel

from torc.errors import Conflict
from torc.store import tables
from torc.store.dialect import Dialect, backup_sqlite

HEAD = "0001"
_KNOWN = ("0001",)


def bring_up_to_date(engine: Engine, dialect: Dialect, path: Path | None) -> None:
    """Make the tables, or migrate them to HEAD. Raises Conflict for a database of a newer Torc."""
    with dialect.begin_read(engine) as db:
        version = current_version(db)
    if version == HEAD:
        return
    if version is not None and version not in _KNOWN:
        raise Conflict(
            f"the database was made by a newer Torc (schema {version}, this one knows {HEAD})",
            hint="upgrade Torc, or name another database with --db",
        )
    if version is not None and path is not None:
        backup_sqlite(path, path.with_name(f"{path.name}.before-{HEAD}"))
    with dialect.begin_write(engine) as db:
        if dialect.name == "postgresql":
            db.execute(text("SELECT pg_advisory_xact_lock(7267633)"))  # two may start at once
        version = current_version(db)
        if version is None:
            _create(db)
        elif version != HEAD:
            importlib.import_module("torc.store.alembic_runner").upgrade(db, HEAD)


def current_version(db: Connection) -> str | None:
    """Give the schema version of a database; None: it has no tables of ours yet."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create(db: Connection) -> None:
    assert tables.WorkflowRow.__tablename__ in SQLModel.metadata.tables
    SQLModel.metadata.create_all(db)
    db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    db.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
