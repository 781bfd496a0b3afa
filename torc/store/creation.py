"""Makes every table in an empty database, as of the newest schema version.

Imported only when there is something to make: the models of the tables, and `sqlmodel` with them, take 0.2 s, which
commands on a database that is up to date need not spend.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from torc.store.account_schema import AccountRow
from torc.store.change_plan_schema import InterventionRow


def create_all(db: Connection, version: str) -> None:
    """Make all tables, and note the schema version as Alembic does."""
    assert InterventionRow.metadata is AccountRow.metadata
    AccountRow.metadata.create_all(db)
    db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    db.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": version})
