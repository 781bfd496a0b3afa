"""A sweep of a thousand jobs of which 70 fail in five ways: told apart, put right as far as that helps, within the budget."""

from __future__ import annotations

import collections

import pytest

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program

#: jobs 1 to 30 need 90 MiB, 31 to 40 a module that nobody has, 41 to 50 crash, 51 to 55 meet a server that is away at first, and 15 more
#: (a class of their own) need more than a second; all others are well
SWEEP = """
case $1 in
  [1-9]|[12][0-9]|30) exec python3 grow.py ;;
  3[1-9]|40) python3 -c "import a_module_that_nobody_has" 2>&1 | tail -n 1 >&2; exit 1 ;;
  4[1-9]|50) exec python3 -c "import ctypes; ctypes.string_at(0)" ;;
  5[1-5]) [ -e up_$1 ] || { touch up_$1; python3 -c "import socket; socket.create_connection(('127.0.0.1', 9))" 2>&1 | tail -n 1 >&2; exit 1; } ;;
  long_*) sleep 1.2 ;;
esac
"""
GROW = """
import os, time
block = bytearray(90 << 20)
if int(os.environ["TORC_MEMORY_BYTES"]) < len(block):
    time.sleep(60)  # until it is noticed
"""
SPEC = """
name: thousand
enforce_memory: true
resource_requirements:
  - {name: small, memory: 80m, runtime: PT2M}
  - {name: brief, memory: 80m, runtime: PT1S}
jobs:
  - {name: 'case_{i}', command: 'sh sweep.sh {i}', resource_requirements: small, parameters: {i: '1:985'}}
  - {name: 'long_{i}', command: 'sh sweep.sh long_{i}', resource_requirements: brief, parameters: {i: '986:1000'}}
"""
WAYS = {"out_of_memory": 30, "timeout": 15, "missing_module": 10, "unknown": 10, "network": 5}


@pytest.fixture
def sweep(program: Program) -> Program:
    program.write("sweep.sh", SWEEP)
    program.write("grow.py", GROW)
    program.write(".torc/config.toml", "[run]\nnum_cpus = 8\n")
    program("run", program.write("thousand.yaml", SPEC), "-q", code=1)
    return program


@pytest.mark.slow
@EMBEDDED
def test_a_sweep_is_recovered_as_far_as_that_helps(sweep: Program) -> None:
    found = sweep("workflows", "diagnose", "1", "-f", "json").json
    assert found["num_failed"] == 70 and found["by_category"] == WAYS
    assert [(group["category"], group["count"]) for group in found["groups"]] == list(WAYS.items())
    assert {group["program"] for group in found["groups"]} == {"sweep.sh"}
    proposed = sweep("recover", "1", "--dry-run", "--runtime-multiplier", "30", "-f", "json").json
    keys = {group["key"]: group["num_jobs"] for group in proposed["proposals"]}
    assert keys == {"small/out_of_memory": 30, "brief/timeout": 15, "small/network": 5}
    assert 0 < proposed["cost_node_hours"] < 5
    options = ("--max-retries", "2", "--max-node-hours", "5", "--runtime-multiplier", "30")
    watched = sweep("watch", "1", "--recover", *options, code=1)
    assert "980 completed, 20 failed" in watched.stdout
    assert "10    missing_module" in watched.stdout and "the program crashed: segmentation fault" in watched.stdout
    rounds = sweep("events", "list", "1", "--type", "workflow_recovered", "-f", "json").json
    assert len(rounds) == 1, "one round is enough, and no other is begun"
    assert rounds[0]["data"]["num_jobs"] == 50 and rounds[0]["data"]["cost_node_hours"] <= 5
    _the_others_keep_what_they_had(sweep)
    assert sweep("workflows", "check", "1").stdout == "nothing is wrong\n"


def _the_others_keep_what_they_had(sweep: Program) -> None:
    jobs = sweep("jobs", "list", "1", "--limit", "1000", "-f", "json").json
    states = collections.Counter(job["state"] for job in jobs)
    assert states == {"completed": 980, "failed": 20}
    by_class = collections.Counter(job["requirement_name"] for job in jobs)
    assert by_class == {"small": 955, "small__raised_1": 30, "brief__raised_1": 15}
    assert collections.Counter(job["attempt"] for job in jobs) == {1: 950, 2: 50}, "no other job ran twice"
    by_name = {job["name"]: job["id"] for job in jobs}
    module = sweep("jobs", "explain", by_name["case_31"]).stdout
    assert "missing_module" in module and "a_module_that_nobody_has" in module
    assert "segmentation fault" in sweep("jobs", "explain", by_name["case_41"]).stdout
