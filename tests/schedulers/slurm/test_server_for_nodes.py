"""Which server the nodes ask, and who asks for more nodes while work goes on: `torc submit --server|--start-server`, `torc watch --auto-schedule`."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def program(slurm: Slurm, tmp_path: Path) -> Iterator[Program]:
    """Yield the program in an empty directory; what it has begun is ended afterwards."""
    (tmp_path / "here").mkdir()
    made = Program(tmp_path / "here")
    yield made
    made("workflows", "cancel", "1", code=None)
    made("server", "stop", code=None)


def spec(program: Program, jobs: list[dict[str, Any]], **fields: Any) -> str:
    """Write a spec whose jobs are of the class `small` unless they say otherwise, and name it."""
    small = {"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT5M"}
    jobs = [{"resource_requirements": "small", **job} for job in jobs]
    document = {"name": "tested", "jobs": jobs, "compute_node_wait_for_new_jobs_seconds": 0, **fields}
    document["resource_requirements"] = [small, *fields.get("resource_requirements", [])]
    return program.write("tested.json", json.dumps(document))


def allocations(program: Program) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = program("slurm", "list", "1", "--all", "-f", "json").json
    return sorted(found, key=lambda item: item["id"])


def test_a_server_that_runs_elsewhere_is_named(program: Program, slurm: Slurm, tmp_path: Path) -> None:
    whole = {"num_cpus": 4, "memory": "1g", "runtime": "PT10M"}
    named = spec(program, [{"name": f"j{at}", "command": "true", "resource_requirements": whole} for at in range(4)])
    how = ("--account", "root", "--no-estimate", "--num-allocations", "2", "--no-watch")
    away = program("submit", named, *how, "--server", "http://127.0.0.1:1", code=5)
    assert "http://127.0.0.1:1" in away.stderr and not slurm.call("squeue", "-h")
    (tmp_path / "there").mkdir()
    there = Program(tmp_path / "there")
    url = there("server", "start", "-f", "json").json["url"]
    try:
        stranger = program("submit", named, *how, "--server", url, code=4)
        assert "requires its token" in stranger.stderr and not slurm.call("squeue", "-h")
        token = there.directory / ".torc" / "server.json"
        said = program("submit", named, *how, "--server", url, TORC_TOKEN_FILE=str(token)).stdout
        assert f"server: {url}" in said and "submitted as jobs " in said
        assert not (program.directory / ".torc").exists(), "nothing is stored here"
        served = Program(program.directory, url, token)
        assert "4 completed" in served("watch", "1").stdout
        assert [item["num_nodes"] for item in allocations(served)] == [1, 1]
        assert len(there("workflows", "list", "-f", "json").json) == 1
    finally:
        there("workflows", "cancel", "1", code=None)
        there("server", "stop")


@contextlib.contextmanager
def nodes_that_are_elsewhere(slurm: Slurm) -> Iterator[None]:
    """Have nodes look as if they were other machines: 127.1 is loopback, written so that nobody takes it for this one."""

    def call_them(address: str, host: str) -> None:
        for node in slurm.nodes:
            slurm.call("scontrol", "update", f"nodename={node}", f"nodeaddr={address}", f"nodehostname={host}")

    call_them("127.1", "elsewhere")
    try:
        yield
    finally:
        call_them("127.0.0.1", "localhost")


def test_a_server_is_started_that_other_machines_reach_with_a_token_alone(program: Program, slurm: Slurm) -> None:
    named = spec(
        program, [{"name": "a", "command": 'test -n "$SLURM_JOB_ID" && scontrol write batch_script $SLURM_JOB_ID -'}]
    )
    how = ("--account", "root", "--no-estimate")
    with nodes_that_are_elsewhere(slurm):
        none = program("submit", named, *how, code=2)
        assert "none runs for this directory" in none.stderr and "--start-server" in none.stderr
        here = program("submit", named, *how, "--server", "http://127.0.0.1:8080", code=2)
        assert "that is this machine alone" in here.stderr and not slurm.call("squeue", "-h")
        done = program("submit", named, *how, "--start-server")
    url = program("server", "status", "-f", "json").json["url"]
    assert "127.0.0.1" not in url and f"server: {url} (started now" in done.stdout
    assert "1 completed" in done.stdout and "made the account" in done.stderr
    token = program.directory / "torc_output/.torc-token-wf1"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    (script,) = (program.directory / "torc_output/job_stdio").glob("*.o")
    assert f"TORC_API_URL={url}" in script.read_text() and token.name in script.read_text()
    assert token.read_text().strip() not in script.read_text()
    stranger = Program(program.directory.parent, url)("workflows", "list", code=None)
    assert stranger.code != 0 and "token" in stranger.stderr


def test_without_a_server_the_nodes_open_the_database_that_they_share(program: Program, slurm: Slurm) -> None:
    named = spec(program, [{"name": "a", "command": "scontrol write batch_script $SLURM_JOB_ID -"}])
    how = ("--account", "root", "--no-estimate", "--no-server")
    with nodes_that_are_elsewhere(slurm):
        refused = program("submit", named, *how, code=2)
        assert "not known to be shared" in refused.stderr
        assert "--no-server" in program("submit", named, *how[:-1], code=2).stderr
    assert "leave one of them out" in program("submit", named, *how, "--start-server", code=2).stderr
    done = program("submit", named, *how)
    database = program.directory / ".torc" / "torc.db"
    assert f"no server: the nodes open {database} themselves" in done.stdout
    assert "1 completed" in done.stdout
    (script,) = (program.directory / "torc_output/job_stdio").glob("*.o")
    assert f"export TORC_DB={database}" in script.read_text()
    assert "TORC_API_URL" not in script.read_text()


def test_an_allocation_that_nobody_hears_of_shows_the_end_of_its_log(program: Program, slurm: Slurm) -> None:
    named = spec(program, [{"name": "a", "command": "true"}])
    server = program("server", "start", "-f", "json").json
    program("submit", named, "--account", "root", "--no-estimate", "--no-watch", TORC_PROGRAM="/no/such/torc")
    followed = program("watch", "1", code=1)
    assert "no runner of allocation" in followed.stderr
    assert "/no/such/torc" in followed.stderr
    assert server["url"]


def test_stranded_jobs_get_allocations_when_they_are_enough_and_not_again_before_the_cooldown(
    program: Program, slurm: Slurm
) -> None:
    until = "until test -e {0}; do sleep 0.1; done"
    sizes = [{"name": name, "num_cpus": 1, "memory": name, "runtime": "PT5M"} for name in ("1g", "2g")]
    jobs: list[dict[str, Any]] = [
        {"name": "gate", "command": until.format("stop")},
        {"name": "middle", "command": until.format("go")},
        {"name": "first", "command": "true", "resource_requirements": "1g"},
        {"name": "second", "command": "true", "resource_requirements": "1g", "depends_on": ["middle"]},
        {"name": "last", "command": "true", "resource_requirements": "2g", "depends_on": ["first"]},
        {"name": "very_last", "command": "true", "resource_requirements": "2g", "depends_on": ["second"]},
    ]
    cpu = {"name": "cpu", "walltime": "00:10:00", "mem": "500M", "cpus_per_node": 2, "account": "root"}
    action = {
        "trigger_type": "on_workflow_start",
        "action_type": "schedule_nodes",
        "scheduler": "cpu",
        "scheduler_type": "slurm",
    }
    named = spec(program, jobs, resource_requirements=sizes, slurm_schedulers=[cpu], actions=[action])
    program("submit", named, "--no-estimate", "--no-watch")
    watch = program.start(
        "watch",
        "1",
        "--recover",
        "--poll-interval",
        "0.3s",
        "--auto-schedule",
        "--auto-schedule-threshold",
        "2",
        "--auto-schedule-cooldown",
        "1h",
    )
    wait_until(lambda: _is(program, middle="running", first="ready"), timeout=90, what="one job is stranded")
    (program.directory / "go").touch()
    wait_until(lambda: _is(program, last="ready", very_last="ready"), timeout=90, what="two have run, two are stranded")
    wait_until(lambda: len(slurm.call("squeue", "-h").split("\n")) == 2, timeout=90, what="who ran them has left")
    (program.directory / "stop").touch()
    _, said = watch.communicate(timeout=120)
    assert watch.returncode == 0, said
    assert said.count("no open allocation can take what waits: submitted") == 1
    ended = {item["job_name"]: item["ended_at"] for item in program("results", "list", "1", "-f", "json").json}
    begun = [item["created_at"] for item in allocations(program)]
    assert ended["middle"] < begun[1] < ended["gate"] < begun[2], "one is fewer than the threshold; then it rests"


def _is(program: Program, **states: str) -> bool:
    found = {job["name"]: job["state"] for job in program("jobs", "list", "1", "-f", "json").json}
    return all(found[name] == state for name, state in states.items())


def test_an_allocation_that_starts_while_the_server_is_away_waits_for_it(program: Program, slurm: Slurm) -> None:
    named = spec(program, [{"name": "a", "command": "true"}], slurm_defaults={"hold": True})
    program("submit", named, "--account", "root", "--no-estimate", "--no-watch")
    (held,) = allocations(program)
    server = json.loads((program.directory / ".torc/server.json").read_text())
    program("server", "stop")
    slurm.call("scontrol", "release", held["cluster_job_id"])
    log = program.directory / f"torc_output/slurm_output_wf1_sl{held['cluster_job_id']}.e"
    wait_until(lambda: log.exists() and "Waiting up to" in log.read_text(), timeout=90, what="its runner waits")
    assert f"{server['url']} does not answer" in log.read_text()
    program("server", "start", "--port", "0")
    assert json.loads((program.directory / ".torc/server.json").read_text())["url"] != server["url"]
    assert "1 completed" in program("watch", "1").stdout
    assert "the store answers, after" in log.read_text()
