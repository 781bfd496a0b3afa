"""Runners that stand still (SIGSTOP, a laptop asleep) until their lease has ended: on one machine, nothing runs twice at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.running import is_alive, results, run, spawners, start_process, states, store, wait_until
from torc.api.runs import EndRunner, ListResults
from torc.client.embedded import Embedded

pytestmark = pytest.mark.usefixtures("processes")

BEGIN = {
    "plainly": "echo $$ > pid; exec sleep 1000",
    "without environment and session": "env -i setsid /bin/sh -c 'echo $$ > pid; exec sleep 1000' & wait",
    "as a daemon": "(env -i setsid /bin/sh -c 'echo $$ > pid; exec sleep 1000' &) ; sleep 1000",
}


@pytest.mark.parametrize("how", BEGIN)
@pytest.mark.parametrize("output_dir", ["out", "elsewhere"])
def test_who_takes_over_from_a_stopped_runner_ends_what_that_runs_first(
    local: Embedded, tmp_path: Path, how: str, output_dir: str
) -> None:
    again = "if [ -e pid ]; then grep -q '^State:.[RSDT]' /proc/$(cat pid)/status && touch both; exit 0; fi; "
    jobs = [{"name": "a", "command": again + BEGIN[how]}, {"name": "b", "command": "true", "depends_on": ["a"]}]
    number = store(local, tmp_path, jobs)
    first = start_process(tmp_path / "torc.db", number, tmp_path / output_dir)
    left = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the job runs"))
    wait_until(lambda: states(local, number)["a"] == "running", "it is known to run")
    first.send_signal(signal.SIGSTOP)
    local.send(EndRunner(workflow_id=number, runner_id=1, reason="lease ended"))
    assert is_alive(left)
    assert run(local, number, tmp_path).workflow.state == "completed"
    assert not is_alive(left) and not (tmp_path / "both").exists()
    assert spawners(first) == [], "nothing is left that could begin another job"
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0 and '"state": "completed"' in out, err
    attempts = local.send(ListResults(workflow_id=number)).items
    assert [(item.job_name, item.state.value) for item in attempts if item.is_current and item.reason is None] == [
        ("a", "completed"),
        ("b", "completed"),
    ]


def test_what_ended_with_the_spawners_of_a_runner_that_was_given_up_has_not_failed(
    local: Embedded, tmp_path: Path
) -> None:
    jobs = [{"name": name, "command": f"[ -e go ] || {{ touch {name}; exec sleep 1000; }}"} for name in "abc"]
    number = store(local, tmp_path, jobs)
    first = start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=3)
    wait_until(lambda: set(states(local, number).values()) == {"running"}, "all of them run")
    first.send_signal(signal.SIGSTOP)
    for pid in spawners(first):
        os.kill(pid, signal.SIGKILL)  # as whoever takes over does
    local.send(EndRunner(workflow_id=number, runner_id=1, reason="lease ended"))
    (tmp_path / "go").touch()
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0 and '"state": "completed"' in out, err
    reasons = {(item.attempt, item.reason) for item in local.send(ListResults(workflow_id=number)).items}
    assert reasons == {(1, "runner_lost"), (2, None)}


def test_what_a_stopped_runner_has_finished_is_not_done_again_where_nobody_took_it_over(
    local: Embedded, tmp_path: Path
) -> None:
    command = "echo $TORC_ATTEMPT_ID >> ran; until [ -e go ]; do sleep 0.01; done"
    number = store(local, tmp_path, [{"name": "a", "command": command}])
    first = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until(lambda: states(local, number)["a"] == "running", "the job runs")
    first.send_signal(signal.SIGSTOP)
    local.send(EndRunner(workflow_id=number, runner_id=1, reason="lease ended"))
    (tmp_path / "go").touch()
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=60)
    assert '"state": "completed"' in out, err
    # a result that comes late counts where nobody has begun the job again
    assert (tmp_path / "ran").read_text().split() == [str(results(local, number)["a"].attempt)]


def test_spawners_end_with_their_runner_though_a_copy_of_its_sockets_lives_on(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "echo $$ > pid; exec sleep 1000"}])
    first = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    left = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the job runs"))
    sockets = [name for name in os.listdir(f"/proc/{first.pid}/fd")]
    watched = os.pidfd_open(first.pid)
    try:
        copies = [_copy(watched, int(name)) for name in sockets if _is_socket(first.pid, name)]
        assert copies
        first.kill()
        first.communicate()
        wait_until(lambda: not is_alive(left), "the job has ended with its runner")
        for copy in copies:
            os.close(copy)
    finally:
        os.close(watched)


def _is_socket(pid: int, name: str) -> bool:
    return os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")


def _copy(pidfd: int, number: int) -> int:
    """Have a copy of a descriptor of another process (pidfd_getfd(2))."""
    import ctypes

    found = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, number, 0)
    if found < 0:
        pytest.skip(f"this process may not look into others: {os.strerror(ctypes.get_errno())}")
    return int(found)
