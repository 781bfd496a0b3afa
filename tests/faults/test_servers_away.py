"""Servers that are killed, and networks that are cut: no job is lost, no success that was recorded is run again."""

from __future__ import annotations

import collections
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import end_processes, states, store, wait_until
from tests.support.serving import Door
from tests.support.stores import check_all, open_sqlite
from tests.support.wire import Wire
from torc.api.base import Request
from torc.api.jobs import ListJobs
from torc.api.runs import EndRunner, GetRunnerSettings, ListResults, ListRunners, RegisterRunner, StartRun
from torc.client.connect import open_database
from torc.client.remote import Remote
from torc.client.server_file import read
from torc.errors import Unavailable
from torc.runner.local_run import RunOptions, run_here

pytestmark = pytest.mark.usefixtures("processes")

ROOT = Path(__file__).parents[2]


class _Server:
    """`torc server run` on a port of its own, to be killed and begun again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Begin it, and wait until it answers."""
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TORC_")},
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
        }
        argv = [sys.executable, "-m", "torc.cli.main", "server", "run", "--port", str(self.port), "--no-access-log"]
        self.process = subprocess.Popen(
            argv, cwd=self.folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers, "the server answers")

    def client(self) -> Remote:
        """Return a client that shows what is in `server.json`."""
        place = read(self.folder / ".torc")
        assert place is not None
        return Remote(self.url, token=place.token)

    def kill(self) -> None:
        """Kill it with -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "the server has ended"
        place = read(self.folder / ".torc")
        return place is not None and place.pid == self.process.pid


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    made = _Server(tmp_path)
    made.begin()
    yield made
    made.kill()
    end_processes()


def _runner(url: str, workflow_id: int, folder: Path, number: int) -> subprocess.Popen[str]:
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith("TORC_")},
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
    }
    argv = [
        sys.executable,
        "-m",
        "torc.cli.main",
        "worker",
        str(workflow_id),
        "--url",
        url,
        "-j",
        "2",
        "-o",
        f"out{number}",
        "-q",
    ]
    return subprocess.Popen(argv, cwd=folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _successes(folder: Path) -> collections.Counter[str]:
    path = folder / "successes"
    return collections.Counter(path.read_text().split() if path.exists() else [])


def _kill_again_and_again(server: _Server, num_jobs: int, kills: int, seed: int) -> None:
    folder, chance = server.folder, random.Random(seed)
    client = server.client()
    jobs = [
        {
            "name": f"j{n}",
            "command": "sleep 0.02; echo $TORC_JOB_NAME >> successes",
            **({"depends_on": [f"j{n - 40}"]} if n >= 40 else {}),
        }
        for n in range(num_jobs)
    ]
    number = store(client, folder, jobs)
    runners = [_runner(server.url, number, folder, n) for n in range(4)]
    try:
        wait_until(lambda: len(client.send(ListRunners(workflow_id=number)).items) == 4, "all runners are known")
        recorded: dict[str, int] = {}
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 0.6))
            server.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            server.begin()
            now = states(client, number)
            count = _successes(folder)
            assert {name: count[name] for name in recorded} == recorded, (
                "a job ran again after its success was recorded"
            )
            recorded = {name: count[name] for name, state in now.items() if state == "completed"}
            assert all(recorded.values()), "a success was recorded that never was"
        for runner in runners:
            out, _ = runner.communicate(timeout=120)
            # who leaves while the server is away for long cannot say how the run went, and says so
            assert runner.returncode == 0 or (runner.returncode == 5 and "does not answer" in out), out
    finally:
        for runner in runners:
            runner.kill()
            runner.communicate()
    assert set(states(client, number).values()) == {"completed"}
    assert set(_successes(folder)) == {f"j{n}" for n in range(num_jobs)}, "a job was lost"
    count = _successes(folder)
    assert {name: count[name] for name in recorded} == recorded
    client.close()
    opened = open_database(str(folder / ".torc/torc.db"))
    check_all(opened)
    opened.close()


def test_a_retry_that_waits_outlives_the_server(server: _Server, tmp_path: Path) -> None:
    rules = [{"exit_codes": [3], "delay_seconds": 4.0}]
    job = {
        "name": "a",
        "command": "date +%s.%N >> begun; [ -e again ] || { touch again; exit 3; }",
        "failure_handler": "h",
    }
    client = server.client()
    number = store(client, tmp_path, [job], failure_handlers=[{"name": "h", "rules": rules}])
    runner = _runner(server.url, number, tmp_path, 1)
    try:
        waiting = wait_until(
            lambda: [job.due_at for job in client.send(ListJobs(workflow_id=number)).items if job.due_at],
            "a retry waits",
        )
        server.kill()
        server.begin()
        out, _ = runner.communicate(timeout=120)
        assert runner.returncode == 0, out
    finally:
        runner.kill()
        runner.communicate()
    first, second = map(float, (tmp_path / "begun").read_text().split())
    assert second >= waiting[0] >= first + 4.0
    assert states(client, number) == {"a": "completed"}
    client.close()


def test_every_job_completes_though_the_server_is_killed_while_four_runners_work(server: _Server) -> None:
    _kill_again_and_again(server, num_jobs=300, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_every_job_completes_though_the_server_is_killed_many_times(server: _Server, seed: int) -> None:
    _kill_again_and_again(server, num_jobs=2000, kills=15, seed=seed)


# -- the wire ---------------------------------------------------------------------------------------------------


@pytest.fixture
def door(sqlite_file: Path, tmp_path: Path) -> Iterator[Door]:
    opened = open_sqlite(sqlite_file, tmp_path)
    made = Door(opened.store)
    yield made
    made.close()
    check_all(opened)
    opened.close()


@pytest.fixture
def wire(door: Door) -> Iterator[Wire]:
    host, port = door.url.removeprefix("http://").split(":")
    made = Wire((host, int(port)))
    yield made
    made.close()


class _CutAt(Remote):
    """Loses its wire before a kind of request reaches the server, or before the answer comes back, once."""

    def __init__(self, wire: Wire, kind: type[Request[Any]], *, is_answer: bool) -> None:
        super().__init__(wire.url)
        self._wire, self._kind, self._is_answer = wire, kind, is_answer
        self.has_cut = False

    def send(self, request: Request[Any], /) -> Any:
        if isinstance(request, self._kind) and not self.has_cut:
            self.has_cut = True
            if self._is_answer:
                self._wire.answers_left = 0
            else:
                self._wire.cut()
        return super().send(request)


class _Run:
    """A runner behind the wire, on a thread."""

    def __init__(self, wire: Wire, workflow_id: int, folder: Path, **options: Any) -> None:
        self.outcome: Any = None
        self.error: BaseException | None = None
        self._torc = options.pop("torc", None) or Remote(wire.url)
        options.setdefault("max_parallel_jobs", 2)
        self._options = RunOptions(output_dir=folder / "out", wait_seconds=0.5, **options)
        self._workflow_id = workflow_id
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.outcome = run_here(self._torc, self._workflow_id, self._options)
        except BaseException as error:  # noqa: BLE001 - told by `end`
            self.error = error
        finally:
            self._torc.close()

    def end(self) -> Any:
        """Wait for its end."""
        self._thread.join(120)
        assert not self._thread.is_alive(), "the runner does not end"
        if self.error is not None:
            raise self.error
        return self.outcome


@pytest.mark.parametrize("is_answer", [False, True], ids=["request", "answer"])
@pytest.mark.parametrize("kind", [ListRunners, GetRunnerSettings, StartRun, RegisterRunner])
def test_a_runner_whose_server_goes_away_before_it_is_known_waits_as_long_as_it_was_told_to(
    door: Door,
    wire: Wire,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: type[Request[Any]],
    is_answer: bool,
) -> None:
    number = store(door, tmp_path, [{"name": "a", "command": "echo a >> successes"}])
    (tmp_path / "out").mkdir()
    (tmp_path / f"out/undelivered_wf{number}_n77.json").touch()  # so that it asks who else works
    torc = _CutAt(wire, kind, is_answer=is_answer)
    run = _Run(wire, number, tmp_path, torc=torc, server_wait_seconds=100.0)
    wait_until(lambda: "Waiting up to" in caplog.text, "it waits")
    assert torc.has_cut
    wire.mend()
    outcome = run.end()
    assert outcome.workflow.state == "completed"
    assert _successes(tmp_path) == {"a": 1}
    known = door.send(ListRunners(workflow_id=number)).items
    assert [runner.id for runner in known if runner.end_reason == "finished"] == [outcome.runner_id]
    assert not [runner for runner in known if runner.is_active], "what was entered twice was taken off"


def test_a_runner_gives_up_when_its_server_stays_away_for_longer_than_it_was_told_to_wait(
    door: Door, wire: Wire, tmp_path: Path
) -> None:
    number = store(door, tmp_path, [{"name": "a", "command": "echo a >> successes"}])
    run = _Run(wire, number, tmp_path, torc=_CutAt(wire, RegisterRunner, is_answer=False), server_wait_seconds=0.5)
    with pytest.raises(Unavailable, match="waited"):
        run.end()
    assert not _successes(tmp_path)


def _kept(output_dir: Path) -> int:
    """Return how many ends of attempts are written down."""
    return sum(path.read_text().count('"wall_seconds"') for path in output_dir.glob("undelivered_*"))


def test_jobs_run_on_while_the_network_is_cut_and_are_reported_once_when_it_is_back(
    door: Door, wire: Wire, tmp_path: Path
) -> None:
    jobs = [
        {"name": n, "command": f"touch up_{n}; until [ -e go ]; do sleep 0.01; done; echo {n} >> successes"}
        for n in "ab"
    ]
    number = store(door, tmp_path, [*jobs, {"name": "c", "command": "echo c >> successes", "depends_on": ["a", "b"]}])
    run = _Run(wire, number, tmp_path)
    wait_until(lambda: (tmp_path / "up_a").exists() and (tmp_path / "up_b").exists(), "both run")
    wire.cut()
    (tmp_path / "go").touch()
    wait_until(lambda: sum(_successes(tmp_path).values()) == 2, "they end while nobody can be told")
    wait_until(lambda: _kept(tmp_path / "out") == 2, "their ends are written down")
    assert states(door, number)["c"] == "blocked"
    wire.mend()
    assert run.end().workflow.state == "completed"
    assert _successes(tmp_path) == {"a": 1, "b": 1, "c": 1}
    assert len(door.send(ListResults(workflow_id=number)).items) == 3


@pytest.mark.parametrize("allowed", [0, 1, 100, 400])
def test_an_answer_that_breaks_off_loses_no_job(door: Door, wire: Wire, tmp_path: Path, allowed: int) -> None:
    jobs = [{"name": f"j{n}", "command": f"sleep 0.02; echo j{n} >> successes"} for n in range(40)]
    number = store(door, tmp_path, jobs)
    run = _Run(wire, number, tmp_path)
    for done in (5, 15, 25):
        wait_until(lambda done=done: sum(_successes(tmp_path).values()) >= done, "some have run")
        wire.answers_left = allowed
        time.sleep(0.2)  # so long is the outage
        wire.mend()
    assert run.end().workflow.state == "completed"
    assert _successes(tmp_path) == {f"j{n}": 1 for n in range(40)}


def test_a_network_that_swallows_everything_for_a_while_is_borne(door: Door, wire: Wire, tmp_path: Path) -> None:
    jobs = [{"name": f"j{n}", "command": f"sleep 0.05; echo j{n} >> successes"} for n in range(20)]
    number = store(door, tmp_path, jobs)
    run = _Run(wire, number, tmp_path)
    wait_until(lambda: _successes(tmp_path), "some have run")
    wire.hold()
    time.sleep(1.0)  # so long is the outage
    wire.mend()
    assert run.end().workflow.state == "completed"
    assert _successes(tmp_path) == {f"j{n}": 1 for n in range(20)}


def test_a_runner_whose_jobs_were_given_to_another_learns_it_and_changes_nothing(
    door: Door, wire: Wire, tmp_path: Path
) -> None:
    command = "echo $$ >> pids; [ -e again ] && { echo second >> successes; exit; }; until [ -e go ]; do sleep 0.01; done; echo first >> successes"
    number = store(door, tmp_path, [{"name": "a", "command": command}])
    run = _Run(wire, number, tmp_path)
    wait_until((tmp_path / "pids").exists, "it runs")
    wire.cut()
    (lost,) = door.send(ListRunners(workflow_id=number)).items
    door.send(EndRunner(workflow_id=number, runner_id=lost.id, reason="lease ended"))
    (tmp_path / "again").touch()
    other = run_here(door, number, RunOptions(output_dir=tmp_path / "other", wait_seconds=0.2))
    assert other.workflow.state == "completed"
    (tmp_path / "go").touch()
    wire.mend()
    run.end()
    assert states(door, number) == {"a": "completed"}
    last = door.send(ListResults(workflow_id=number, latest_only=True)).items
    assert [(result.attempt, result.return_code) for result in last] == [(2, 0)]
    assert (tmp_path / "successes").read_text().split()[0] == "second"


def test_a_stopped_runner_that_cannot_tell_anybody_leaves_its_reports_to_the_next(
    server: _Server, tmp_path: Path
) -> None:
    client = server.client()
    number = store(
        client,
        tmp_path,
        [
            {"name": "a", "command": "touch up; until [ -e go ]; do sleep 0.01; done; echo a >> successes"},
            {"name": "b", "command": "true", "depends_on": ["a"]},
        ],
    )
    runner = _runner(server.url, number, tmp_path, 1)
    wait_until((tmp_path / "up").exists, "it runs")
    server.kill()
    (tmp_path / "go").touch()
    wait_until(lambda: _successes(tmp_path), "the job ends")
    wait_until(lambda: _kept(tmp_path / "out1") == 1, "its end is written down")
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=60)
    server.begin()
    again = _runner(server.url, number, tmp_path, 1)
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0, out
    assert states(client, number) == {"a": "completed", "b": "completed"}
    assert _successes(tmp_path) == {"a": 1}, "what was done was done once"
    client.close()
