"""Several runners on one database: each job runs once, whoever takes it, and who comes late or leaves early does no harm."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from tests.support.running import run, start_process, states, store, wait_until
from torc.api.runs import ListResults
from torc.client.embedded import Embedded

pytestmark = pytest.mark.usefixtures("processes")

MARK = "echo $TORC_JOB_NAME >> ran"


def test_each_job_runs_once_with_three_runners(local: Embedded, tmp_path: Path) -> None:
    jobs = [
        {"name": f"j{n}", "command": f"{MARK}; sleep 0.01", **({"depends_on": [f"j{n - 100}"]} if n >= 100 else {})}
        for n in range(300)
    ]
    jobs[0]["command"] = f"{MARK}; until [ -e go ]; do sleep 0.01; done"
    number = store(local, tmp_path, jobs)
    runners = [start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=2) for _ in range(3)]
    wait_until(lambda: len(list((tmp_path / "out").glob("sessions*"))) == 3, "three runners have begun")
    (tmp_path / "go").touch()
    for process in runners:
        out, err = process.communicate(timeout=120)
        assert '"state"' in out, err
    assert set(states(local, number).values()) == {"completed"}
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(f"j{n}" for n in range(300))
    attempts = local.send(ListResults(workflow_id=number, limit=1000)).items
    assert {result.attempt for result in attempts} == {1}


def test_one_of_two_runners_may_be_killed_and_the_next_command_takes_up_its_jobs(
    local: Embedded, tmp_path: Path
) -> None:
    held = "[ -e again ] && exit; echo $TORC_RUN_ID >> held; sleep 1000"
    number = store(
        local,
        tmp_path,
        [{"name": "held", "command": held}, {"name": "other", "command": "until [ -e go ]; do sleep 0.01; done"}],
    )
    first = start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=1)
    wait_until((tmp_path / "held").exists, "the first one works")
    second = start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=1)
    wait_until(lambda: states(local, number)["other"] == "running", "the second one works")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (tmp_path / "again").touch()
    third = start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=1)
    (tmp_path / "go").touch()
    out, err = third.communicate(timeout=60)
    assert '"dead": 1' in out, err
    second.communicate(timeout=60)
    assert set(states(local, number).values()) == {"completed"}


def test_two_runs_in_one_process_do_not_touch_each_other(local: Embedded, tmp_path: Path) -> None:
    numbers = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        numbers.append(
            store(local, folder, [{"name": f"j{n}", "command": f"setsid sleep 0.1 & wait; {MARK}"} for n in range(20)])
        )
    threads = [
        threading.Thread(target=run, args=(local, number, tmp_path), kwargs={"max_parallel_jobs": 2})
        for number in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in numbers:
        assert set(states(local, number).values()) == {"completed"}
