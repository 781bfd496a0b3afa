"""What allocations cost and made of it, and what their logs tell: after a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from tests.support.wait import wait_until
from torc.schedulers.logs import last_lines, read_logs
from torc.schedulers.slurm.efficiency import efficiencies
from torc.schedulers.slurm.output_parser import parse_sacct

SPEC = """
name: accounts
resource_requirements:
  - {name: small, num_cpus: 1, memory: 100m, runtime: PT1M}
jobs:
  - {name: fine, command: "true", resource_requirements: small}
  - {name: fails, command: "echo 'No space left on device' >&2; exit 3", resource_requirements: small}
slurm_schedulers:
  - {name: cpu, account: demo, partition: debug, walltime: "00:05:00", nodes: 1, mem: 1g}
"""


def test_after_an_allocation_its_costs_and_logs_are_told(slurm: Slurm, tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.write("wf.yaml", SPEC)
    program("server", "start")
    try:
        program("create", "wf.yaml")
        refused = program("slurm", "sacct", 1, code=3).stderr
        assert "no allocation that was submitted" in refused
        program("slurm", "schedule-nodes", 1)

        def ended() -> bool:  # usage looks at the cluster, now and then
            return bool(program("slurm", "usage", 1, "-f", "json").json["total"]["num_active"] == 0)

        wait_until(ended, timeout=90)
        job = program("slurm", "list", 1, "--all", "-f", "json").json[0]["cluster_job_id"]

        def accounted() -> bool:
            rows = program("slurm", "sacct", 1, "--steps", "-f", "json").json
            return {row["step"] for row in rows} >= {None, "batch", "0"} and rows[0]["ended_at"] is not None

        wait_until(accounted, timeout=60)
        (one,) = program("slurm", "stats", 1, "-f", "json").json
        assert one["job"] == job and one["num_nodes"] == 1 and one["node_seconds"] == one["elapsed_seconds"]
        assert one["requested_memory_bytes"] == 1 << 30 and sum(one["steps"].values()) == 1
        used = program("slurm", "usage", "-f", "json").json
        assert used["workflows"][0]["name"] == "accounts" and used["total"]["num_allocations"] == 1
        assert "node-hours" in program("slurm", "usage", 1).stdout
        told = program("slurm", "parse-logs", 1).stdout
        assert f"Slurm job {job}" in told
    finally:
        program("server", "stop")


@pytest.mark.usefixtures("processes")
def test_logs_tell_all_that_went_wrong_and_hide_secrets(tmp_path: Path) -> None:
    folder = tmp_path / "torc_output"
    folder.mkdir()
    (folder / "slurm_output_wf3_sl17.e").write_text(
        "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=17.0. Some of your processes may have been killed.\n"
        "slurmstepd-n1: error: *** JOB 17 ON n1 CANCELLED AT 2026-11-26T12:00:00 DUE TO TIME LIMIT ***\n"
    )
    (folder / "slurm_output_wf3_sl18.o").write_text("all is well\n")
    other = tmp_path / "other.log"
    other.write_text("password=hunter2secret: Disk quota exceeded\n")
    program = Program(tmp_path)
    files = [folder / "slurm_output_wf3_sl17.e", folder / "slurm_output_wf3_sl18.o", other]
    options = [part for file in files for part in ("--file", file)]
    found = program("slurm", "parse-logs", *options, "-f", "json").json
    assert [read["job"] for read in found] == ["17", "18", None]
    assert {told["category"] for told in found[0]["tellings"]} == {"out_of_memory", "timeout"}
    assert found[0]["tellings"][0]["quotes"][0]["log"] == "slurm_output_wf3_sl17.e"
    assert found[1]["tellings"] == [] and found[2]["tellings"][0]["category"] == "disk_full"
    printed = program("slurm", "parse-logs", *options).stdout
    assert "hunter2secret" not in printed and "slurm_output_wf3_sl17.e:1:" in printed
    assert "cannot read" in program("slurm", "parse-logs", "--file", "missing", code=3).stderr


@pytest.mark.parametrize(
    ("line", "category", "words"),
    [
        (
            "error: the server http://login1:8080 does not answer: Connection refused",
            "network",
            "could not reach the Torc server",
        ),
        (
            "error: cannot establish a secure connection to https://login1:8080: certificate verify failed",
            "network",
            "certificate",
        ),
        ("error: http://login1:80 answered 502, but not like a Torc server", "network", "something other than Torc"),
        ("error: this token is not a token of this server", "permission", "did not let the runners in"),
        ("error: there is no workflow 12", "missing_file", "another database"),
        ("error: the database cannot be used now: database is locked", "permission", "could not use the database"),
        (
            "error: cannot work in /home/ada/sweep: No such file or directory",
            "missing_file",
            "directory of the workflow",
        ),
        ("/opt/venv/bin/python: No module named torc", "missing_module", "not installed on the node"),
        ("error: something broke inside Torc (KeyError); details are in /tmp/torc-error-x.log", "unknown", "report it"),
    ],
)
def test_errors_of_torc_itself_are_known(tmp_path: Path, line: str, category: str, words: str) -> None:
    log = tmp_path / "slurm_output_wf3_sl17.e"
    log.write_text(f"{line}\n  hint: whatever\n")
    (read,) = read_logs([log])
    assert read.tellings and read.tellings[0].category == category, read
    assert words in read.tellings[0].what


def test_the_end_of_a_log_is_that_of_its_errors(tmp_path: Path) -> None:
    assert last_lines(tmp_path, 3, "17") == []
    (tmp_path / "slurm_output_wf3_sl17.o").write_text("said\n")
    (tmp_path / "slurm_output_wf3_sl17.e").write_text("")
    assert last_lines(tmp_path, 3, "17@east") == ["said"]
    (tmp_path / "slurm_output_wf3_sl17.e").write_text("".join(f"line {number}\n\n" for number in range(20)))
    assert last_lines(tmp_path, 3, "17", most=2) == ["line 18", "line 19"]


def test_what_an_allocation_made_of_its_time(tmp_path: Path) -> None:
    recorded = Path(__file__).parent / "recorded"
    (steps,) = [
        one for one in efficiencies(parse_sacct((recorded / "22.05/sacct.txt").read_text())) if one.name == "steps"
    ]
    assert steps.steps == {"OUT_OF_MEMORY": 1, "COMPLETED": 1} and steps.node_seconds == steps.elapsed_seconds
    found = {one.name: one for one in efficiencies(parse_sacct((recorded / "documented/sacct.txt").read_text()))}
    timeout = found["timeout"]
    assert timeout.node_seconds == 2 * 3624 and timeout.max_rss_bytes == 3 << 29 and timeout.waited_seconds == 1
    assert timeout.cpu_efficiency is not None and round(timeout.cpu_efficiency, 3) == round(93784 / (3624 * 64), 3)
    assert found["boots not"].cpu_efficiency is None and found["boots not"].waited_seconds is None
