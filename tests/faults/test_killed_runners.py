"""Runners that are killed with -9 at any moment: no job is lost, none runs beside itself, none runs again once it is done."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.running import (
    children,
    is_alive,
    kill_with_spawner,
    results,
    run,
    spawners,
    start_process,
    states,
    store,
    wait_until,
)
from torc.api.runs import ListRunners
from torc.client.embedded import Embedded
from torc.runner import dead_runners
from torc.runner.dead_runners import Sessions
from torc.runner.exchange_policy import REPORTS_AT_ONCE

pytestmark = pytest.mark.usefixtures("processes")

#: says so when another copy of it runs; a lock ends with its holder, however that ended
JOB = (
    "exec 9> lock_$TORC_JOB_NAME; flock -n 9 || echo $TORC_JOB_NAME >> overlaps; "
    "sleep 0.00$((TORC_JOB_ID % 10)); echo $TORC_JOB_NAME >> successes"
)


def _successes(folder: Path) -> collections.Counter[str]:
    path = folder / "successes"
    return collections.Counter(path.read_text().split() if path.exists() else [])


def _kill_again_and_again(torc: Embedded, folder: Path, num_jobs: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    jobs = [
        {"name": f"j{n}", "command": JOB, **({"depends_on": [f"j{n - 50}"]} if n >= 50 else {})}
        for n in range(num_jobs)
    ]
    number = store(torc, folder, jobs)
    recorded: dict[str, int] = {}
    killed = 0
    while killed < kills and set(states(torc, number).values()) != {"completed"}:
        process = start_process(folder / "torc.db", number, folder / "out", max_parallel_jobs=4)
        begun = list((folder / "out").glob("sessions_*"))
        wait_until(
            lambda begun=begun, process=process: (
                process.poll() is not None or set((folder / "out").glob("sessions_*")) - set(begun)
            ),
            "the runner has begun",
        )
        time.sleep(chance.uniform(0.0, 0.25))
        if chance.random() < 0.5:
            kill_with_spawner(process)
        else:
            process.kill()
        process.communicate()
        killed += 1
        done = [name for name, state in states(torc, number).items() if state == "completed"]
        assert set(recorded) <= set(done), "what was done is no longer done"
        count = _successes(folder)
        assert {name: count[name] for name in recorded} == recorded, "a job ran again after its success was recorded"
        recorded = {name: count[name] for name in done}
        assert all(recorded.values()), "a success was recorded that never was"
    outcome = run(torc, number, folder)
    assert outcome.workflow.state == "completed"
    count = _successes(folder)
    assert {name: count[name] for name in recorded} == recorded
    assert set(count) == {f"j{n}" for n in range(num_jobs)}, "a job was lost"
    assert not (folder / "overlaps").exists(), "two copies of a job ran at once"
    # four jobs that ran, and what had ended since the last report
    most = killed * (4 + REPORTS_AT_ONCE)
    assert sum(count.values()) - num_jobs <= most, "far more was run again than can have been running"


def test_every_job_completes_once_however_often_the_runner_is_killed(local: Embedded, tmp_path: Path) -> None:
    _kill_again_and_again(local, tmp_path, num_jobs=500, kills=10, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_job_completes_once_after_hundreds_of_kills(local: Embedded, tmp_path: Path, seed: int) -> None:
    _kill_again_and_again(local, tmp_path, num_jobs=500, kills=40, seed=seed)


ESCAPES = {
    "plainly": "echo $$ > pid; exec sleep 1000",
    "in a session of its own": "setsid sh -c 'echo $$ > pid; exec sleep 1000' & wait",
    "without an environment": "exec env -i /bin/sh -c 'echo $$ > pid; exec sleep 1000'",
    "behind a leader that has ended": "(echo $(exec sh -c 'echo $PPID') > pid; exec env -i sleep 1000) & sleep 1000",
    "deaf": "trap '' TERM INT HUP; echo $$ > pid; while :; do sleep 1; done",
}


@pytest.mark.parametrize("how", ESCAPES)
def test_what_a_killed_runner_left_running_is_ended_before_its_job_runs_again(
    local: Embedded, tmp_path: Path, how: str
) -> None:
    command = f"[ -e again ] && exit; {ESCAPES[how]}"
    number = store(local, tmp_path, [{"name": "a", "command": command}])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until((tmp_path / "pid").exists, "the job runs")
    left = int(wait_until(lambda: (tmp_path / "pid").read_text().strip(), "the job says who it is"))
    sessions = tmp_path / "out" / f"sessions_wf{number}_n1.txt"
    wait_until(lambda: sessions.exists() and sessions.read_text(), "the runner has written down the session")
    kill_with_spawner(process)
    process.communicate()
    assert is_alive(left)
    (tmp_path / "again").touch()
    outcome = run(local, number, tmp_path)
    assert (outcome.dead_runners, outcome.workflow.state) == (1, "completed")
    assert not is_alive(left)


@pytest.mark.parametrize("how", ["plainly", "behind a leader that has ended", "deaf"])
def test_jobs_end_with_their_runner_before_anybody_runs_again(local: Embedded, tmp_path: Path, how: str) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": ESCAPES[how]}])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until((tmp_path / "pid").exists, "the job runs")
    left = int(wait_until(lambda: (tmp_path / "pid").read_text().strip(), "the job says who it is"))
    process.kill()
    process.communicate()
    wait_until(lambda: not is_alive(left), "the job has ended with its runner")


def test_a_killed_spawner_ends_its_job_with_a_reason_and_leaves_nothing(local: Embedded, tmp_path: Path) -> None:
    command = "(echo $$ > pid; exec sleep 1000)"
    number = store(local, tmp_path, [{"name": "a", "command": command}])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    left = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the job runs"))
    (starter,) = (pid for pid in spawners(process) if children(pid))
    os.kill(starter, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and '"state": "failed"' in out, err
    assert not is_alive(left)
    result = results(local, number)["a"]
    assert (result.reason, result.return_code) == ("parent_killed", 137)


def test_a_living_runner_and_its_jobs_are_left_alone(local: Embedded, tmp_path: Path) -> None:
    jobs = [
        {"name": "a", "command": "echo x >> started; until [ -e stop ]; do sleep 0.01; done"},
        {"name": "b", "command": "true", "depends_on": ["a"]},
    ]
    number = store(local, tmp_path, jobs)
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until((tmp_path / "started").exists, "the job runs")
    second = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until(
        lambda: len(local.send(ListRunners(workflow_id=number, active_only=True)).items) == 2, "both runners are known"
    )
    (tmp_path / "stop").touch()
    for each in (process, second):
        out, err = each.communicate(timeout=60)
        assert '"dead": 0' in out, err
    assert (tmp_path / "started").read_text() == "x\n"
    assert set(states(local, number).values()) == {"completed"}


def test_a_process_that_got_the_number_of_a_session_of_long_ago_is_not_touched(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as innocent:
        sessions = Sessions(tmp_path, 1, 1)
        sessions.path.write_text(f"{innocent.pid} 1.00\n")
        dead_runners.end_processes("1.0", sessions.path)
        assert innocent.poll() is None
        innocent.kill()
    sessions.close()


def test_the_runners_own_death_by_a_closed_terminal_is_a_clean_stop(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "[ -e again ] && exit; echo $$ > pid; exec sleep 1000"}])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    left = int(
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "the job runs")
    )
    os.kill(process.pid, signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert '"stopped": true' in out, err
    assert not is_alive(left)
    (tmp_path / "again").touch()
    assert run(local, number, tmp_path).workflow.state == "completed"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_lets_jobs_save_that_can(
    local: Embedded, tmp_path: Path, stop: signal.Signals
) -> None:
    saver = "trap 'echo saved > saved; exit 0' TERM; [ -e again ] && exit; : > up; while :; do sleep 0.05; done"
    jobs = [
        {"name": "saves", "command": saver, "supports_termination": True},
        {"name": "waits", "command": "true", "depends_on": ["saves"]},
    ]
    number = store(local, tmp_path, jobs)
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=1)
    wait_until((tmp_path / "up").exists, "the job runs")
    process.send_signal(stop)
    out, err = process.communicate(timeout=60)
    assert '"state": "interrupted"' in out, err
    assert (tmp_path / "saved").exists()
    assert states(local, number) == {"saves": "terminated", "waits": "blocked"}
    (tmp_path / "again").touch()
    assert run(local, number, tmp_path).workflow.state == "completed"


def test_a_second_interrupt_does_not_wait_for_the_grace(local: Embedded, tmp_path: Path) -> None:
    deaf = "trap ': > asked' TERM; : > up; while :; do sleep 0.05; done"
    number = store(local, tmp_path, [{"name": "a", "command": deaf, "supports_termination": True}])
    environ = {**os.environ, "GRACE_SECONDS": "3000"}
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out", env=environ)
    wait_until((tmp_path / "up").exists, "the job runs")
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "asked").exists, "the job was asked to end")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert '"stopped": true' in out, err
