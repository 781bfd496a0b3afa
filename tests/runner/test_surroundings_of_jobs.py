"""What jobs are given of the machine: CPUs, numbers of threads; and how an invocation script gets the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import run_jobs
from torc.api.runs import Assignment
from torc.client.embedded import Embedded
from torc.runner import job_environ, spawner_client
from torc.runner.launcher import DirectLauncher
from torc.runner.state import StartAttempt
from torc.workflow.resources import ResourceRequest

pytestmark = pytest.mark.usefixtures("processes")

TWO = [{"name": "two", "num_cpus": 2, "memory": "10m", "runtime": "PT5M"}]


def _said(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_libraries_are_told_the_cpus_of_the_job_unless_the_user_says_otherwise(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in job_environ.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    show = "echo $OMP_NUM_THREADS $MKL_NUM_THREADS $JULIA_NUM_THREADS $RAYON_NUM_THREADS > "
    jobs: list[dict[str, Any]] = [
        {"name": "one", "command": f"{show} one"},
        {"name": "two", "command": f"{show} two", "resource_requirements": "two"},
        {"name": "own", "command": f"{show} own", "resource_requirements": "two", "env": {"OMP_NUM_THREADS": "5"}},
    ]
    run_jobs(
        local, tmp_path, *jobs, fields={"resource_requirements": TWO, "env": {"RAYON_NUM_THREADS": "9"}}, num_cpus=2
    )
    assert _said(tmp_path, "one") == "1 7 1 9\n"
    assert _said(tmp_path, "two") == "2 7 2 9\n"
    assert _said(tmp_path, "own") == "5 7 2 9\n"


def test_where_jobs_are_taken_by_number_libraries_are_told_nothing(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run_jobs(local, tmp_path, {"name": "a", "command": "echo ${OMP_NUM_THREADS-none} > a"}, max_parallel_jobs=1)
    assert _said(tmp_path, "a") == "none\n"


def test_a_workflow_inside_a_job_gives_its_own_jobs_their_own_numbers() -> None:
    of_job = {"TORC_JOB_ID": "3", "TORC_NUM_CPUS": "8", "OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "2", "A": "8"}
    assert "OMP_NUM_THREADS" not in job_environ.without_threads_of_job(of_job)
    assert job_environ.without_threads_of_job(of_job)["MKL_NUM_THREADS"] == "2"
    outside = {"TORC_NUM_CPUS": "8", "OMP_NUM_THREADS": "8"}
    assert job_environ.without_threads_of_job(outside) == outside


def _start(**fields: Any) -> StartAttempt:
    request = ResourceRequest(num_cpus=fields.pop("num_cpus", 1))
    return StartAttempt(Assignment(job_id=1, name="a", command="true", attempt=1, request=request, **fields), ())


def test_ranks_on_one_node_share_the_threads() -> None:
    start = _start(num_cpus=8, env={"MKL_NUM_THREADS": "8"})
    environ = job_environ.of_attempt(start, (), [b"OMP_NUM_THREADS", b"MKL_NUM_THREADS"])
    shared = job_environ.shared_by_ranks(environ, start.assignment, 4)
    assert (shared[b"OMP_NUM_THREADS"], shared[b"MKL_NUM_THREADS"]) == (b"2", b"8")
    assert shared[b"TORC_NUM_CPUS"] == b"8"


def test_pinned_jobs_have_cpus_of_their_own(local: Embedded, tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    # each waits for the other: they run at the same time
    command = "grep Cpus_allowed_list /proc/self/status > {0}; until [ -s {1} ]; do sleep 0.01; done"
    jobs = [{"name": "a", "command": command.format("a", "b")}, {"name": "b", "command": command.format("b", "a")}]
    found = run_jobs(local, tmp_path, *jobs, fields={"pin_cpus": True}, num_cpus=2)
    assert {result.state for result in found.values()} == {"completed"}
    cpus = [_said(tmp_path, name).split()[1] for name in "ab"]
    assert len(set(cpus)) == 2
    assert all(cpu.isdigit() for cpu in cpus)


def test_cpus_are_given_back_and_a_job_that_finds_too_few_may_use_all() -> None:
    direct = DirectLauncher(pinned=(2, 3, 5))
    files = spawner_client.OutputFiles("o", "e")

    def bound(key: int, number: int) -> str | None:
        argv = direct.prepare(key, _start(num_cpus=number), ["/bin/true"], files, {}).argv
        return argv[2] if len(argv) > 1 else None

    assert (bound(1, 2), bound(2, 2), bound(3, 1)) == ("2,3", None, "5")
    direct.dropped(2)
    direct.dropped(1)
    assert bound(4, 2) == "2,3"
    assert DirectLauncher().prepare(1, _start(), ["/bin/true"], files, {}).argv == ["/bin/true"]


SCRIPT = """#!/bin/sh
export FOO=from_script
echo "$#" > arguments
exec "$@"
"""


@pytest.mark.parametrize(
    ("command", "said", "number"),
    [
        (
            "printenv FOO; echo second; printenv FOO; echo [$FOO]",
            "from_script\nsecond\nfrom_script\n[from_script]\n",
            3,
        ),
        ("cd / && pwd", "/\n", 3),
        ("BAR=$FOO printenv BAR | tr a-z A-Z", "FROM_SCRIPT\n", 3),
        ("exit 0", "", 3),
        ("printenv FOO", "from_script\n", 2),
        ("if true; then echo 'it''s'; fi", "its\n", 3),
    ],
)
def test_an_invocation_script_surrounds_the_whole_command(
    local: Embedded, tmp_path: Path, command: str, said: str, number: int
) -> None:
    script = tmp_path / "env.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    job = {"name": "a", "command": command, "invocation_script": "./env.sh"}
    result = run_jobs(local, tmp_path, job)["a"]
    assert result.return_code == 0, result
    stem = tmp_path / "out" / "job_stdio" / f"job_wf1_j{result.job_id}_r1_a1.o"
    assert stem.read_text() == said
    assert _said(tmp_path, "arguments") == f"{number}\n"


def test_a_command_that_is_too_long_for_an_argument_reaches_the_invocation_script_too(
    local: Embedded, tmp_path: Path
) -> None:
    script = tmp_path / "env.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    command = f"printenv FOO; : '{'x' * 200_000}'; printenv FOO"
    result = run_jobs(local, tmp_path, {"name": "a", "command": command, "invocation_script": "./env.sh"})["a"]
    assert result.return_code == 0
    assert (tmp_path / "out" / "job_stdio" / f"job_wf1_j{result.job_id}_r1_a1.o").read_text() == "from_script\n" * 2
