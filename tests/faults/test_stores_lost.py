"""Databases that are deleted, moved, replaced or damaged while they are in use: noticed at once, and no result is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from tests.support.program import Program
from tests.support.running import is_alive, wait_until

pytestmark = pytest.mark.usefixtures("processes")

NUM_JOBS = 12


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Return the program in an empty directory."""
    (tmp_path / "work").mkdir()
    return Program(tmp_path / "work")


def _create(program: Program) -> None:
    """Store jobs of which two wait for `go`, and the others for them."""
    first = [
        {"name": f"j{n}", "command": f": > up{n}; until [ -e go ]; do sleep 0.02; done; echo j{n} >> ran"}
        for n in (0, 1)
    ]
    rest = [{"name": f"j{n}", "command": f"echo j{n} >> ran", "depends_on": ["j0", "j1"]} for n in range(2, NUM_JOBS)]
    program("create", program.write("spec.json", json.dumps({"name": "w", "jobs": [*first, *rest]})))


def _ran(program: Program) -> Counter[str]:
    path = program.directory / "ran"
    return Counter(path.read_text().split() if path.exists() else [])


def _database(program: Program) -> Path:
    return program.directory / ".torc/torc.db"


def _is_up(program: Program) -> bool:
    return len(list(program.directory.glob("up*"))) == 2


def _delete(path: Path) -> None:
    for name in path.parent.glob("torc.db*"):
        name.unlink()


def _delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def _delete_log(path: Path) -> None:
    path.with_name("torc.db-wal").unlink()


def _replace(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE something (id)")
        db.commit()
    os.replace(other, path)


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (_delete, "was deleted"),
        (_delete_folder, "was deleted"),
        (_delete_log, "has lost its log"),
        (_replace, "was replaced"),
    ],
)
def test_a_run_whose_database_is_gone_says_so_and_goes_on_from_what_it_saved(
    program: Program, lose: Callable[[Path], None], said: str
) -> None:
    _create(program)
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    lose(_database(program))
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 5, out + err
    assert said in err and "torc server restore" in err and "completed" not in out
    assert _ran(program) == {"j0": 1, "j1": 1}, "what ran was let end, and nothing more was started"
    (copy,) = [*program.directory.glob("torc.db.rescued-*"), *program.directory.glob(".torc/torc.db.rescued-*")]
    assert copy.name in err
    if not _database(program).exists():
        assert str(copy) in program("status", 1, code=5).stderr, "any command says what to do"
    restored = program("server", "restore", copy)
    assert "restored 1 workflow(s)" in restored.stdout
    done = program("run", 1, "-q", "-j", "2")
    assert f"{NUM_JOBS} completed" in done.stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, "everything ran once"
    assert not list(program.directory.glob("torc_output/undelivered_*"))
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def _damage_log(path: Path) -> None:
    log = path.with_name("torc.db-wal")
    size = log.stat().st_size
    with open(log, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


@pytest.mark.parametrize("spoil", [_damage, _damage_log])
def test_a_run_does_not_say_that_it_is_completed_where_nobody_else_can_read_what_it_has_stored(
    program: Program, spoil: Callable[[Path], None]
) -> None:
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    spoil(_database(program))  # the runner has most of it in its memory, and need not notice
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 5, out + err
    assert "is damaged" in err and "torc server restore" in err and "completed" not in out
    program("server", "restore", copy)
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q", "-j", "2").stdout
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"


def _has_said(program: Program, text: str) -> bool:
    return any(text in path.read_text() for path in program.directory.glob("torc_output/**/*.log"))


@pytest.mark.parametrize("spoil", [_damage])
def test_a_run_notices_soon_that_its_database_was_spoiled_though_it_has_all_of_it_in_memory(
    program: Program, spoil: Callable[[Path], None]
) -> None:
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "3")  # with room left, it asks for more now and then
    try:
        wait_until(lambda: _is_up(program), "two jobs run")
        spoil(_database(program))
        wait_until(lambda: _has_said(program, "no more jobs will start"), "it says so while its jobs run")
        (program.directory / "go").touch()
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == 5, out + err
    assert "torc server restore" in err and "undelivered_" in err and "completed" not in out
    assert _ran(program) == {"j0": 1, "j1": 1}, "what ran was let end, and nothing more was started"
    program("server", "restore", copy)
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q", "-j", "2").stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, "everything ran once"
    assert not list(program.directory.glob("torc_output/undelivered_*"))


def test_a_run_notices_at_once_that_its_database_was_cut_off_though_it_has_all_of_it_in_memory(
    program: Program,
) -> None:
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    os.truncate(_database(program), _database(program).stat().st_size // 2)
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 5, out + err
    assert "was cut off" in err and "torc server restore" in err
    assert _ran(program) == {"j0": 1, "j1": 1}, "nothing more was started"
    program("server", "restore", copy)
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q", "-j", "2").stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, "everything ran once"


def test_a_run_bears_that_its_database_is_made_smaller_in_order(program: Program) -> None:
    _create(program)
    database = _database(program)
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE filler (x)")
        db.execute("INSERT INTO filler VALUES (randomblob(1000000))")
        db.commit()
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    size = database.stat().st_size
    with closing(sqlite3.connect(database, timeout=60)) as db:
        db.execute("DROP TABLE filler")
        db.commit()
        db.execute("VACUUM")
        wait_until(lambda: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "the log is folded in")
    assert database.stat().st_size < size
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    assert f"{NUM_JOBS} completed" in out


@pytest.mark.parametrize("spoil", [_empty, _damage])
def test_a_run_on_a_damaged_database_stops_and_its_results_are_taken_in_by_the_last_backup(
    program: Program, spoil: Callable[[Path], None]
) -> None:
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    database = _database(program)
    with closing(sqlite3.connect(database)) as db:  # all of it into the file, and out of what the runner has read
        wait_until(lambda: db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0, "the log is folded in")
        db.execute("UPDATE workflow SET updated_at = updated_at + 1")
        db.commit()
        wait_until(lambda: db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0, "the log is folded in")
    spoil(database)
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 5, out + err
    assert "torc server restore" in err and "inside Torc" not in err
    assert _ran(program) == {"j0": 1, "j1": 1}
    for command in (["status", 1], ["workflows", "list"], ["run", 1, "-q"], ["server", "backup", "-o", "x.db"]):
        told = program(*command, code=5).stderr
        assert "torc server restore" in told and ("damaged" in told or "empty" in told), command
    assert "restored 1 workflow(s)" in program("server", "restore", copy).stdout
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q", "-j", "2").stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, (
        "everything ran once, though the backup is from before the run"
    )
    assert not list(program.directory.glob("torc_output/undelivered_*"))
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"
    assert list(database.parent.glob("torc.db.replaced-*")), "the previous database is kept"


def test_a_result_of_an_old_command_does_not_count_in_a_backup_in_which_the_job_was_edited(program: Program) -> None:
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    _delete(_database(program))
    (program.directory / "go").touch()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 5
    (kept,) = program.directory.glob("torc_output/undelivered_*")
    assert str(kept) in err and json.loads(kept.read_text().splitlines()[0])["finished"][0]["fingerprint"]
    program("server", "restore", copy)
    program("jobs", "update", 1, "--command", "echo edited >> ran")
    done = program("run", 1, "-q", "-j", "2")
    assert f"{NUM_JOBS} completed" in done.stdout
    assert "1 results in" in done.stderr and "were edited" in done.stderr
    assert _ran(program) == {**{f"j{n}": 1 for n in range(NUM_JOBS)}, "edited": 1}, "the job that was edited ran again"
    assert not kept.exists()


def test_results_that_an_earlier_version_has_kept_without_what_they_are_of_count(program: Program) -> None:
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    _delete(_database(program))
    (program.directory / "go").touch()
    run.communicate(timeout=60)
    (kept,) = program.directory.glob("torc_output/undelivered_*")
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    for line in lines:
        for result in line["finished"]:
            del result["fingerprint"]
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines))
    program("server", "restore", copy)
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q", "-j", "2").stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, "everything ran once"


def test_a_run_whose_directory_was_moved_says_where_it_is_and_leaves_its_results_there(
    program: Program, tmp_path: Path
) -> None:
    _create(program)
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    moved = Program(tmp_path / "moved")
    program.directory.rename(moved.directory)
    (moved.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 5, out + err
    assert f"was moved to {moved.directory}/.torc/torc.db" in err
    assert f"{moved.directory}/torc_output/undelivered_" in err
    assert _ran(moved) == {"j0": 1, "j1": 1}
    moved.directory.rename(program.directory)
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q", "-j", "2").stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}


def test_a_server_whose_database_is_gone_says_so_and_its_runners_wait_for_it_to_be_restored(program: Program) -> None:
    program("server", "start", "--no-access-log")
    _create(program)
    run = program.start("run", "1", "-q", "-j", "2")
    try:
        wait_until(lambda: _is_up(program), "two jobs run")
        _delete(_database(program))
        (program.directory / "go").touch()
        wait_until(lambda: list(program.directory.glob("torc_output/undelivered_*")), "results are kept")
        told = program("status", 1, code=5).stderr
        assert "was deleted" in told and "torc server restore" in told
        assert "was deleted" in program("server", "status").stdout
        place = json.loads((program.directory / ".torc/server.json").read_text())
        answer = urllib3.request(
            "GET",
            f"{place['url']}/api/v1/workflows",
            headers={"Authorization": f"Bearer {place['token']}"},
            retries=False,
        )
        assert (answer.status, answer.json()["details"]["store"]) == (503, "lost")
        assert "was deleted" in (program.directory / ".torc/server.log").read_text()
        (copy,) = program.directory.glob(".torc/torc.db.rescued-*")
        assert "runs here already" in program("server", "restore", copy, code=4).stderr
        assert run.poll() is None
        program("server", "stop")
        program("server", "restore", copy)
        program("server", "start", "--no-access-log")
        out, err = run.communicate(timeout=90)
        assert run.returncode == 0 and f"{NUM_JOBS} completed" in out, out + err
        assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, "everything ran once"
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
        program("server", "stop", code=None)


def test_a_restored_store_that_is_older_than_its_runners_takes_their_results(program: Program) -> None:
    program("server", "start", "--no-access-log")
    _create(program)
    copy = program("server", "backup", "-f", "json").json["path"]
    run = program.start("run", "1", "-q", "-j", "2")
    try:
        wait_until(lambda: _is_up(program), "two jobs run")
        place = json.loads((program.directory / ".torc/server.json").read_text())
        os.kill(place["pid"], signal.SIGKILL)
        wait_until(lambda: not is_alive(place["pid"]), "the server has ended")
        (program.directory / "go").touch()
        wait_until(lambda: sum(_ran(program).values()) == 2, "both end")
        program("server", "restore", copy)
        program("server", "start", "--no-access-log")
        out, err = run.communicate(timeout=90)
        assert run.returncode == 0 and f"{NUM_JOBS} completed" in out, out + err
        assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}, "everything ran once"
        assert program("workflows", "check", 1).stdout == "nothing is wrong\n"
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
        program("server", "stop", code=None)


def test_an_output_directory_that_is_deleted_is_made_anew_and_fails_no_job(program: Program) -> None:
    _create(program)
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    shutil.rmtree(program.directory / "torc_output")
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0 and f"{NUM_JOBS} completed" in out, out + err
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}
    assert len(list(program.directory.glob("torc_output/job_stdio/*.o"))) == NUM_JOBS - 2
    assert "leaving: 12 jobs completed" in next(program.directory.glob("torc_output/job_runner_*.log")).read_text()


def test_an_action_goes_on_when_the_output_directory_was_deleted_before_its_next_command(program: Program) -> None:
    action = {
        "trigger_type": "on_workflow_complete",
        "action_type": "run_commands",
        "commands": ["rm -rf torc_output", "echo x >> acted"],
    }
    program(
        "create",
        program.write(
            "spec.json", json.dumps({"name": "w", "jobs": [{"name": "a", "command": "true"}], "actions": [action]})
        ),
    )
    program("run", 1, "-q")
    assert (program.directory / "acted").read_text() == "x\n"


def test_results_are_kept_where_the_output_directory_was_deleted_too(program: Program) -> None:
    _create(program)
    run = program.start("run", "1", "-q", "-j", "2")
    wait_until(lambda: _is_up(program), "two jobs run")
    shutil.rmtree(program.directory / "torc_output")
    _delete(_database(program))
    (program.directory / "go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 5, out + err
    (journal,) = program.directory.glob("torc_output/undelivered_*")
    assert journal.stat().st_mode & 0o777 == 0o600 and str(journal) in err
    (copy,) = program.directory.glob(".torc/torc.db.rescued-*")
    program("server", "restore", copy)
    assert f"{NUM_JOBS} completed" in program("run", 1, "-q").stdout
    assert _ran(program) == {f"j{n}": 1 for n in range(NUM_JOBS)}
