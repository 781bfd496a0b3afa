"""Empty stores for tests, on each database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from torc.api.workflows import CheckWorkflow, ListWorkflows
from torc.client.embedded import Embedded
from torc.store.account_schema import AccountRow
from torc.store.engine import Store, open_store

#: PostgreSQL is a program to start
DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))


def sqlite_template(directory: Path) -> Path:
    """Make a database file with all tables, to be copied for each test."""
    path = directory / "template.db"
    open_store(path).close()
    with_wal = path.with_name(path.name + "-wal")
    assert not with_wal.exists(), "closing the last connection must fold the log into the file"
    return path


def open_sqlite(template: Path, directory: Path) -> Embedded:
    """Open a fresh SQLite database."""
    path = directory / "torc.db"
    shutil.copyfile(template, path)
    return Embedded(open_store(path), "user:tester")


def empty_postgres(store: Store) -> Embedded:
    """Empty a PostgreSQL database and give a Torc for it."""
    tables = ", ".join(f'"{table.name}"' for table in AccountRow.metadata.sorted_tables)
    with store.dialect.begin_write(store.engine) as db:
        db.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return Embedded(store, "user:tester")


def check_all(torc: Embedded) -> None:
    """Check every invariant of every workflow."""
    for workflow in torc.send(ListWorkflows(include_archived=True, limit=1000)).items:
        problems = torc.send(CheckWorkflow(workflow_id=workflow.id))
        assert problems == [], f"workflow {workflow.id}: {problems}"
