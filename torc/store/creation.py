"""Creates all tables in an empty database, in the newest schema version.

Imported only when needed: the models of the tables, and with them `sqlmodel`, take 0.2 s, which commands on an existing database
should not spend.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from torc.store.account_schema import AccountRow
from torc.store.change_plan_schema import InterventionRow


def create_all(db: Connection, version: str) -> None:
    """Create all tables, and record the schema version like Alembic."""
    assert InterventionRow.metadata is AccountRow.metadata
    AccountRow.metadata.create_all(db)
    db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    db.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": version})
