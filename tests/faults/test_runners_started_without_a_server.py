"""Runners that start while their server is away: they wait for it, find it wherever it restarts, and give up in time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.running import is_alive, wait_until

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Return the program in a directory with a server and a workflow of one job."""
    (tmp_path / "here").mkdir()
    made = Program(tmp_path / "here")
    made("server", "start", "--no-access-log")
    made(
        "create",
        made.write("spec.json", json.dumps({"name": "w", "jobs": [{"name": "a", "command": "echo a >> ran"}]})),
    )
    yield made
    made("server", "stop", code=None)


def _server(program: Program) -> dict[str, Any]:
    return dict(json.loads((program.directory / ".torc/server.json").read_text()))


def _kill_server(program: Program) -> None:
    pid = _server(program)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the server has ended")


def _variables(program: Program) -> dict[str, str]:
    """Return what the batch scripts of an allocation say about the server."""
    file = str(program.directory / ".torc/server.json")
    return {"TORC_API_URL": _server(program)["url"], "TORC_TOKEN_FILE": file, "TORC_SERVER_FILE": file}


def _allocation(left_seconds: float = 3 * 3600.0) -> dict[str, str]:
    """Return what Slurm says in an allocation of one node that ends after a time."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n1",
        "SLURMD_NODENAME": "n1",
        "SLURM_JOB_END_TIME": str(int(time.time() + left_seconds)),
    }


@pytest.fixture
def elsewhere(tmp_path: Path) -> Program:
    """Return the program in a directory that knows of no server, as on another machine."""
    (tmp_path / "elsewhere").mkdir()
    return Program(tmp_path / "elsewhere")


def _read_until(runner: subprocess.Popen[str], words: str) -> str:
    assert runner.stderr is not None
    said = ""
    while words not in said:
        line = runner.stderr.readline()
        assert line, f"it ended without `{words}`: {said}"
        said += line
    return said


@pytest.mark.parametrize("port", ["the same", "another"])
@pytest.mark.parametrize("ended", ["killed", "stopped"])
def test_a_runner_in_an_allocation_waits_for_its_server_to_restart(
    program: Program, elsewhere: Program, ended: str, port: str
) -> None:
    variables = _variables(program)
    if ended == "killed":
        _kill_server(program)
    else:
        program("server", "stop")
    runner = elsewhere.start("slurm", "run-node", "1", **variables, **_allocation())
    said = _read_until(runner, "Waiting")
    assert variables["TORC_API_URL"] in said and "Waiting up to 10m 00s" in said
    number = variables["TORC_API_URL"].rpartition(":")[2] if port == "the same" else "0"
    program("server", "start", "--no-access-log", "--port", number)
    assert (_server(program)["url"] == variables["TORC_API_URL"]) == (port == "the same")
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == 0, out + err
    assert "the store answers, after" in err and "1 completed" in out
    assert (program.directory / "ran").read_text() == "a\n"


def test_a_server_that_moved_before_the_runner_starts_is_found_though_another_one_has_its_port(
    program: Program, elsewhere: Program, tmp_path: Path
) -> None:
    variables = _variables(program)
    _kill_server(program)
    (tmp_path / "other").mkdir()
    other = Program(tmp_path / "other")
    other("server", "start", "--no-access-log", "--port", variables["TORC_API_URL"].rpartition(":")[2])
    try:
        program("server", "start", "--no-access-log")
        assert _server(program)["url"] != variables["TORC_API_URL"]
        runner = elsewhere("slurm", "run-node", "1", **variables, **_allocation())
    finally:
        other("server", "stop")
    assert "1 completed" in runner.stdout and "was restarted at" in runner.stderr


def test_a_server_that_does_not_come_back_is_given_up(program: Program, elsewhere: Program) -> None:
    variables = _variables(program)
    _kill_server(program)
    named = elsewhere("slurm", "run-node", "1", "--server-wait", "1s", code=5, **variables, **_allocation())
    assert "Waiting up to" not in named.stderr or "(waited " in named.stderr
    assert "--server-wait TIME" in named.stderr
    as_set = elsewhere("slurm", "run-node", "1", code=5, TORC_RUN_SERVER_WAIT="6s", **variables, **_allocation())
    assert "Waiting up to" in as_set.stderr and "(waited " in as_set.stderr


def test_nobody_waits_beyond_the_time_in_which_an_allocation_can_run_jobs(program: Program, elsewhere: Program) -> None:
    variables = _variables(program)
    _kill_server(program)
    short = elsewhere("slurm", "run-node", "1", code=5, **variables, **_allocation(12.0))
    assert "does not answer" in short.stderr


def test_a_worker_over_ssh_waits_and_one_by_hand_says_how_to(program: Program, elsewhere: Program) -> None:
    variables = {"TORC_API_URL": _server(program)["url"], "TORC_TOKEN": _server(program)["token"]}
    _kill_server(program)
    by_hand = elsewhere("worker", "1", "-q", code=5, **variables)
    assert "Waiting" not in by_hand.stderr and "--server-wait TIME waits for it" in by_hand.stderr
    folder = ("--directory", str(program.directory))
    over_ssh = elsewhere.start("worker", "1", "-q", "--over-ssh", *folder, **variables)
    _read_until(over_ssh, "Waiting up to 10m 00s")
    program("server", "start", "--no-access-log")
    out, err = over_ssh.communicate(timeout=60)
    assert over_ssh.returncode == 0 and "1 completed" in out, out + err


def test_what_is_wrong_for_good_is_not_waited_for(program: Program, elsewhere: Program) -> None:
    variables = _variables(program)
    missing = elsewhere("slurm", "run-node", "99", code=3, **variables, **_allocation())
    assert "there is no workflow 99" in missing.stderr and "Waiting" not in missing.stderr
    wrong = {"TORC_API_URL": variables["TORC_API_URL"], "TORC_TOKEN": "no-such-token"}
    refused = elsewhere("slurm", "run-node", "1", code=4, **wrong, **_allocation())
    assert "Waiting" not in refused.stderr


def test_what_asks_another_server_by_name_is_not_sent_to_its_own(program: Program, elsewhere: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = f"http://127.0.0.1:{free.getsockname()[1]}"
    away = elsewhere("workflows", "list", "--url", other, code=5, **_variables(program))
    assert f"{other} does not answer" in away.stderr
