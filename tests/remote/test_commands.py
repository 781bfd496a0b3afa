"""`torc remote` as people call it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.remote.conftest import Far
from tests.support.program import PROGRAM, Program
from tests.support.running import states, wait_until
from torc.client.credentials import write_token

LONG = {"name": "long", "command": "exec sleep 1000"}


@pytest.fixture
def program(far: Far, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Return the program, which asks the server and has the configuration of `net`."""
    monkeypatch.setenv("SSH_AUTH_SOCK", "")
    here = far.folder / "here"
    here.mkdir()
    (here / ".config/torc").mkdir(parents=True)
    write_token(far.folder / "token", far.store.variables["TORC_TOKEN"])
    return Program(here, far.store.name, far.folder / "token")


def ssh_config(far: Far) -> dict[str, str]:
    return {"TORC_SSH_CONFIG": str(far.net.config)}


def test_machines_are_listed_with_what_is_special_to_each(program: Program, far: Far) -> None:
    wf = far.workflow(LONG)
    program.write(
        "machines",
        "# the large ones\nme@node1:2222 num_cpus=64 memory=256g label.rack=7  # new\n\n"
        "[::1] 'directory=/data/my work' torc=/opt/torc label.rack='7 b'\n",
    )
    added = program(
        "remote",
        "add-workers",
        wf,
        "node0",
        "node9 num_gpus=0",
        "--file",
        "machines",
        "--num-cpus",
        2,
        "--label",
        "site=x",
        "-f",
        "json",
    ).json
    shown = program("remote", "list-workers", wf, "-f", "json").json
    assert shown == added and [worker["host"] for worker in shown] == ["node0", "node9", "me@node1:2222", "[::1]"]
    assert [worker["num_cpus"] for worker in shown] == [2, 2, 64, 2]
    assert [worker["labels"] for worker in shown] == [
        {"site": "x"},
        {"site": "x"},
        {"site": "x", "rack": "7"},
        {"site": "x", "rack": "7 b"},
    ]
    assert (shown[1]["num_gpus"], shown[2]["memory_bytes"], shown[3]["directory"]) == (0, 256 << 30, "/data/my work")
    program("remote", "remove-worker", wf, "node9", "[::1]")
    assert "node9" not in program("remote", "list-workers", wf).stdout
    assert "no remote worker" in program("remote", "remove-worker", wf, "node9", code=3).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-oProxyCommand=touch x"], "no such option"),
        (["--", "-oProxyCommand=touch"], "not a valid host"),
        (["a", "a"], "twice"),
        ([""], "empty"),
        (["a b"], "NAME=VALUE"),
        (["a colour=red"], "colour"),
        (["a num_cpus=x"], "num_cpus"),
        (["a memory=x"], "memory"),
        (["a num_cpus=0"], "num_cpus"),
        ([], "no machine"),
        (["a 'b"], "quotation"),
        (["--file", "missing"], "missing"),
        (["--file", "bad"], "bad:2"),
        (["a", "--label", "b"], "NAME=VALUE"),
        (["a", "--torc", "-c"], "torc"),
        (["a label.x=1", "b label.x y=2"], "label"),
    ],
    ids=str,
)
def test_a_list_with_something_wrong_is_refused_as_a_whole(
    program: Program, far: Far, arguments: list[str], said: str
) -> None:
    wf = far.workflow(LONG)
    program.write("bad", "good\n$(id)\n")
    done = program("remote", "add-workers", wf, *arguments, code=2)
    assert said in done.stderr.lower() or said in done.stderr
    assert program("remote", "list-workers", wf, "-f", "json").json == []


def test_workers_are_started_looked_at_stopped_and_their_logs_brought(program: Program, far: Far) -> None:
    wf = far.workflow({"name": "long", "command": "echo begun; exec sleep 1000"})
    program("remote", "add-workers", wf, "far", "behind", "-j", 1)
    tried = program("remote", "run", wf, "--dry-run", "-f", "json", **ssh_config(far)).json
    assert [(report["state"], report["is_ok"]) for report in tried] == [("ready", True)] * 2
    assert [r["state"] for r in program("remote", "status", wf, "-f", "json", **ssh_config(far)).json] == [
        "never_started"
    ] * 2
    program("remote", "run", wf, "--parallel", 1, "--time-limit", "1h", **ssh_config(far))
    wait_until(lambda: states(far.torc, wf) == {"long": "running"}, "the job runs")
    found = program("remote", "status", wf, "-f", "json", **ssh_config(far)).json
    assert [(r["state"], r["runner_is_active"]) for r in found] == [("running", True)] * 2
    only = program("remote", "status", wf, "--host", "behind", "-f", "json", **ssh_config(far)).json
    assert [report["host"] for report in only] == ["behind"]
    brought = program("remote", "collect-logs", wf, "-o", "logs", "-f", "json", **ssh_config(far)).json
    assert all(told["is_ok"] for told in brought)
    assert {path.name for path in (program.directory / "logs").iterdir()} == {"far", "behind"}
    assert "running" in program("remote", "status", wf, **ssh_config(far)).stdout
    stopped = program("remote", "stop", wf, "-f", "json", **ssh_config(far)).json
    assert [(r["state"], r["runner_is_active"]) for r in stopped] == [("ended", False)] * 2


def test_what_fails_is_told_with_what_to_do_and_the_exit_code(program: Program, far: Far) -> None:
    wf = far.workflow(LONG)
    program("remote", "add-workers", wf, "nowhere.invalid")
    for command in (["run"], ["run", "--dry-run"], ["status"], ["stop"], ["collect-logs"]):
        done = program("remote", command[0], wf, *command[1:], code=1, **ssh_config(far))
        assert "nowhere.invalid" in done.stdout and "hint: check the name" in done.stderr, command
        told = program("remote", command[0], wf, *command[1:], "-f", "json", code=1, **ssh_config(far))
        assert [report["kind"] for report in told.json] == ["unresolved"]


def test_workers_may_have_a_token_of_their_own(program: Program, far: Far) -> None:
    wf = far.workflow({"name": "a", "command": "env > environ.txt; cat $TORC_TOKEN_FILE > token.txt"})
    far.add(wf, "far")
    refused = program("remote", "run", wf, code=1, **ssh_config(far), TORC_WORKER_TOKEN="for-workers")
    assert "not a token of this server" in refused.stdout + refused.stderr, (
        "workers show it, and not what this command shows"
    )
    program("remote", "run", wf, **ssh_config(far), TORC_WORKER_TOKEN=far.store.variables["TORC_TOKEN"])
    far.wait_for(wf, "completed")
    assert far.store.variables["TORC_TOKEN"] not in (far.folder / "environ.txt").read_text()
    assert (far.folder / "token.txt").read_text().startswith("torcjob_"), "jobs get one of their own"


def test_a_workflow_without_machines_and_a_missing_configuration_are_told(program: Program, far: Far) -> None:
    wf = far.workflow(LONG)
    assert "add-workers" in program("remote", "run", wf, code=2).stderr
    far.add(wf, "far")
    assert "no file" in program("remote", "status", wf, "--ssh-config", "missing", code=2).stderr
    assert "--timeout" in program("remote", "status", wf, "--timeout", "soon", code=2).stderr


@pytest.mark.usefixtures("processes")
def test_a_database_that_only_this_machine_has_is_refused_with_the_way_out(tmp_path: Path) -> None:
    program = Program(tmp_path)
    wf = program("create", program.write("w.yaml", "name: w\njobs: [{name: a, command: 'true'}]\n"), "-f", "json").json[
        "id"
    ]
    program("remote", "add-workers", wf, "far")
    assert "torc server start" in program("remote", "run", wf, code=2).stderr


def test_ctrl_c_ends_the_wait_at_once_and_leaves_no_ssh(program: Program, far: Far, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 1000\n")
    slow.chmod(0o755)
    wf = far.workflow(LONG)
    far.add(wf, "far", torc=str(slow))
    running = subprocess.Popen(
        [*PROGRAM, "remote", "run", str(wf), "--timeout", "15s"],
        cwd=program.directory,
        env=program.environ(**ssh_config(far)),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(begun.exists, "the machine is asked")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in said, said
    assert not [entry for entry in Path("/proc").glob("[0-9]*") if session_of(entry) == running.pid]


def session_of(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return None


def test_help_is_there_for_every_command(program: Program) -> None:
    for command in ("add-workers", "list-workers", "remove-worker", "run", "status", "stop", "collect-logs"):
        assert f"torc remote {command}" in program("remote", command, "--help").stdout


def test_workers_of_a_server_with_accounts_can_run_their_workflow_and_nothing_else(program: Program, far: Far) -> None:
    own = Program(program.directory)
    own("users", "create", "ada", "--password-stdin", stdin="correct horse\n")
    own("server", "start", "--auth")
    try:
        own("login", "--user", "ada", "--password-stdin", stdin="correct horse\n")
        look = "torc whoami -f json > me; torc workflows list -f json > seen; torc workflows cancel 1 2> refused"
        spec = {"name": "w", "jobs": [{"name": "a", "command": f"{look}; true"}]}
        wf = own("create", own.write("w.json", json.dumps(spec)), "-f", "json").json["id"]
        own("create", own.write("other.json", json.dumps(spec)))
        own("remote", "add-workers", wf, "far")
        own("remote", "run", wf, **ssh_config(far))
        own("logout")
        wait_until(lambda: own("workflows", "get", wf, "-f", "json").json["state"] == "completed", "it is done")
        me = json.loads((program.directory / "me").read_text())
        assert (me["user"], me["scope"], me["workflow_id"]) == ("ada", "job", wf), "its jobs are given less than it has"
        assert [found["id"] for found in json.loads((program.directory / "seen").read_text())] == [wf]
        assert "needs the right to write" in (program.directory / "refused").read_text()
        ended = lambda: own("remote", "status", wf, "-f", "json", **ssh_config(far)).json[0]["state"] == "ended"  # noqa: E731
        wait_until(ended, "the worker has ended")
    finally:
        own("server", "stop")


def test_workers_check_the_certificate_of_a_server_by_its_authority_and_get_nothing_of_its_key(
    program: Program, far: Far
) -> None:
    own = Program(program.directory)
    both = program.directory / "both.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "-",
            "-out",
            "-",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    ).stdout
    both.write_bytes(made)
    assert b"PRIVATE KEY" in made
    own("server", "start", "--tls-cert", "both.pem")
    try:
        spec = own.write("w.yaml", "name: w\njobs: [{name: a, command: 'torc workflows list -f json > seen'}]\n")
        wf = own("create", spec, "-f", "json").json["id"]
        own("remote", "add-workers", wf, "far")
        own("remote", "run", wf, **ssh_config(far))
        wait_until(lambda: own("workflows", "get", wf, "-f", "json").json["state"] == "completed", "it is done")
        assert '"name": "w"' in (program.directory / "seen").read_text()
        (authority,) = far.net.state.glob("torc/workers/*/ca.pem")
        assert "BEGIN CERTIFICATE" in authority.read_text() and "PRIVATE" not in authority.read_text()
        ended = lambda: own("remote", "status", wf, "-f", "json", **ssh_config(far)).json[0]["state"] == "ended"  # noqa: E731
        wait_until(ended, "the worker has ended")
    finally:
        own("server", "stop")
