"""A server whose database or disk fails under it, and runners whose clocks, networks or memories are wrong."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import start_postgres
from tests.support.program import Program
from tests.support.running import states, store, wait_until
from tests.support.serving import Door
from tests.support.stores import check_all, open_sqlite
from tests.support.workflows import make
from torc.api.runs import Assignment, Exchange, Finished, ListResults, NodeCapacity, RegisterRunner, StartRun
from torc.client.embedded import Embedded
from torc.client.remote import Remote
from torc.runner.local_run import RunOptions, run_here
from torc.store.engine import open_store

pytestmark = pytest.mark.usefixtures("processes")

ROOM = NodeCapacity(num_cpus=4, memory_bytes=1 << 40)


@pytest.fixture
def door(sqlite_file: Path, tmp_path: Path) -> Iterator[Door]:
    opened = open_sqlite(sqlite_file, tmp_path)
    made = Door(opened.store)
    yield made
    made.close()
    check_all(opened)
    opened.close()


def _successes(folder: Path) -> list[str]:
    path = folder / "successes"
    return path.read_text().split() if path.exists() else []


def _run_beside(url: str, number: int, folder: Path) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def work() -> None:
        torc = Remote(url)
        try:
            ended.append(
                run_here(torc, number, RunOptions(output_dir=folder / "out", wait_seconds=0.3, max_parallel_jobs=2))
            )
        except BaseException as error:  # noqa: BLE001 - told by the test
            ended.append(error)
        torc.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, ended


def test_a_postgresql_that_crashes_and_comes_back_under_the_server_loses_nothing(tmp_path: Path) -> None:
    cluster = start_postgres()
    opened = Embedded(open_store(cluster.url()), "user:tester")
    door = Door(opened.store)
    try:
        jobs = [{"name": f"j{n}", "command": f"sleep 0.03; echo j{n} >> successes"} for n in range(60)]
        number = store(door, tmp_path, jobs)
        thread, ended = _run_beside(door.url, number, tmp_path)
        for done in (10, 30):
            wait_until(lambda done=done: len(_successes(tmp_path)) >= done, "some have run")
            cluster.restart()
        thread.join(40)
        assert ended and not isinstance(ended[0], BaseException), ended
        assert ended[0].workflow.state == "completed"
        # synchronous_commit is off here, so a crash may forget the last moments: those jobs ran again, and none was lost
        assert set(_successes(tmp_path)) == {f"j{n}" for n in range(60)}
        check_all(opened)
    finally:
        door.close()
        opened.close()
        cluster.stop()


def test_a_runner_that_starts_while_postgresql_is_away_waits_for_it(tmp_path: Path) -> None:
    cluster = start_postgres()
    program = Program(tmp_path)
    runner = None
    try:
        spec = {"name": "w", "jobs": [{"name": "a", "command": "echo a >> successes"}]}
        program("create", program.write("spec.json", json.dumps(spec)), TORC_DB=cluster.url())
        cluster.kill()
        told = program("worker", 1, "--server-wait", "1s", code=5, TORC_DB=cluster.url()).stderr
        assert "does not answer" in told and "waited" in told and "--server-wait" in told
        runner = program.start("worker", "1", "--server-wait", "5m", "-q", TORC_DB=cluster.url())
        assert runner.stderr is not None
        said = runner.stderr.readline()
        assert "does not answer" in said and "Waiting up to 5m" in said
        assert not _successes(tmp_path)
        cluster.begin()
        out, err = runner.communicate(timeout=120)
        assert runner.returncode == 0 and "1 completed" in out, out + err
        assert "the store answers" in err
        assert _successes(tmp_path) == ["a"]
    finally:
        if runner is not None:
            runner.kill()
            runner.communicate()
        cluster.stop()


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def test_a_full_disk_under_the_server_is_told_and_borne(sqlite_file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode:
        pytest.skip("this user may not mount")
    try:
        shutil.copyfile(sqlite_file, small / "torc.db")
        opened = Embedded(open_store(small / "torc.db"), "user:tester")
        door = Door(opened.store)
        jobs = [{"name": f"j{n}", "command": f"sleep 0.02; echo j{n} >> successes"} for n in range(60)]
        number = store(door, tmp_path, jobs)
        thread, ended = _run_beside(door.url, number, tmp_path)
        wait_until(lambda: len(_successes(tmp_path)) >= 5, "some have run")
        _fill(small / "filler")
        at = len(_successes(tmp_path))
        wait_until(lambda: len(_successes(tmp_path)) > at or ended, "the jobs in hand run on")
        time.sleep(0.5)
        (small / "filler").unlink(missing_ok=True)
        thread.join(40)
        assert ended and not isinstance(ended[0], BaseException), ended
        assert ended[0].workflow.state == "completed"
        assert sorted(_successes(tmp_path)) == sorted(f"j{n}" for n in range(60)), "each ran once"
        door.close()
        check_all(opened)
        opened.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def _runner(door: Door, workflow_id: int, number: int = 1) -> int:
    request = RegisterRunner(
        workflow_id=workflow_id, host=f"n{number}", pid=number, process_started="1", boot_id="b", capacity=ROOM
    )
    return door.send(request).id


def _exchange(door: Door, workflow_id: int, runner_id: int, limit: int = 0, **fields: Any) -> list[Assignment]:
    request = Exchange(workflow_id=workflow_id, runner_id=runner_id, free=ROOM, total=ROOM, limit=limit, **fields)
    return door.send(request).assignments


def _finished(job: Assignment, skew: float = 0.0, **fields: Any) -> Finished:
    now = time.time() + skew
    fields = {"outcome": "succeeded", "return_code": 0, **fields}
    return Finished(
        job_id=job.job_id, attempt=job.attempt, started_at=now - 1, ended_at=now, wall_seconds=1.0, **fields
    )


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_runner_whose_clock_is_an_hour_off_does_its_work_and_keeps_its_lease(door: Door, skew: float) -> None:
    number = make(door, "a b -> c").id
    door.send(StartRun(workflow_id=number))
    wrong, right = _runner(door, number, 1), _runner(door, number, 2)
    (a,) = _exchange(door, number, wrong, limit=1)
    (b,) = _exchange(door, number, right, limit=1)
    _exchange(door, number, wrong, finished=[_finished(a, skew)])
    _exchange(door, number, right, finished=[_finished(b)])
    (c,) = _exchange(door, number, wrong, limit=1)
    _exchange(door, number, wrong, finished=[_finished(c, skew)])
    assert set(states(door, number).values()) == {"completed"}
    found = door.send(ListResults(workflow_id=number)).items
    assert [result.wall_seconds for result in found] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(8))
def test_reports_that_come_twice_late_and_in_another_order_change_nothing_twice(door: Door, seed: int) -> None:
    chance = random.Random(seed)
    number = make(door, "a b c d -> e f -> g").id
    door.send(StartRun(workflow_id=number))
    runners = [_runner(door, number, n) for n in range(3)]
    sent: list[tuple[int, Finished]] = []
    waiting: list[tuple[int, Finished]] = []
    for _ in range(200):
        runner = chance.choice(runners)
        for job in _exchange(door, number, runner, limit=chance.randint(0, 2)):
            waiting.append((runner, _finished(job)))
        if waiting and chance.random() < 0.6:
            report = waiting.pop(chance.randrange(len(waiting)))
            sent.append(report)
            _exchange(door, number, report[0], finished=[report[1]])
        if sent and chance.random() < 0.8:
            runner, report_again = chance.choice(sent)
            changed = report_again.model_copy(update={"outcome": "failed", "return_code": 1})
            _exchange(door, number, runner, finished=[chance.choice([report_again, changed])])
    assert set(states(door, number).values()) == {"completed"}
    results = door.send(ListResults(workflow_id=number)).items
    assert sorted(result.job_name for result in results) == list("abcdefg"), "each result is there once"
    assert {result.return_code for result in results} == {0}
