"""`torc server backup`: a copy of a database that is being written to."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program
from tests.support.running import wait_until

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
    assert "is there already" in program("server", "backup", "-o", taken, code=4).stderr
    assert (program.directory / taken).read_text() == "precious"
    assert "cannot copy" in program("server", "backup", "-o", "nowhere/x.db", code=5).stderr
    assert "there is no database" in program("server", "backup", "-o", "x.db", "--db", "none.db", code=3).stderr
    assert "pg_dump" in program("server", "backup", "-o", "x.db", "--db", "postgresql://x/y", code=2).stderr
    path = program.directory / ".torc/torc.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    Path(path).write_bytes(data)
    assert "damaged" in (done := program("server", "backup", "-o", "x.db", code=5)).stderr or "malformed" in done.stderr
    assert not (program.directory / "x.db").exists()
