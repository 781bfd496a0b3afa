"""`torc server backup`: a copy of a database that is being written to."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from pathlib import Path

from sqlalchemy import create_engine

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program
from tests.support.running import wait_until
from torc.store import alembic_runner
from torc.store.schema_version import VERSIONS

pytestmark = EMBEDDED
MANY = "name: many\nparameters: {i: '1:300'}\njobs: [{name: 'j{i}', use_parameters: [i], command: 'echo >> ran'}]\n"


def test_a_database_is_copied_while_a_runner_writes_and_the_copy_goes_on_by_itself(program: Program) -> None:
    process = program.start("run", program.write("many.yaml", MANY), "-q")
    wait_until((program.directory / "ran").exists, "jobs run")
    copies = []
    while process.poll() is None and len(copies) < 5:
        copies.append(f"copy{len(copies)}.db")
        done = program("server", "backup", "-o", copies[-1], "-f", "json").json
        assert done["workflows"] == 1 and done["size_bytes"] > 0
    process.communicate(timeout=60)
    assert copies
    for name in copies:
        path = program.directory / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert program("workflows", "check", 1, "--db", name).stdout == "nothing is wrong\n"
    assert "300 completed" in program("run", 1, "-q", "--db", copies[0], "-o", "again").stdout
    assert not list(program.directory.glob(".copy*")), "nothing is left beside the copies"


def test_a_copy_overwrites_nothing_and_a_damaged_database_is_told(program: Program) -> None:
    program("create", program.write("many.yaml", MANY))
    taken = program.write("taken.db", "precious")
    assert "already exists" in program("server", "backup", "-o", taken, code=4).stderr
    assert (program.directory / taken).read_text() == "precious"
    assert "cannot copy" in program("server", "backup", "-o", "nowhere/x.db", code=5).stderr
    assert "there is no database" in program("server", "backup", "-o", "x.db", "--db", "none.db", code=3).stderr
    path = program.directory / ".torc/torc.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    Path(path).write_bytes(data)
    assert "damaged" in (done := program("server", "backup", "-o", "x.db", code=5)).stderr or "malformed" in done.stderr
    assert not (program.directory / "x.db").exists()


def test_a_copy_is_restored_and_what_was_there_is_kept(program: Program) -> None:
    program("run", program.write("many.yaml", MANY.replace("1:300", "1:3")), "-q")
    copy = program("server", "backup", "-f", "json").json["path"]
    assert Path(copy).parent == program.directory / ".torc/backups" and stat.S_IMODE(Path(copy).stat().st_mode) == 0o600
    program("workflows", "delete", 1, "--yes")
    assert program("workflows", "list", "-f", "json").json == []
    done = program("server", "restore", copy, "-f", "json").json
    assert done["workflows"] == 1 and done["problems"] == []
    assert [item["state"] for item in program("workflows", "list", "-f", "json").json] == ["completed"]
    assert stat.S_IMODE((program.directory / ".torc/torc.db").stat().st_mode) == 0o600
    assert program("workflows", "list", "-f", "json", "--db", done["kept"]).json == []
    assert not list(program.directory.glob(".torc/.torc.db*")), "nothing is left beside it"


def test_nothing_is_restored_while_somebody_uses_the_database(program: Program) -> None:
    spec = "name: w\njobs: [{name: a, command: ': > up; until [ -e go ]; do sleep 0.02; done'}]\n"
    run = program.start("run", program.write("w.yaml", spec), "-q")
    wait_until((program.directory / "up").exists, "it runs")
    copy = program("server", "backup", "-f", "json").json["path"]
    assert f"by process {run.pid}" in program("server", "restore", copy, code=4).stderr
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    program("server", "start")
    assert "runs here already" in program("server", "restore", copy, code=4).stderr
    assert "restored" in program("server", "restore", copy, "--db", "other.db").stdout, "that is another database"
    program("server", "stop")
    assert "restored" in program("server", "restore", copy).stdout


def test_two_do_not_restore_at_once(program: Program) -> None:
    program("create", program.write("many.yaml", MANY.replace("1:300", "1:3")))
    copy = program("server", "backup", "-f", "json").json["path"]
    folder = os.open(program.directory / ".torc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert "another process is restoring" in program("server", "restore", copy, code=4).stderr
    finally:
        os.close(folder)
    assert "restored" in program("server", "restore", copy).stdout


def test_a_file_that_is_no_whole_copy_is_not_restored(program: Program) -> None:
    program("create", program.write("many.yaml", MANY.replace("1:300", "1:3")))
    before = (program.directory / ".torc/torc.db").read_bytes()
    copy = Path(program("server", "backup", "-f", "json").json["path"])
    assert "there is no file" in program("server", "restore", "nothing.db", code=3).stderr
    assert "is damaged" in program("server", "restore", program.write("text.db", "no database" * 100), code=5).stderr
    assert "the database itself" in program("server", "restore", ".torc/torc.db", code=2).stderr
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE job_count SET count = 7")
    assert "counts of jobs" in program("server", "restore", copy, code=4).stderr
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer Torc" in program("server", "restore", copy, code=4).stderr
    os.truncate(copy, copy.stat().st_size // 2)
    told = program("server", "restore", copy, code=5).stderr
    assert "is damaged" in told and "restore another copy" in told
    assert (program.directory / ".torc/torc.db").read_bytes() == before, "nothing has changed"
    assert sorted(path.name for path in (program.directory / ".torc").iterdir() if "torc.db" in path.name) == [
        "torc.db"
    ]


def test_a_copy_of_an_older_schema_is_brought_up_to_date(program: Program) -> None:
    copy = program.directory / "old.db"
    engine = create_engine(f"sqlite:///{copy}")
    with engine.begin() as db:
        alembic_runner.upgrade(db, VERSIONS[-2])
    engine.dispose()
    assert "restored 0 workflow(s)" in program("server", "restore", copy).stdout
    program("create", program.write("many.yaml", MANY.replace("1:300", "1:3")))
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"


def _copies(program: Program) -> list[Path]:
    return sorted(program.directory.glob(".torc/backups/torc.db.backup-auto-*"))


def test_a_server_copies_its_database_at_intervals_and_keeps_the_last_copies(program: Program) -> None:
    program("create", program.write("many.yaml", MANY.replace("1:300", "1:3")))
    mine = program("server", "backup", "-f", "json").json["path"]
    assert "at least one second" in program("server", "start", "--backup-every", "0s", code=2).stderr
    program("server", "start", "--backup-every", "1s", "--backup-keep", "2")
    try:
        first = wait_until(lambda: _copies(program), "there is a copy")[0]
        wait_until(lambda: not first.exists() and len(_copies(program)) == 2, "the oldest one goes")
    finally:
        program("server", "stop")
    assert Path(mine).exists(), "what somebody asked for stays"
    for copy in _copies(program):
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert program("workflows", "check", 1, "--db", copy).stdout == "nothing is wrong\n"


def test_a_run_copies_its_database_where_that_is_set(program: Program) -> None:
    program("config", "set", "backup.interval", "1s", "--here")
    spec = "name: w\njobs: [{name: a, command: 'until ls .torc/backups/*backup-*[0-9]; do sleep 0.1; done'}]\n"
    assert "1 completed" in program("run", program.write("w.yaml", spec), "-q").stdout
    assert _copies(program)
