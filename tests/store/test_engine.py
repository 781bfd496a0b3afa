"""Opening stores: any path, many processes at once, what is told when it cannot be done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from torc.errors import Invalid, NotFound, Unavailable
from torc.store.engine import network_file_system, open_store

_OPEN = "import sys; from torc.store.engine import open_store; open_store(sys.argv[1]).close()"


@pytest.mark.usefixtures("processes")
def test_eight_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    started = [
        subprocess.Popen([sys.executable, "-c", _OPEN, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(8)
    ]
    ended = [(process.communicate(timeout=60)[0].decode(), process.returncode) for process in started]
    assert ended == [("", 0)] * 8


@pytest.mark.parametrize("name", ["a b.db", "a?mode=ro.db", "100%.db", "#1.db", "ü'\".db", "sqlite:.db"])
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path / name)
    with store.dialect.begin_write(store.engine) as db:
        db.execute(text("INSERT INTO id_block VALUES ('x', 7)"))
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_database_is_not_made_where_only_an_old_one_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no database"):
        open_store(tmp_path / "a.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot open the database"):
        open_store(tmp_path / "missing" / "a.db")


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(Invalid, match="kind `mysql`"):
        open_store("mysql://somewhere/else")


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        open_store(f"postgresql://torc@/torc?host={tmp_path}")


def test_a_local_folder_is_not_on_a_network(tmp_path: Path) -> None:
    assert network_file_system(tmp_path) is None
    assert network_file_system(tmp_path / "missing") is None


def test_a_store_is_durable_and_lets_others_read(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    with store.dialect.begin_read(store.engine) as db:
        assert db.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert db.execute(text("PRAGMA foreign_keys")).scalar() == 1
        before = db.execute(text("SELECT count(*) FROM id_block")).scalar()
        with store.dialect.begin_write(store.engine) as other:
            other.execute(text("INSERT INTO id_block VALUES ('x', 7)"))
        assert db.execute(text("SELECT count(*) FROM id_block")).scalar() == before
    store.close()


@pytest.mark.usefixtures("processes")
def test_a_database_that_is_up_to_date_is_opened_without_the_models(tmp_path: Path) -> None:
    open_store(tmp_path / "a.db").close()
    code = f"{_OPEN}; print(sorted({{'sqlmodel', 'alembic', 'torc.store.schema'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.db")], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize(
    "url", ["postgresql:/me:hunter2@host/x", "postgres:me:hunter2@host/x", " Postgresql:/me:hunter2@host/x"]
)
def test_a_url_without_its_slashes_is_no_file_and_is_not_repeated(url: str) -> None:
    for create in (True, False):
        with pytest.raises(Invalid) as raised:
            open_store(url, create=create)
        assert "hunter2" not in raised.value.message and "//" in raised.value.message
