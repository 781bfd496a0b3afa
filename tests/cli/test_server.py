"""`torc server`: begun, found by commands, looked at, ended, and found dead."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program
from tests.support.running import children, is_alive, wait_until
from tests.support.stores import empty_postgres
from torc.store.engine import Store

pytestmark = EMBEDDED
ONE = "name: one\njobs: [{name: a, command: 'torc user-data list 1 -f json > seen; echo $TORC_API_URL > url'}]\n"


@pytest.fixture
def served(program: Program) -> Iterator[Program]:
    """Yield the program in a directory with a server."""
    program("server", "start")
    yield program
    program("server", "stop", code=None)


def _place(program: Program) -> dict[str, object]:
    return dict(json.loads((program.directory / ".torc/server.json").read_text()))


def test_commands_below_find_the_server_and_do_their_work_through_it(served: Program) -> None:
    url = _place(served)["url"]
    done = served("run", served.write("one.yaml", ONE))
    assert "1 completed" in done.stdout
    assert (served.directory / "url").read_text().strip() == url, "jobs are told of the server, not of the database"
    assert (served.directory / "seen").read_text().strip() == "[]"
    log = (served.directory / ".torc/server.log").read_text()
    calls = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"CreateWorkflow", "Exchange"} <= {call["request"] for call in calls}
    below = served.directory / "deep/er"
    below.mkdir(parents=True)
    assert len(Program(below)("workflows", "list", "-f", "json", HOME=str(served.directory)).json) == 1


def test_nothing_that_lies_in_the_directory_is_imported(program: Program) -> None:
    for name in ("json", "typing", "socket", "torc"):
        program.write(f"{name}.py", f"open('planted', 'w').write({name!r})\nraise SystemExit(9)\n")
    program("server", "start")
    try:
        program("run", program.write("one.yaml", ONE))
        assert not (program.directory / "planted").exists()
    finally:
        program("server", "stop", code=None)


def test_status_tells_where_it_is_and_the_file_is_for_its_owner_alone(served: Program) -> None:
    shown = served("server", "status", "-f", "json").json
    assert (shown["url"], shown["answers"]) == (_place(served)["url"], "ready")
    assert stat.S_IMODE((served.directory / ".torc/server.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((served.directory / ".torc/server.log").stat().st_mode) == 0o600
    assert "ready" in served("server", "status").stdout


def test_a_second_server_is_refused(served: Program) -> None:
    assert "runs here already" in served("server", "start", code=4).stderr
    assert "runs here already" in served("server", "run", code=4).stderr


def test_stop_ends_it_and_commands_use_the_database_again(served: Program) -> None:
    served("create", served.write("one.yaml", ONE))
    pid = int(str(_place(served)["pid"]))
    assert "has ended" in served("server", "stop").stdout
    assert not is_alive(pid)
    assert not (served.directory / ".torc/server.json").exists()
    assert len(served("workflows", "list", "-f", "json").json) == 1
    assert "no server runs" in served("server", "status", code=3).stderr
    assert "no server runs" in served("server", "stop", code=3).stderr


def test_a_killed_server_is_noticed_and_the_database_used(served: Program) -> None:
    served("create", served.write("one.yaml", ONE))
    pid = int(str(_place(served)["pid"]))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it has ended")
    done = served("workflows", "list", "-f", "json")
    assert len(done.json) == 1
    assert "is no longer running" in done.stderr
    served("server", "start")
    assert len(served("workflows", "list", "-f", "json").json) == 1


def _url(program: Program) -> str:
    return str(_place(program)["url"])


def test_the_next_server_has_the_port_of_the_last_one_whether_that_was_killed_or_stopped(served: Program) -> None:
    url = _url(served)
    pid = int(str(_place(served)["pid"]))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it has ended")
    served("server", "start")
    assert _url(served) == url
    served("server", "stop")
    served("server", "start")
    assert _url(served) == url
    served("server", "stop")
    foreground = served.start("server", "run")
    wait_until((served.directory / ".torc/server.json").exists, "it is ready")
    assert _url(served) == url
    foreground.send_signal(signal.SIGINT)
    foreground.communicate(timeout=30)


def test_a_port_that_another_program_has_taken_is_told_and_another_one_is_used(served: Program) -> None:
    url = _url(served)
    port = int(url.rpartition(":")[2])
    served("server", "stop")
    with socket.create_server(("127.0.0.1", port)):
        done = served("server", "start")
        other = _url(served)
        assert other != url
        assert f"port {port}" in done.stderr and "--port" in done.stderr
        served("server", "stop")
        assert "cannot listen" in served("server", "start", "--port", port, code=5).stderr, "what is named is meant"


def test_one_that_begins_after_a_crash_is_opened_by_the_same_token_and_one_after_a_stop_by_another(
    served: Program,
) -> None:
    first = _place(served)
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    wait_until(lambda: not is_alive(int(str(first["pid"]))), "it has ended")
    served("server", "start")
    assert _place(served)["token"] == first["token"], "runners that knew it go on"
    served("server", "stop")
    served("server", "start")
    assert _place(served)["token"] != first["token"]


def test_elsewhere_the_token_is_named_by_a_file_and_goes_to_no_other_server(
    served: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url, elsewhere = str(_place(served)["url"]), Program(tmp_path_factory.mktemp("elsewhere"))
    refused = elsewhere("workflows", "list", "--url", url, code=4).stderr
    assert "TORC_TOKEN_FILE" in refused and "server.json" in refused
    shown = served("server", "status", "-f", "json").json
    assert str(_place(served)["token"]) not in json.dumps(shown) + served("server", "status").stdout
    assert shown["token_file"] in served("server", "status").stdout
    named = {"TORC_TOKEN_FILE": shown["token_file"]}
    assert elsewhere("workflows", "list", "--url", url, "-f", "json", **named).json == []
    with _Listener() as stranger:
        elsewhere("workflows", "list", "--url", stranger.url, code=5, **named)
        served("workflows", "list", "--url", stranger.url, code=5)
    assert len(stranger.heard) > 1 and b"uthorization" not in b"".join(stranger.heard)


class _Listener:
    """Hears what it is asked on a port, and answers nothing."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._hear, daemon=True)

    def _hear(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            with near:
                self.heard.append(near.recv(65536))

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


def test_a_token_in_a_file_of_ones_own_opens_the_server(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "secrets/token"
    program("server", "start", "--token-file", file)
    try:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().strip() == _place(program)["token"]
        url = str(_place(program)["url"])
        shown = {"Authorization": f"Bearer {file.read_text().strip()}"}
        assert urllib3.request("GET", f"{url}/api/v1/workflows", headers=shown).status == 200
        assert urllib3.request("GET", f"{url}/api/v1/workflows").status == 401
    finally:
        program("server", "stop")
    file.chmod(0o644)
    assert "other users own or can read" in program("server", "start", "--token-file", file, code=5).stderr


def test_an_open_or_planted_server_file_is_not_believed(served: Program) -> None:
    path = served.directory / ".torc/server.json"
    served("create", served.write("one.yaml", ONE))
    path.chmod(0o644)
    log = served.directory / ".torc/server.log"
    before = log.read_text()
    assert len(served("workflows", "list", "-f", "json").json) == 1
    assert log.read_text() == before, "the server was not asked"
    path.chmod(0o600)


def test_a_server_in_the_foreground_ends_with_ctrl_c_and_says_where_it_is(program: Program) -> None:
    process = program.start("server", "run")
    wait_until((program.directory / ".torc/server.json").exists, "it is ready")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "torc server" in err and "http://127.0.0.1:" in err
    assert not (program.directory / ".torc/server.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "0.0.0.0", "--no-auth"], 4, "could be reached by everybody"),
        (["--host", "0.0.0.0"], 4, "there are no users"),
        (["--port", "70000"], 2, "65535"),
        (["--tls-cert", "nothing.pem"], 2, "cannot use the certificate"),
        (["--db", "/nowhere/x.db"], 5, "cannot open the database"),
    ],
)
def test_mistakes_are_told_before_anything_runs(program: Program, arguments: list[str], code: int, said: str) -> None:
    assert said in program("server", "run", *arguments, code=code).stderr
    assert not (program.directory / ".torc/server.json").exists()


def test_start_tells_why_the_server_does_not_begin(program: Program) -> None:
    done = program("server", "start", "--tls-cert", "nothing.pem", code=5)
    assert "cannot use the certificate" in done.stderr and "server.log" in done.stderr


def test_a_port_that_is_taken_is_named(served: Program, tmp_path: Path) -> None:
    port = str(_place(served)["url"]).rpartition(":")[2]
    other = tmp_path / "other"
    other.mkdir()
    (other / ".torc").mkdir(mode=0o700)
    assert f"cannot listen on 127.0.0.1:{port}" in Program(other)("server", "run", "--port", port, code=5).stderr


def _certificate(folder: Path) -> Path:
    path = folder / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            str(folder / "key.pem"),
            "-out",
            str(path),
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
        ],
        check=True,
        capture_output=True,
    )
    return path


def test_with_a_certificate_it_speaks_https_and_strangers_certificates_are_refused(
    program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _certificate(program.directory)
    program("server", "start", "--tls-cert", "cert.pem", "--tls-key", "key.pem")
    try:
        url = str(_place(program)["url"])
        assert url.startswith("https://")
        assert (
            "1 completed"
            in program(
                "run", program.write("one.yaml", ONE.replace("torc user-data list 1 -f json > seen;", ""))
            ).stdout
        )
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        there = Program(elsewhere, url, program.directory / ".torc/server.json")
        assert "cannot establish a secure connection" in there("workflows", "list", code=5).stderr
        assert there("workflows", "list", "-f", "json", TORC_CA_FILE=str(program.directory / "cert.pem")).json
    finally:
        program("server", "stop")


def test_what_is_being_answered_is_answered_before_it_ends(served: Program) -> None:
    served(
        "create",
        served.write(
            "slow.yaml", "name: slow\njobs: [{name: a, command: 'touch up; until [ -e go ]; do sleep 0.01; done'}]\n"
        ),
    )
    runner = served.start("run", "1", "-q")
    wait_until((served.directory / "up").exists, "the job runs")
    began = time.monotonic()
    served("server", "stop")
    assert time.monotonic() - began < 60
    served("server", "start", "--port", str(_place_of_log(served)))
    (served.directory / "go").touch()
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == 0, out + err


def _place_of_log(program: Program) -> int:
    lines = (program.directory / ".torc/server.log").read_text().splitlines()
    return int(next(line for line in lines if "torc server" in line).partition("127.0.0.1:")[2].split()[0])


def test_several_processes_answer_for_postgresql_and_one_that_dies_is_begun_anew(
    program: Program, postgres_store: Store
) -> None:
    empty_postgres(postgres_store)
    url = postgres_store.engine.url.render_as_string(hide_password=False)
    program("server", "start", "--workers", 2, TORC_DB=url)
    try:
        pid = int(str(_place(program)["pid"]))
        first, second = wait_until(lambda: len(found := children(pid)) == 2 and found, "two processes answer")
        spec = program.write(
            "many.yaml",
            "name: many\nparameters: {i: '1:50'}\njobs: [{name: 'j{i}', use_parameters: [i], command: 'true'}]\n",
        )
        runners = [
            program.start("run" if n == 0 else "worker", spec if n == 0 else 1, "-q", "-o", f"out{n}") for n in range(1)
        ]
        for runner in runners:
            out, err = runner.communicate(timeout=60)
            assert runner.returncode == 0, out + err
        found = _counted(program)
        assert found["CreateWorkflow 201"] == found["StartRun 200"] == 1, "whichever process tells, it tells of all"
        assert found["Exchange 200"] >= 2
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(set(children(pid)) - {first, second}) == 1, "another one is begun")
        assert _counted(program)["CreateWorkflow 201"] == 1
        assert program("workflows", "list", "-f", "json").json[0]["state"] == "completed"
        assert program("workflows", "check", 1).stdout == "nothing is wrong\n"
        assert url not in (program.directory / ".torc/server.json").read_text()
        before = _url(program)
        others = children(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, others)), "the others end with the first, and hold no port")
        program("server", "start", "--workers", 2, TORC_DB=url)
        assert _url(program) == before
        pid = int(str(_place(program)["pid"]))
    finally:
        program("server", "stop")
    assert not is_alive(pid) and not is_alive(second)


def _counted(program: Program) -> dict[str, float]:
    place = _place(program)
    shown = {"Authorization": f"Bearer {place['token']}"}
    text = urllib3.request("GET", f"{place['url']}/metrics", headers=shown).data.decode()
    pattern = r'^torc_requests_total{kind="(\w+)",status="(\d+)"} (\S+)$'
    return {f"{kind} {status}": float(number) for kind, status, number in re.findall(pattern, text, re.MULTILINE)}


def test_several_processes_for_sqlite_are_refused(program: Program) -> None:
    assert "one writer" in program("server", "start", "--workers", 2, code=2).stderr
