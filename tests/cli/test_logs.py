"""What jobs wrote: printed, followed over attempts, searched for what went wrong, packed for a bug report without secrets."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from pathlib import Path

from tests.cli.conftest import EMBEDDED
from tests.support.program import Done, Program
from tests.support.wait import wait_until

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5kL7n"
SPEC = f"""
name: logged
env: {{DB_PASSWORD: correct-horse-9}}
failure_handlers: [{{name: again, rules: [{{exit_codes: [5], max_retries: 1}}]}}]
jobs:
  - {{name: talks, command: 'for i in $(seq 20); do echo line $i; done; printf unended; echo problem >&2'}}
  - name: twice
    command: 'echo begins $TORC_ATTEMPT_ID; while ! test -e go$TORC_ATTEMPT_ID; do sleep 0.05; done; echo ends $TORC_ATTEMPT_ID; exit 5'
    failure_handler: again
  - name: noisy
    command: 'echo "ModuleNotFoundError: No module named {{x}}x" >&2; for i in $(seq 2000); do echo "cleaning up file $i" >&2; done; exit 1'
  - {{name: leaks, command: 'echo "$DB_PASSWORD {SECRET} in $HOME"; exit 3'}}
"""


@EMBEDDED
def test_logs_are_printed_followed_searched_and_packed(program: Program) -> None:
    home = program.directory
    spec = program.write("logged.yaml", SPEC)
    running = program.start("run", spec, "-q", "--output-dir", "elsewhere", "--max-parallel-jobs", "4")
    wait_until(lambda: program("jobs", "list", "-f", "json", code=None).stdout.count('"running"') == 1)
    following = program.start("jobs", "logs", "2", "-f")
    assert following.stdout is not None and following.stdout.readline() == "begins 1\n"
    program.write("go1", "")
    wait_until(lambda: list(home.glob("elsewhere/job_stdio/job_wf1_j2_r1_a2.o")) != [])
    program.write("go2", "")
    told, notes = following.communicate(timeout=60)
    assert told == "ends 1\nbegins 2\nends 2\n" and "attempt 2" in notes and following.returncode == 0
    running.communicate(timeout=60)
    assert running.returncode == 1
    printed(program)
    searched(program, home)
    packed(program, home)


def printed(program: Program) -> None:
    assert program("jobs", "logs", "1", "--tail", "2", "--stdout").stdout == "line 20\nunended"
    assert program("jobs", "logs", "1").stdout.splitlines()[-3:] == ["line 20", "unended", "problem"]
    assert program("jobs", "logs", "2", "-f", "--attempt", "1").stdout == "begins 1\nends 1\n"
    assert "has written nothing" in program("jobs", "logs", "2", "--stderr").stderr
    assert "has no attempt 3" in program("jobs", "logs", "2", "-a", "3", code=3).stderr
    assert "nothing" in program("jobs", "logs", "1", "--stderr", "--stdout", code=2).stderr
    os.rename(program.directory / "elsewhere", program.directory / "moved")
    assert "no logs of job 1" in program("jobs", "logs", "1", code=3).stderr
    assert program("jobs", "logs", "1", "-e", "-o", "moved").stdout == "problem\n"


def searched(program: Program, home: Path) -> None:
    # the reason stands far before the end that runners report; whoever has the file finds it
    assert "missing_module" not in program("workflows", "diagnose").stdout
    os.rename(home / "moved", home / "elsewhere")
    told = program("jobs", "explain", "3").stdout
    assert "missing_module" in told and "elsewhere/job_stdio/job_wf1_j3_r1_a1.e:1: ModuleNotFoundError" in told
    shown = program("logs", "analyze").stdout
    assert "1 x missing_module" in shown and "job_wf1_j3_r1_a1.e:1: ModuleNotFoundError" in shown
    groups = program("logs", "analyze", "-f", "json").json
    assert {group["category"] for group in groups} >= {"missing_module", "unknown"}
    (home / "far").mkdir()
    (home / "far/slurm-77.out").write_text(
        "begin\n\x1b[31mslurmstepd: error: Detected 1 oom_kill event in StepId=77.0.\x1b[0m\n"
    )
    (home / "far/data.log").write_bytes(bytes(range(256)) * 20)
    (home / "far/loop.log").symlink_to(home / "far/loop.log")
    bare = program("logs", "analyze", "far")
    assert (
        "1 x out_of_memory" in bare.stdout and "slurm-77.out:2: slurmstepd" in bare.stdout and "\x1b" not in bare.stdout
    )
    assert "no workflow called" in program("logs", "analyze", "nowhere", code=3).stderr


def packed(program: Program, home: Path) -> None:
    known = {"AWS_SECRET_ACCESS_KEY": "zzzz-not-of-any-form", "TORC_LOG_LEVEL": "warning"}
    told = program("logs", "bundle", "-o", "b.tar.gz", **known).stdout
    assert "wrote b.tar.gz" in told and (home / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    texts = {}
    with tarfile.open(home / "b.tar.gz") as tar:
        for member in tar:
            assert (
                member.name.startswith("torc-bundle/") and member.isreg() and member.mtime == 0 and member.uname == ""
            )
            texts[member.name.removeprefix("torc-bundle/")] = tar.extractfile(member).read().decode()  # type: ignore[union-attr]
    assert set(texts) >= {
        "README.txt",
        "manifest.json",
        "host.json",
        "configuration.json",
        "workflow.json",
        "summary.json",
        "diagnosis.json",
        "symptoms.json",
        "provenance.json",
        "events.jsonl",
        "failed-attempts.jsonl",
        "spec/as-written.yaml",
        "spec/as-resolved.yaml",
        "logs/job_wf1_j3_r1_a1.e",
        "logs/job_wf1_j4_r1_a1.o",
    }
    assert any(name.startswith("logs/job_runner_") for name in texts) and "logs/job_wf1_j1_r1_a1.o" not in texts
    packages = set(json.loads(texts["host.json"])["packages"])
    assert {"pyjson5", "urllib3", "sqlalchemy"} <= packages and not packages & {
        "httpx",
        "kdl-py",
        "pytest",
        "ruff",
        "mkdocs",
    }
    everything = "".join(texts.values())
    for hidden in ("correct-horse-9", SECRET, "zzzz-not-of-any-form", str(home)):
        assert hidden not in everything, hidden
    assert "[redacted: secret] [redacted: github token] in <workflow>" in texts["logs/job_wf1_j4_r1_a1.o"]
    manifest = json.loads(texts["manifest.json"])
    assert [file["name"] for file in manifest["files"]] == [name for name in texts if name != "manifest.json"]
    again = program("logs", "bundle", "-o", "b.tar.gz", "--max-log-size", "1k", "--all", "-f", "json").json
    sizes = {file["name"]: file["size_bytes"] for file in again["files"]}
    assert sizes["logs/job_wf1_j3_r1_a1.e"] <= 1024 and "logs/job_wf1_j1_r1_a1.o" in sizes
    assert not list(home.glob(".b.tar.gz*"))
    assert "no directory" in program("logs", "bundle", "-o", "not/there.tgz", code=2).stderr


@EMBEDDED
def test_it_is_said_where_logs_are_that_are_not_here(program: Program) -> None:
    program("run", program.write("one.yaml", "name: one\njobs: [{name: a, command: echo here}]\n"), "-q")
    assert "has not run yet" in program_with_idle_job(program).stderr
    with sqlite3.connect(program.directory / ".torc/torc.db") as db:
        db.execute("UPDATE runner SET host = 'node7'")
        db.execute(
            "UPDATE provenance SET facts = json_set(facts, '$.output_dir', '/scratch/out') WHERE kind = 'runner'"
        )
    db.close()
    os.rename(program.directory / "torc_output", program.directory / "away")
    told = program("jobs", "logs", "1", code=3).stderr
    assert "ran on node7, and its logs are there, in /scratch/out" in told and "torc remote collect-logs 1" in told


def program_with_idle_job(program: Program) -> Done:
    program("create", program.write("two.yaml", "name: two\njobs: [{name: b, command: 'true'}]\n"))
    return program("jobs", "logs", "2", code=3)
