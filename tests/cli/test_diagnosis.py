"""Jobs that really fail, and what the program says of them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.program import Program
from torc.cli.commands import utilization

SPEC = """
name: failing
resource_requirements: [{name: short, runtime: PT1S}]
jobs:
  - {name: module, command: 'echo begins >&2; python3 -c "import not_there_at_all"'}
  - {name: 'file{i}', command: 'cat /nowhere/part_{i}.csv', parameters: {i: '1:4'}}
  - {name: shell, command: 'frobnicate --all'}
  - {name: crash, command: 'kill -SEGV $$'}
  - {name: memory, command: 'python3 -c "x = bytearray(10**16)"'}
  - {name: size, command: 'ulimit -f 4; head -c 1000000 /dev/zero > big'}
  - {name: full, command: 'cat failing.yaml > /dev/full'}
  - {name: syntax, command: 'python3 -c "for x in"'}
  - {name: network, command: 'python3 fetch.py'}
  - {name: stdout, command: 'for i in $(seq 3000); do echo line $i; done; echo "ERROR: SCF did not converge in 100 cycles"; exit 3'}
  - {name: late, command: 'sleep 60', resource_requirements: short}
  - {name: assertion, command: 'python3 -c "assert 1 == 2, 1"'}
  - {name: behind, command: 'true', depends_on: [shell]}
"""
WANTED = {
    "module": "missing_module",
    "file1": "missing_file",
    "file4": "missing_file",
    "shell": "missing_file",
    "crash": "unknown",
    "memory": "out_of_memory",
    "size": "disk_full",
    "full": "disk_full",
    "syntax": "syntax_error",
    "network": "network",
    "stdout": "assertion",
    "late": "timeout",
    "assertion": "assertion",
}


def test_jobs_that_really_fail_are_explained(program: Program) -> None:
    program.write("fetch.py", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/')\n")
    running = program.start("run", program.write("failing.yaml", SPEC), "-q")  # it shows the tracebacks of jobs
    running.communicate(timeout=100)
    assert running.returncode == 1
    listed = {job["name"]: job["id"] for job in program("jobs", "list", "-f", "json").json}
    told: dict[str, Any] = {name: program("jobs", "explain", listed[name], "-f", "json").json for name in WANTED}
    assert {name: found["diagnosis"]["category"] for name, found in told.items()} == WANTED
    quote = told["stdout"]["diagnosis"]["quotes"][0]
    assert (quote["log"], quote["line"]) == ("stdout", 3001)
    assert told["module"]["diagnosis"]["quotes"][-1]["text"].startswith("ModuleNotFoundError")
    shown = program("jobs", "explain", listed["file1"])
    assert "missing_file, 8" in shown.stdout and "stderr:1: cat: /nowhere/part_1.csv" in shown.stdout
    assert "check the path" in shown.stderr
    behind = program("jobs", "explain", listed["behind"]).stdout
    assert f"it was canceled because shell (job {listed['shell']}) failed" in behind
    groups = program("workflows", "diagnose", "-f", "json").json
    assert groups["num_canceled"] == 1
    largest = groups["groups"][0]
    assert (largest["count"], largest["category"], largest["program"]) == (4, "missing_file", "cat")
    table = program("workflows", "diagnose").stdout
    assert "4 x missing_file in cat" in table
    if os.environ.get("TORC_TEST_SHOW"):
        print(table)


def test_nothing_has_failed(program: Program) -> None:
    program("run", program.write("one.yaml", "name: one\njobs: [{name: a, command: 'true'}]\n"), "-q")
    assert "no job has failed" in program("workflows", "diagnose").stderr
    assert "it ended well" in program("jobs", "explain", "1").stdout
    assert "no job 99" in program("jobs", "explain", "99", code=3).stderr


@pytest.mark.parametrize("command", ["explain", "diagnose"])
def test_help_says_what_they_are_for(program: Program, command: str) -> None:
    noun = "jobs" if command == "explain" else "workflows"
    assert f"torc {noun} {command} 12" in program(noun, command, "--help").stdout


OOM = """
name: grows
enforce_memory: true
resource_monitor: {enabled: true, sample_interval_seconds: 0.1}
resource_requirements: [{name: tight, memory: 40m, runtime: PT1M}]
failure_handlers:
  - name: more
    rules: [{match_categories: [out_of_memory], memory_multiplier: 6, max_retries: 1}]
jobs:
  - name: a
    command: 'python3 hold.py $TORC_ATTEMPT_ID'  # until it is stopped, the first time
    resource_requirements: tight
    failure_handler: more
"""


def test_a_job_that_ran_out_of_memory_is_given_more_and_ends_well(program: Program) -> None:
    program.write(
        "hold.py", "import sys, time\nblock = bytearray(120_000_000)\ntime.sleep(60 if sys.argv[1] == '1' else 0)\n"
    )
    done = program("run", program.write("grows.yaml", OOM), "-q")
    assert "1 completed" in done.stdout
    first, second = program("results", "list", "-f", "json").json
    assert (first["state"], first["reason"]) == ("terminated", "out_of_memory")
    assert second["state"] == "completed"
    raised = [
        event for event in program("events", "list", "-f", "json").json if event["type"] == "job_resources_raised"
    ]
    assert len(raised) == 1 and raised[0]["data"]["requirement"] == "tight__raised_1"


def test_who_asks_for_far_too_much_is_told(program: Program) -> None:
    spec = "name: much\nresource_requirements: [{name: huge, memory: 2g, runtime: PT2H}]\n"
    jobs = "jobs: [{name: a, command: 'true', resource_requirements: huge}]\n"
    program("run", program.write("much.yaml", spec + jobs), "-q")
    shown = program("reports", "check-resource-utilization", "--all").stdout
    assert "no job used more than it asked for" in shown
    assert "huge (1 attempt): requests 2 GiB, used at most" in shown and "requests 2h 00m, ran at most 1.0s" in shown
    assert program("reports", "check-resource-utilization", "-f", "json").json["classes"][0]["num_attempts"] == 1
    spec = "name: thrice\nresource_requirements: [{name: huge, memory: 2g, runtime: PT2H}]\n"
    jobs = "jobs: [{name: 'a{i}', command: 'true', resource_requirements: huge, parameters: {i: '1:3'}}]\n"
    program("run", program.write("thrice.yaml", spec + jobs), "-q")
    assert "nothing was changed" in program("workflows", "correct-resources", "thrice", "--dry-run").stderr
    done = program("workflows", "correct-resources", "thrice").stdout
    assert "64 MiB" in done and "1m" in done
    assert "no class asks for more" in program("workflows", "correct-resources", "thrice").stderr


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (600.4, "came up to it"),
        (606.0, "came up to it"),
        (500.0, "came up to it"),
        (840.0, "40%"),
        (60_000.0, "9,900%"),
    ],
)
def test_who_is_stopped_at_its_limit_is_not_told_by_how_little_it_went_beyond(used: float, said: str) -> None:
    assert utilization._above(600.0, used) == said
