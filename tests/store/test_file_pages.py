"""What was written over an open database is noticed without reading all of it, and what SQLite does itself is no damage."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from torc.store.file_guard import damage, damaged_inside
from torc.store.file_pages import DatabasePages

_LOOKS = 3  # two, for what has to last


class _Open:
    """A database that is in use, and who looks at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        for number in range(20):
            self.db.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, x)")
        self.write(300)
        self.num_read = 0
        self.is_large = False
        self.pages = DatabasePages(path, self._read_all, 0.0)

    def _read_all(self) -> str | None:
        self.num_read += 1
        error = None if self.is_large else damaged_inside(self.path)
        return None if error is None else damage(error)

    def write(self, rows: int) -> None:
        self.db.execute("BEGIN")
        for number in range(rows):
            self.db.execute(f"INSERT INTO t{number % 20} (x) VALUES (randomblob(300))")
        self.db.execute("COMMIT")

    def checkpoint(self, how: str = "PASSIVE") -> None:
        assert self.db.execute(f"PRAGMA wal_checkpoint({how})").fetchone()[0] == 0

    def looks(self) -> str | None:
        return next((found for _ in range(_LOOKS) if (found := self.pages.damage()) is not None), None)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[_Open]:
    made = _Open(tmp_path / "x.db")
    yield made
    made.db.close()


def _overwrite(path: Path, start: int = 0) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(os.urandom(size - start))


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "header": (_overwrite, "was overwritten"),
    "pages": (lambda path: _overwrite(path, 4096), "is damaged"),
    "log cut to nothing": (lambda path: os.truncate(_log(path), 0), "has lost part of its log"),
    "log cut in the middle": (lambda path: os.truncate(_log(path), 9000), "has lost part of its log"),
    "log overwritten": (lambda path: _overwrite(_log(path)), "has lost part of its log"),
    "end of the log overwritten": (lambda path: _overwrite(_log(path), 4096), "has lost part of its log"),
}


def test_pages_are_noticed_that_others_wrote_while_the_log_was_empty(opened: _Open) -> None:
    opened.checkpoint("TRUNCATE")
    opened.db.close()
    opened.db = sqlite3.connect(opened.path, isolation_level=None)
    opened.db.execute("SELECT count(*) FROM t1").fetchone()
    opened.is_large = True
    assert opened.looks() is None
    _overwrite(opened.path, 4096)
    assert (opened.looks() or "").startswith("is damaged")


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("how", SPOILT)
def test_what_others_wrote_over_a_database_is_noticed(opened: _Open, how: str, is_large: bool) -> None:
    spoil, said = SPOILT[how]
    opened.is_large = is_large
    opened.checkpoint("TRUNCATE")  # everything is in the file
    opened.write(20)
    assert opened.looks() is None
    spoil(opened.path)
    found = opened.looks()
    assert found is not None and found.startswith(said)


@pytest.mark.parametrize("how", ["log cut to nothing", "end of the log overwritten"])
def test_a_log_that_others_spoiled_is_noticed_though_sqlite_writes_on_behind_it(opened: _Open, how: str) -> None:
    opened.is_large = True
    opened.checkpoint("TRUNCATE")
    opened.write(20)
    assert opened.looks() is None
    spoil, said = SPOILT[how]
    spoil(opened.path)
    opened.write(1)
    assert (opened.looks() or "").startswith(said)


def test_pages_of_a_small_database_that_others_wrote_are_noticed_wherever_they_are(opened: _Open) -> None:
    opened.checkpoint("TRUNCATE")
    opened.write(20)
    assert opened.looks() is None
    with open(opened.path, "r+b") as file:
        file.seek(21 * 4096)  # no table begins there, and it is not in the log
        file.write(bytes(4096))
    found = opened.looks()
    assert found is not None and found.startswith("is damaged")


_OTHER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
for at in range(60):
    db.execute("INSERT INTO t%d (x) VALUES (randomblob(9000))" % (at % 20))
    if at % 3 == 0: db.execute("DELETE FROM t%d WHERE id %% 2" % (at % 20))
    if at % 7 == 0: db.execute("PRAGMA wal_checkpoint(%s)" % ("PASSIVE", "FULL", "RESTART", "TRUNCATE")[at % 4]).fetchall()
    if at % 20 == 0: db.execute("VACUUM")
    if at % 11 == 0: db.execute("CREATE TABLE IF NOT EXISTS n%d (x)" % at)
    if at % 13 == 12: db.execute("DROP TABLE IF EXISTS n%d" % (at - 1))
print("done")
"""


@pytest.mark.usefixtures("processes")
def test_nothing_that_sqlite_does_itself_is_taken_for_damage(opened: _Open) -> None:
    with subprocess.Popen([sys.executable, "-c", _OTHER, str(opened.path)], stdout=subprocess.PIPE) as other:
        while other.poll() is None:
            opened.db.execute("PRAGMA busy_timeout=60000")
            opened.write(3)
            assert opened.pages.damage() is None
        assert other.stdout is not None and other.stdout.read() == b"done\n"
    for how in ("PASSIVE", "TRUNCATE"):
        opened.checkpoint(how)
        assert opened.looks() is None
    opened.db.execute("VACUUM")
    assert opened.looks() is None
    assert damaged_inside(opened.path) is None


def test_a_quiet_database_is_not_read_again_and_again(opened: _Open) -> None:
    for how in ("PASSIVE", "TRUNCATE"):
        opened.write(50)
        assert opened.looks() is None
        opened.checkpoint(how)
        assert opened.looks() is None
    assert opened.num_read == 0


@pytest.mark.usefixtures("processes")
def test_looking_closes_no_lock_of_sqlite(opened: _Open) -> None:
    opened.db.execute("BEGIN IMMEDIATE")
    assert opened.looks() is None
    take = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0.1).execute('BEGIN IMMEDIATE')"
    done = subprocess.run([sys.executable, "-c", take, str(opened.path)], capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr
    opened.db.execute("ROLLBACK")


def test_a_database_without_a_log_is_not_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "y.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
        db.commit()
        pages = DatabasePages(path, lambda: "read", 0.0)
        assert pages.damage() is None
        os.utime(path)
        assert [pages.damage() for _ in range(_LOOKS)] == [None] * _LOOKS
