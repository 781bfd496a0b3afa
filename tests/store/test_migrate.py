"""Schema versions: migrations and models agree, newer databases are refused, opening twice changes nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from tests.support.stores import DATABASES
from torc.errors import Conflict, Unavailable
from torc.store.account_schema import AccountRow
from torc.store.alembic_runner import upgrade
from torc.store.engine import Store, open_store
from torc.store.schema_version import HEAD, VERSIONS, current_version
from torc.store.sqlite_copy import copy


@pytest.mark.parametrize("database", DATABASES)
def test_the_migrations_make_what_the_models_say(database: str, request: pytest.FixtureRequest) -> None:
    if database == "sqlite":
        engine = create_engine("sqlite://")
    else:
        store: Store = request.getfixturevalue("postgres_store")
        engine = store.engine
    with engine.connect() as db:
        if database != "sqlite":
            db.execute(text("CREATE SCHEMA fresh"))
            db.execute(text("SET LOCAL search_path TO fresh"))
        upgrade(db, "head")
        assert current_version(db) == HEAD
        context = MigrationContext.configure(db, opts={"compare_type": True})
        differences = compare_metadata(context, AccountRow.metadata)
        assert differences == []
        db.rollback()
    if database == "sqlite":
        engine.dispose()


def schema(path: Path) -> dict[str, object]:
    """Return what SQLite says of each table and index, down to the partial ones and those without row ids."""
    db = sqlite3.connect(path)
    found: dict[str, object] = {}
    for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'"):
        if kind == "table":
            found[name] = (
                sorted(row[1:] for row in db.execute(f"PRAGMA table_info('{name}')")),
                sorted(row[2:] for row in db.execute(f"PRAGMA foreign_key_list('{name}')")),
                "WITHOUT ROWID" in sql,
            )
        elif sql:
            found[name] = " ".join(sql.replace('"', "").split())
    db.close()
    return found


def test_a_migrated_database_is_a_fresh_one_to_the_letter(tmp_path: Path) -> None:
    open_store(tmp_path / "fresh.db").close()
    engine = create_engine(f"sqlite:///{tmp_path}/migrated.db")
    with engine.begin() as db:
        upgrade(db, "head")
    engine.dispose()
    fresh = schema(tmp_path / "fresh.db")
    assert "job_ready" in fresh and "job" in fresh
    assert schema(tmp_path / "migrated.db") == fresh


def test_opening_twice_is_opening_once(tmp_path: Path) -> None:
    open_store(tmp_path / "a.db").close()
    before = (tmp_path / "a.db").read_bytes()
    open_store(tmp_path / "a.db").close()
    assert (tmp_path / "a.db").read_bytes() == before


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "a.db").close()
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(Conflict, match="newer Torc"):
        open_store(tmp_path / "a.db")


def test_what_is_no_database_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("this is a text, and no database at all, however long it may be" * 20)
    with pytest.raises(Unavailable, match="is damaged"):
        open_store(tmp_path / "a.db")


def test_a_backup_of_a_live_database_is_whole(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    copy(tmp_path / "a.db", tmp_path / "b.db")
    opened = open_store(tmp_path / "b.db")
    with opened.dialect.begin_read(opened.engine) as db:
        assert current_version(db) == HEAD
    opened.close()
    store.close()


def test_nobody_else_may_read_a_database(tmp_path: Path) -> None:
    open_store(tmp_path / "a.db").close()
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


def test_an_older_database_is_brought_up_to_date_and_copied_before(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as db:
        upgrade(db, VERSIONS[0])
    engine.dispose()
    old = schema(path)
    opened = open_store(path)
    with opened.dialect.begin_read(opened.engine) as db:
        assert current_version(db) == HEAD
    opened.close()
    assert schema(path) != old
    assert schema(tmp_path / f"a.db.before-{HEAD}") == old
    assert (tmp_path / f"a.db.before-{HEAD}").stat().st_mode & 0o777 == 0o600


def test_negative_codes_of_earlier_versions_become_those_of_today(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.begin() as db:
        upgrade(db, "0012")
    engine.dispose()
    columns = "workflow_id, run_id, is_current, ended_at, wall_seconds, user_cpu_seconds, system_cpu_seconds, peak_memory_bytes"
    attempts = [
        (1, 1, -9, None),
        (2, 1, -15, "timeout"),
        (3, 1, -9, "out_of_memory"),
        (4, 1, 3, None),
        (5, 1, None, None),
    ]
    with sqlite3.connect(tmp_path / "a.db") as raw:
        for job_id, attempt, code, reason in attempts:
            _insert(raw, "job", id=job_id, name=f"j{job_id}", attempt=attempt, return_code=code)
            raw.execute(
                f"INSERT INTO attempt ({columns}, state, job_id, attempt, return_code, reason) "
                "VALUES (1, 1, 1, 0, 0, 0, 0, 0, 'failed', ?, ?, ?, ?)",
                (job_id, attempt, code, reason),
            )
        _insert(raw, "firing", id=1, return_code=-15)
    opened = open_store(tmp_path / "a.db")
    with opened.dialect.begin_read(opened.engine) as db:
        for table in ("attempt", "job"):
            key = "job_id" if table == "attempt" else "id"
            codes = {row[0]: row[1] for row in db.execute(text(f"SELECT {key}, return_code FROM {table}"))}
            assert codes == {1: 137, 2: 152, 3: 137, 4: 3, 5: None}
        assert db.execute(text("SELECT return_code FROM firing")).scalar() == 143
    opened.close()


def _insert(db: sqlite3.Connection, table: str, **values: object) -> None:
    """Write a row, and those that it refers to; what is not given is empty."""
    for _, name, kind, needed, default, _ in db.execute(f"PRAGMA table_info('{table}')").fetchall():
        if needed and default is None and name not in values:
            values[name] = "" if kind in {"TEXT", "VARCHAR"} else 1
    for _, _, other, name, key, *_ in db.execute(f"PRAGMA foreign_key_list('{table}')").fetchall():
        if name in values and not db.execute(f"SELECT 1 FROM {other} WHERE {key} = ?", (values[name],)).fetchone():
            _insert(db, other, **{key: values[name]})
    names = ", ".join(values)
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))
