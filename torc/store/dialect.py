"""The few differences between SQLite and PostgreSQL. Everything else is one set of statements for both."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from torc.errors import StoreLost, TorcError
from torc.store.file_guard import FileGuard, damage, damaged_inside, rescue, what_to_do

Values = Mapping[str, Any]
_LOG = logging.getLogger(__name__)


class Dialect(Protocol):
    """What databases do differently."""

    name: str
    id_list: str  # a subquery that gives the ids bound to :ids
    is_sliced: bool  # long writing is done in many transactions: others could not write meanwhile
    names_job: str  # whether `data` of an event lists the job bound to :job_id

    def begin_write(self, engine: Engine) -> Any:
        """Open a transaction that may write, as a context manager of a Connection."""
        ...

    def begin_load(self, engine: Engine) -> Any:
        """Open a transaction for rows of a workflow that is being stored, perhaps before what they refer to."""
        ...

    def begin_read(self, engine: Engine) -> Any:
        """Open a transaction that sees one state of the database, as a context manager of a Connection."""
        ...

    def lock_workflow(self, db: Connection, workflow_id: int) -> None:
        """Keep others from changing this workflow until the transaction ends."""
        ...

    def lock_account(self, db: Connection, name: str) -> None:
        """Keep others from storing workflows for this account until the transaction ends."""
        ...

    def ids(self, values: Iterable[int]) -> Any:
        """Return the parameter value for a list of ids in a statement that uses `id_list`."""
        ...

    def matches(self, column: str, parameter: str = "pattern") -> str:
        """Return the condition that a column matches the pattern bound to a parameter, upper and lower case apart."""
        ...

    def pattern(self, name: str) -> str:
        """Return the parameter value for a name with `*` and `?`."""
        ...

    def fetch(self, db: Connection, sql: str, values: Values) -> list[Any]:
        """Run a statement directly on the driver and return its rows as tuples.

        `:name` is a parameter, as with `text()`. Takes a fifth of the time of `db.execute`, for statements of every exchange.
        """
        ...

    def run(self, db: Connection, sql: str, values: Values) -> int:
        """Run a statement directly on the driver and return the number of affected rows."""
        ...

    def run_many(self, db: Connection, sql: str, rows: Sequence[Values]) -> None:
        """Run a statement directly on the driver, once for each of `rows`."""
        ...

    def insert_many(self, db: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows, read as the driver takes them. JSON columns take text, boolean ones True and False."""
        ...

    def watch(self, engine: Engine, workflow_id: int) -> AbstractContextManager[Callable[[], int]]:
        """Watch a workflow: the returned function's result changes when somebody has changed something.

        It is cheap enough to be called many times a second, and may also change because of other workflows.
        """
        ...

    def is_transient(self, error: BaseException) -> bool:
        """Return whether the same transaction may succeed when it is tried again."""
        ...


class Sqlite:
    """One writer at a time: BEGIN IMMEDIATE takes the write lock, so that nothing needs finer locks."""

    name = "sqlite"
    is_sliced = True
    id_list = "(SELECT value FROM json_each(:ids))"
    names_job = "EXISTS (SELECT 1 FROM json_each(event.data, '$.job_ids') WHERE value = :job_id)"

    def __init__(self, guard: FileGuard | None = None) -> None:
        self.guard = guard
        self._losing = threading.Lock()

    @contextmanager
    def begin_write(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction with the write lock. Raises StoreLost, also after a commit that nobody will see."""
        try:
            with engine.connect() as db:
                db.exec_driver_sql("BEGIN IMMEDIATE")
                yield from _finish(db)
        except DBAPIError as error:
            self._check(engine, error)
            raise
        self._check(engine)

    @contextmanager
    def begin_read(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction that sees one snapshot. Raises StoreLost."""
        try:
            with engine.connect() as db:
                db.exec_driver_sql("BEGIN")
                yield from _finish(db)
        except DBAPIError as error:
            self._check(engine, error)
            raise
        self._check(engine)

    def _check(self, engine: Engine, error: DBAPIError | sqlite3.Error | None = None) -> None:
        """Check whether the file was replaced. Raises StoreLost."""
        guard = self.guard
        if guard is None:
            return
        if guard.lost is not None:
            raise again(guard.lost)
        wrong = guard.what_is_wrong() or (damage(error) if error is not None else None)
        if wrong is None:
            return
        with self._losing:
            if guard.lost is None:
                guard.lost = self._lose(engine, guard, wrong)
        raise again(guard.lost) from None

    def look_inside(self, engine: Engine) -> None:
        """Notice damage in what this process has not read again, or only from its cache. Raises StoreLost."""
        if self.guard is not None and (error := damaged_inside(self.guard.path)) is not None:
            self._check(engine, error)

    def _lose(self, engine: Engine, guard: FileGuard, wrong: str) -> StoreLost:
        rescued = None
        if not wrong.startswith("was moved"):
            with suppress(DBAPIError, TorcError), engine.connect() as db:
                rescued = rescue(db.connection.driver_connection, guard.path)
        hint = what_to_do(guard.path, rescued)
        if wrong.startswith("was moved"):
            hint = "move it back, or name its new location with --db"
        error = StoreLost(f"the database {guard.path} {wrong}", hint=hint, store="lost")
        _LOG.error("%s; %s", error.message, hint)
        return error

    @contextmanager
    def begin_load(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction with the write lock in which references are not checked: what they refer to may come later."""
        with engine.connect() as db:
            db.exec_driver_sql("PRAGMA foreign_keys=OFF")
            try:
                db.exec_driver_sql("BEGIN IMMEDIATE")
                yield from _finish(db)
            finally:
                if db.invalidated:
                    db.close()
                else:
                    db.exec_driver_sql("PRAGMA foreign_keys=ON")

    def lock_workflow(self, db: Connection, workflow_id: int) -> None:
        """Do nothing: there is one writer."""

    def lock_account(self, db: Connection, name: str) -> None:
        """Do nothing: there is one writer."""

    def ids(self, values: Iterable[int]) -> str:
        """Return ids as a JSON array: no limit on their number."""
        return json.dumps(list(values))

    def matches(self, column: str, parameter: str = "pattern") -> str:
        """Match by GLOB: LIKE takes upper and lower case for the same here."""
        return f"{column} GLOB :{parameter}"

    def pattern(self, name: str) -> str:
        """Keep `*` and `?`; a bracket stands for itself."""
        return name.replace("[", "[[]")

    def fetch(self, db: Connection, sql: str, values: Values) -> list[Any]:
        """Run a statement and give its rows; the driver knows `:name`, and keeps what it has compiled."""
        driver: Any = db.connection.driver_connection
        rows: list[Any] = driver.execute(sql, values).fetchall()
        return rows

    def run(self, db: Connection, sql: str, values: Values) -> int:
        """Run a statement and give how many rows it touched."""
        driver: Any = db.connection.driver_connection
        return int(driver.execute(sql, values).rowcount)

    def run_many(self, db: Connection, sql: str, rows: Sequence[Values]) -> None:
        """Run a statement for each of some rows."""
        driver: Any = db.connection.driver_connection
        driver.executemany(sql, rows)

    def insert_many(self, db: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows by the driver's executemany."""
        marks = ",".join("?" * len(columns))
        quoted = ",".join(f'"{name}"' for name in columns)
        driver: Any = db.connection.driver_connection
        driver.executemany(f'INSERT INTO "{table}" ({quoted}) VALUES ({marks})', rows)

    @contextmanager
    def watch(self, engine: Engine, workflow_id: int) -> Iterator[Callable[[], int]]:
        """Watch the version of the file: it changes with every commit of another connection."""
        with engine.connect() as db:
            yield lambda: int(db.exec_driver_sql("PRAGMA data_version").scalar_one())

    def is_transient(self, error: BaseException) -> bool:
        """Return whether somebody else held a lock."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        return isinstance(cause, sqlite3.OperationalError) and any(
            word in str(cause)
            for word in ("locked", "busy", "disk I/O error", "disk is full", "readonly", "unable to open")
        )


def again(error: StoreLost) -> StoreLost:
    """Return the same error to be raised once more, by another thread too."""
    return StoreLost(error.message, hint=error.hint, **error.details)


class Postgres:
    """READ COMMITTED with a lock on the row of the workflow, so that what concerns one workflow happens in order."""

    name = "postgresql"
    is_sliced = False
    id_list = "(SELECT unnest(CAST(:ids AS bigint[])))"
    names_job = "CAST(data AS jsonb) -> 'job_ids' @> to_jsonb(CAST(:job_id AS bigint))"

    @contextmanager
    def begin_write(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction."""
        with engine.connect() as db:
            db.begin()
            yield from _finish(db)

    @contextmanager
    def begin_read(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction that sees one snapshot."""
        with engine.connect() as db:
            snapshot = db.execution_options(isolation_level="REPEATABLE READ")
            snapshot.begin()
            yield from _finish(snapshot)

    def begin_load(self, engine: Engine) -> AbstractContextManager[Connection]:
        """Open a transaction."""
        return self.begin_write(engine)

    def lock_workflow(self, db: Connection, workflow_id: int) -> None:
        """Lock the row of the workflow."""
        db.execute(_LOCK, {"id": workflow_id})

    def lock_account(self, db: Connection, name: str) -> None:
        """Lock the row of the account, but not for those who refer to it."""
        db.execute(_LOCK_ACCOUNT, {"name": name})

    def ids(self, values: Iterable[int]) -> list[int]:
        """Return ids as an array."""
        return list(values)

    def matches(self, column: str, parameter: str = "pattern") -> str:
        """Match by LIKE."""
        return f"{column} LIKE :{parameter} ESCAPE '!'"

    def pattern(self, name: str) -> str:
        """Turn `*` and `?` into `%` and `_`; those that were there stand for themselves."""
        escaped = "".join(f"!{character}" if character in "!%_" else character for character in name)
        return escaped.replace("*", "%").replace("?", "_")

    def fetch(self, db: Connection, sql: str, values: Values) -> list[Any]:
        """Run a statement and give its rows; the driver prepares what comes often."""
        driver: Any = db.connection.driver_connection
        with driver.cursor() as cursor:
            rows: list[Any] = cursor.execute(_named(sql), values).fetchall()
        return rows

    def run(self, db: Connection, sql: str, values: Values) -> int:
        """Run a statement and give how many rows it touched."""
        driver: Any = db.connection.driver_connection
        with driver.cursor() as cursor:
            return int(cursor.execute(_named(sql), values).rowcount)

    def run_many(self, db: Connection, sql: str, rows: Sequence[Values]) -> None:
        """Run a statement for each of some rows, in one round trip."""
        driver: Any = db.connection.driver_connection
        with driver.cursor() as cursor:
            cursor.executemany(_named(sql), rows)

    def insert_many(self, db: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows by COPY."""
        driver: Any = db.connection.driver_connection
        quoted = ",".join(f'"{name}"' for name in columns)
        with driver.cursor() as cursor, cursor.copy(f'COPY "{table}" ({quoted}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)

    @contextmanager
    def watch(self, engine: Engine, workflow_id: int) -> Iterator[Callable[[], int]]:
        """Watch the log: whatever gives others something to do writes an event."""
        with engine.connect() as connected:
            db = connected.execution_options(isolation_level="AUTOCOMMIT")
            yield lambda: int(db.execute(_LAST_EVENT, {"id": workflow_id}).scalar_one())

    def is_transient(self, error: BaseException) -> bool:
        """Return whether the server was unreachable, or aborted this transaction in favor of another."""
        if not isinstance(error, (OperationalError, InterfaceError)):
            return False
        state = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated or state is None or state[:2] in {"40", "08", "53", "57", "55"}


_LAST_EVENT = text("SELECT coalesce(max(id), 0) FROM event WHERE workflow_id = :id")
_LOCK = text("SELECT id FROM workflow WHERE id = :id FOR UPDATE")
_LOCK_ACCOUNT = text("SELECT id FROM account WHERE name = :name FOR NO KEY UPDATE")


@cache
def _named(sql: str) -> str:
    """Write `:name` as psycopg wants it."""
    return re.sub(r"(?<![:\w]):([a-z_][a-z0-9_]*)", r"%(\1)s", sql.replace("%", "%%"))


def _finish(db: Connection) -> Iterator[Connection]:
    """Commit, or roll back and let errors of the driver look as if they had come through SQLAlchemy."""
    try:
        yield db
    except db.dialect.loaded_dbapi.Error as error:
        lost = db.dialect.is_disconnect(error, db.connection.dbapi_connection, None)
        if lost:
            db.invalidate(error)
        else:
            db.rollback()
        wrapped = DBAPIError.instance(
            None, None, error, db.dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=db.dialect
        )
        raise wrapped from error
    except BaseException:
        db.rollback()
        raise
    db.commit()
