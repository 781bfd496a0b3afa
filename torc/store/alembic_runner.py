"""Runs Alembic's migrations inside the caller's transaction. Imported only when there is something to migrate."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configuration(db: Connection) -> Config:
    """Return Alembic's configuration for a connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = db
    return config


def upgrade(db: Connection, version: str) -> None:
    """Migrate a database to a schema version."""
    command.upgrade(configuration(db), version)
