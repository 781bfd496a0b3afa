"""Slurm's commands as they are called: what reaches them, what becomes of a busy or silent cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.slurm import Slurm
from tests.support.stores import open_sqlite
from tests.support.wait import wait_until
from tests.support.workflows import workflow
from torc.api.allocations import CancelAllocations, RecordAllocations
from torc.errors import Invalid, Unavailable
from torc.planning.allocations import NOT_SUBMITTED, AllocationState, phase_of
from torc.schedulers.base import OpenAllocation
from torc.schedulers.polling import poll
from torc.schedulers.slurm import commands, queries
from torc.schedulers.slurm.backend import SlurmBackend as OnCluster
from torc.schedulers.slurm.request import SlurmRequest
from torc.schedulers.submission import new_allocation, submit_recorded

pytestmark = pytest.mark.usefixtures("processes")

LONG = 120.0  # patience that no test uses up


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose programs are found before others'."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    """Write a program. It stands for a cluster in a state that a real one is not brought into at will."""
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_controller_that_is_away_is_never_an_empty_queue_and_is_waited_for(slurm: Slurm) -> None:
    job = slurm.sbatch("sleep 600", "--time=60")
    slurm.wait_for_record(job, "RUNNING")
    slurm.sandbox.stop_controller()
    with pytest.raises(Unavailable) as error:
        queries.queue([job], patience=0)
    assert error.value.exit_code == 5
    # the accounting is another daemon, and goes on
    rows = queries.accounting([job], time.time(), patience=LONG)
    assert rows is not None and rows[0].state == "RUNNING"

    before = commands.issued().get("sbatch", 0)
    ask = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--job-name=once"]
    with pytest.raises(Unavailable) as error:
        commands.run(ask, stdin="#!/bin/sh\n", patience=0)
    assert error.value.details["uncertain"] is False  # it was not heard, and may be sent again
    back = threading.Thread(
        target=lambda: (
            wait_until(lambda: commands.issued()["sbatch"] > before + 2, timeout=120),
            slurm.sandbox.start_controller(),
        )
    )
    back.start()
    submitted = commands.run(ask, stdin="#!/bin/sh\n", patience=LONG).strip()
    back.join()
    rows_now = queries.queue(patience=LONG)
    assert [row.id.job for row in rows_now if row.name == "once"] == [submitted]
    assert [row.state for row in rows_now if row.id.job == job] == ["RUNNING"]


def test_a_controller_that_hangs_may_have_heard_a_submission(slurm: Slurm) -> None:
    """What it took in before it fell silent, it does afterwards: sending it again would do it twice."""
    controller = next(daemon.pid for daemon in slurm.sandbox.status().daemons if daemon.name == "slurmctld")
    assert controller is not None
    os.kill(controller, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            queries.queue(["1"], patience=0)
        with pytest.raises(Unavailable) as error:
            ask = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--job-name=heard"]
            commands.run(ask, stdin="#!/bin/sh\n", patience=LONG)
    finally:
        os.kill(controller, signal.SIGCONT)
    assert error.value.details["uncertain"] is True
    wait_until(lambda: len([row for row in queries.queue() if row.name == "heard"]) == 1, timeout=60)


def test_what_is_refused_is_said_in_the_words_of_slurm(slurm: Slurm) -> None:
    with pytest.raises(Invalid, match="invalid partition"):
        commands.run(["sbatch", "--parsable", "--partition=none"], stdin="#!/bin/sh\n")
    with pytest.raises(Invalid, match="configuration is not available"):
        queries.expected_start(["--nodes=9"], "#!/bin/sh\n")


def test_settings_of_an_outer_job_do_not_leak_into_submissions(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    leaks = {
        "SBATCH_PARTITION": "short",
        "SBATCH_TIMELIMIT": "3",
        "SLURM_JOB_ID": "4711",
        "SLURM_MEM_PER_NODE": "17",
        "SLURM_NTASKS": "9",
        "SQUEUE_FORMAT": "%i",
        "SACCT_FORMAT": "JobName",
        "SLURM_TIME_FORMAT": "relative",
        "SBATCH_REQUEUE": "1",
        "SQUEUE_STATES": "failed",
    }
    for name, value in leaks.items():
        monkeypatch.setenv(name, value)
    script = f"#!/bin/sh\nenv > {slurm.sandbox.folder}/leaked\n"
    job = commands.run(["sbatch", "--parsable", "--output=/dev/null", "--time=7"], stdin=script).strip()
    slurm.wait_for(job, "COMPLETED")
    (row,) = queries.queue([job])
    assert (row.partition, row.walltime_seconds) == ("debug", 420)
    inside = (slurm.sandbox.folder / "leaked").read_text().splitlines()
    assert f"SLURM_JOB_ID={job}" in inside
    assert not {"SLURM_NTASKS=9", "SLURM_MEM_PER_NODE=17", "SBATCH_PARTITION=short", "TZ=UTC", "LC_ALL=C"} & set(inside)


def test_one_question_for_many_jobs_of_all_kinds(slurm: Slurm) -> None:
    array = slurm.sbatch("exit $SLURM_ARRAY_TASK_ID", "--array=0-2")
    plain = slurm.sbatch("exit 0")
    held = slurm.sbatch("exit 0", "--hold")
    before = commands.issued()
    wait_until(lambda: all(row.state in {"COMPLETED", "FAILED"} for row in queries.queue([array, plain])), timeout=60)
    states = {row.id.job: row.state for row in queries.queue([array, plain, held, "999999"])}
    assert states == {
        f"{array}_0": "COMPLETED",
        f"{array}_1": "FAILED",
        f"{array}_2": "FAILED",
        plain: "COMPLETED",
        held: "PENDING",
    }
    assert queries.queue(["999999"]) == [] and queries.job("999999") is None
    calls = commands.issued()["squeue"]
    queries.queue([array, plain, held])
    assert commands.issued()["squeue"] == calls + 1 > before.get("squeue", 0)

    def recorded() -> dict[str, int | None]:
        rows = queries.accounting([array, plain], time.time()) or []
        return {
            row.id.job: row.exit_code
            for row in rows
            if row.id.step is None and phase_of(row.state) is AllocationState.ENDED
        }

    wait_until(lambda: recorded() == {f"{array}_0": 0, f"{array}_1": 1, f"{array}_2": 2, plain: 0}, timeout=60)


def test_accounting_is_asked_from_the_submission_on_not_from_midnight(programs: Path) -> None:
    put(programs, "sacct", 'echo "$TZ $@" > "${0%/*}/asked"')
    assert queries.accounting(["12"], 1795693329.0) == []
    asked = (programs / "asked").read_text()
    assert asked.startswith("UTC ") and "--starttime=2026-11-26T10:42:09" in asked


def test_a_cluster_without_accounting_says_so(programs: Path) -> None:
    put(programs, "sacct", "echo Slurm accounting storage is disabled >&2; exit 1")
    assert queries.accounting(["12"], 0.0) is None


def test_an_allocation_on_another_cluster_is_followed_and_cancelled_there(programs: Path) -> None:
    put(programs, "sbatch", 'cat > "${0%/*}/script"; echo "12;east"')
    times = "2026-11-26T10:00:00|2026-11-26T10:01:00|2026-11-26T11:01:00"
    row = f"12|12|RUNNING|None|n1|1|short|a|u|{times}|1:00:00|0:10|1|sweep.mark"
    put(programs, "squeue", f'echo "$@" > "${{0%/*}}/asked"; echo "CLUSTER: east"; echo "{row}"')
    put(programs, "scancel", 'echo "$@" >> "${0%/*}/cancelled"')
    slurm = OnCluster(output_dir=str(programs), patience=0.0)
    number = slurm.submit("#!/bin/sh\n").cluster_job_id
    assert number == "12@east"
    assert slurm.look([OpenAllocation("mark", number, 0.0)]).observations["mark"].cluster_state == "RUNNING"
    assert "--clusters=east" in (programs / "asked").read_text()
    slurm.cancel([number, "7"])
    assert (programs / "cancelled").read_text().split("\n") == ["--clusters=east 12", "7", ""]


@pytest.mark.parametrize("asked", [{"options": (("clusters", "east"),)}, {"extra": "--nice=5 -M east"}])
def test_what_was_submitted_to_another_cluster_and_not_reported_is_found_there(
    programs: Path, sqlite_file: Path, asked: dict[str, Any]
) -> None:
    torc = open_sqlite(sqlite_file, programs)
    number = workflow(torc, "a")
    asking = [new_allocation(SlurmRequest("a", 600, **asked))]
    mark = torc.send(RecordAllocations(workflow_id=number, allocations=asking))[0].mark  # and killed after sbatch
    times = "2026-11-26T10:00:00|2026-11-26T10:01:00|2026-11-26T11:01:00"
    row = f"12|12|RUNNING|None|n1|1|short|a|u|{times}|1:00:00|0:10|1|sweep.{mark}"
    put(
        programs, "squeue", f'case "$*" in *--clusters=east*) echo "CLUSTER: east";; esac; echo "{row}"'
    )  # east is here
    put(programs, "scancel", 'touch "${0%/*}/cancelled"')
    changed = poll(torc, OnCluster(output_dir=str(programs), patience=0.0), [number]).changed
    torc.close()
    assert [(item.cluster_job_id, item.cluster_state) for item in changed] == [("12@east", "RUNNING")]
    assert not (programs / "cancelled").exists()  # as if it had been submitted twice


def test_what_may_be_on_a_cluster_that_gives_no_answer_is_neither_submitted_again_nor_given_up(
    programs: Path, sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torc = open_sqlite(sqlite_file, programs)
    number = workflow(torc, "a")
    asking = [new_allocation(SlurmRequest("a", 600, options=(("clusters", "east"),)))]
    made = torc.send(RecordAllocations(workflow_id=number, allocations=asking))
    monkeypatch.setattr("torc.schedulers.polling.SURELY_NOT_SECONDS", 0.0)
    monkeypatch.setattr("torc.planning.allocations._FORGOTTEN_SUBMITTING", 0.0)
    away = "squeue: error: 'east' can't be reached now, or it is an invalid entry for --cluster."
    put(programs, "squeue", f'case "$*" in *--clusters=east*) echo "{away}" >&2; exit 1;; esac')
    put(programs, "sbatch", 'echo 12; touch "${0%/*}/submitted"')
    slurm = OnCluster(output_dir=str(programs), patience=0.0)
    assert not poll(torc, slurm, [number]).changed
    torc.send(CancelAllocations(workflow_id=number, allocation_ids=[made[0].id]))
    assert [item.cluster_state for item in poll(torc, slurm, [number]).changed] == [
        NOT_SUBMITTED
    ]  # nobody waits for it
    torc.close()
    assert not (programs / "submitted").exists()


def test_of_two_followers_that_submit_the_same_one_cancels_its_own(programs: Path, sqlite_file: Path) -> None:
    put(programs, "sbatch", 'cat > /dev/null; echo x >> "${0%/*}/asked"; wc -l < "${0%/*}/asked"')
    put(programs, "scancel", 'echo "$@" >> "${0%/*}/cancelled"')
    torc = open_sqlite(sqlite_file, programs)
    number = workflow(torc, "a")
    asked = [new_allocation(SlurmRequest("a", 600))]
    recorded = torc.send(RecordAllocations(workflow_id=number, allocations=asked))  # as both have read it
    found = [submit_recorded(torc, recorded, OnCluster(output_dir=str(programs)))[0].cluster_job_id for _ in range(2)]
    torc.close()
    assert found == ["1", "1"] and (programs / "cancelled").read_text() == "2\n"


BUSY = [
    "squeue: error: slurm_receive_msg [10.0.0.1:6817]: Socket timed out on send/recv operation",
    "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    "slurm_load_jobs error: Zero Bytes were transmitted or received",
    "squeue: error: Munge encode failed: Failed to connect to munged: Resource temporarily unavailable",
    "sacct: error: Problem talking to the database: Connection refused",
]


@pytest.mark.parametrize("words", BUSY)
def test_a_busy_cluster_is_asked_again(programs: Path, words: str) -> None:
    put(programs, "squeue", f'if mkdir "${{0%/*}}/once" 2>/dev/null; then echo "{words}" >&2; exit 1; fi; echo fine')
    assert commands.run(["squeue"], patience=LONG) == "fine\n"


def test_a_command_that_hangs_is_ended_with_all_that_it_started(programs: Path) -> None:
    put(programs, "squeue", 'sleep 600 & echo $! > "${0%/*}/child"; wait')
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        commands.run(["squeue"], timeout=1, patience=0)
    child = int((programs / "child").read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())


def test_a_submission_that_may_have_been_heard_is_not_made_twice(programs: Path) -> None:
    put(
        programs,
        "sbatch",
        'echo x >> "${0%/*}/calls"; echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1',
    )
    with pytest.raises(Unavailable) as error:
        commands.run(["sbatch"], stdin="#!/bin/sh\n", patience=LONG)
    assert error.value.details["uncertain"] is True
    assert (programs / "calls").read_text() == "x\n"


def test_a_submission_that_was_not_heard_is_made_again(programs: Path) -> None:
    words = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
    put(programs, "sbatch", f'if mkdir "${{0%/*}}/once" 2>/dev/null; then echo "{words}" >&2; exit 1; fi; echo 12')
    assert commands.run(["sbatch"], stdin="#!/bin/sh\n", patience=LONG) == "12\n"


def test_a_machine_without_slurm_is_told_where_to_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Invalid, match="not installed") as error:
        commands.run(["squeue"])
    assert error.value.hint is not None and "login node" in error.value.hint
