"""Servers that were killed and restarted, at the same address or another one: runners find them, and nothing runs twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.running import is_alive, wait_until

pytestmark = pytest.mark.usefixtures("processes")

#: each says when it begins and ends, and waits for a file that is called as it is
WAITING = "echo {name} >> began; until [ -e go_{name} ]; do sleep 0.02; done; echo {name} >> ended"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Return the program in a directory with a server."""
    made = Program(tmp_path)
    made("server", "start", "--no-access-log")
    yield made
    made("server", "stop", code=None)


def _server(program: Program) -> dict[str, Any]:
    return dict(json.loads((program.directory / ".torc/server.json").read_text()))


def _kill_server(program: Program) -> None:
    pid = _server(program)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the server has ended")


def _create(program: Program, *names: str) -> None:
    jobs = [{"name": name, "command": WAITING.format(name=name)} for name in names]
    last = {"name": "last", "command": "echo last >> ended", "depends_on": list(names)}
    program("create", program.write("spec.json", json.dumps({"name": "w", "jobs": [*jobs, last]})))


def _counted(program: Program, name: str) -> Counter[str]:
    path = program.directory / name
    return Counter(path.read_text().split() if path.exists() else [])


def _let(program: Program, name: str) -> None:
    (program.directory / f"go_{name}").touch()
    wait_until(lambda: _counted(program, "ended")[name], f"{name} ends")


def _is_kept(program: Program, folder: str = "torc_output") -> bool:
    return any(path.read_bytes().endswith(b"\n") for path in (program.directory / folder).glob("undelivered_*"))


@pytest.mark.parametrize("knows", ["the directory", "the URL", "the file"])
def test_a_runner_finds_the_server_at_another_port(program: Program, knows: str, tmp_path: Path) -> None:
    _create(program, "a", "b")
    url = _server(program)["url"]
    environ: dict[str, str] = {}
    if knows == "the URL":
        environ = {"TORC_API_URL": url}
    elif knows == "the file":
        environ = {"TORC_API_URL": url, "TORC_SERVER_FILE": str(program.directory / ".torc/server.json")}
        environ["TORC_TOKEN"] = _server(program)["token"]
    elsewhere = Program(tmp_path / "elsewhere") if knows == "the file" else program
    elsewhere.directory.mkdir(exist_ok=True)
    runner = elsewhere.start("worker", "1", "-q", "-j", "2", **environ)
    wait_until(lambda: len(_counted(program, "began")) == 2, "both run")
    _kill_server(program)
    _let(program, "a")
    wait_until(lambda: list(elsewhere.directory.glob("torc_output/undelivered_*")), "its end is written down")
    program("server", "start", "--port", "0", "--no-access-log")
    assert _server(program)["url"] != url
    _let(program, "b")
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == 0, out + err
    assert "was restarted" in err
    assert _counted(program, "began") == {"a": 1, "b": 1}
    assert _counted(program, "ended") == {"a": 1, "b": 1, "last": 1}
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"


def test_what_a_runner_left_behind_is_taken_in_before_its_job_runs_again(program: Program) -> None:
    _create(program, "a", "b")
    runner = program.start("worker", "1", "-q", "-j", "2")
    wait_until(lambda: len(_counted(program, "began")) == 2, "both run")
    _kill_server(program)
    _let(program, "a")
    wait_until(lambda: _is_kept(program), "its end is written down")
    runner.kill()
    runner.communicate()
    program("server", "start", "--no-access-log")
    (program.directory / "go_b").touch()
    done = program("run", 1, "-q", "-j", "1")
    assert "3 completed" in done.stdout
    assert _counted(program, "ended")["a"] == _counted(program, "began")["a"] == 1, "a was done already"
    assert not list(program.directory.glob("torc_output/undelivered_*"))
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"


@pytest.mark.parametrize("command", [["workflows", "sync-status", "1"], ["run", "1", "-q"], ["worker", "1", "-q"]])
def test_what_a_runner_left_that_was_given_up_counts_too(program: Program, command: list[str]) -> None:
    _create(program, "a")
    runner = program.start("worker", "1", "-q")
    wait_until(lambda: _counted(program, "began"), "it runs")
    _kill_server(program)
    _let(program, "a")
    wait_until(lambda: _is_kept(program), "its end is written down")
    runner.send_signal(signal.SIGTERM)
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == 5 and "will be delivered" in err, out + err
    with closing(sqlite3.connect(program.directory / ".torc/torc.db")) as db, db:  # as if it had lived elsewhere
        db.execute("UPDATE runner SET host = 'elsewhere', lease_expires_at = 1")
    program("server", "start", "--no-access-log")
    with closing(sqlite3.connect(program.directory / ".torc/torc.db")) as db, db:
        db.execute("UPDATE runner SET lease_expires_at = 1")
    assert "1 not heard of" in program("workflows", "sync-status", 1, "-o", "other_output").stdout
    assert program("jobs", "list", 1, "--state", "ready", "-f", "json").json, "it is due again"
    program(*command)
    assert not list(program.directory.glob("torc_output/undelivered_*"))
    assert "2 completed" in program("run", 1, "-q").stdout
    assert _counted(program, "began") == {"a": 1} and _counted(program, "ended") == {"a": 1, "last": 1}
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"


def test_runners_whose_leases_ended_while_no_server_was_there_are_not_given_up(program: Program) -> None:
    _create(program, "a", "b")
    runners = [program.start("worker", "1", "-q", "-j", "1", "-o", f"out{n}") for n in range(2)]
    wait_until(lambda: len(_counted(program, "began")) == 2, "both run")
    _kill_server(program)
    for name in "ab":
        _let(program, name)
    for n in range(2):
        wait_until(lambda n=n: _is_kept(program, f"out{n}"), "its end is written down")
    with closing(sqlite3.connect(program.directory / ".torc/torc.db")) as db, db:
        db.execute("UPDATE runner SET lease_expires_at = 1")
    program("server", "start", "--no-access-log")
    for runner in runners:
        out, err = runner.communicate(timeout=60)
        assert runner.returncode == 0, out + err
    assert _counted(program, "began") == {"a": 1, "b": 1}
    assert _counted(program, "ended") == {"a": 1, "b": 1, "last": 1}
