"""`torc recover`, as people type it, about jobs that really fail."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.cli.conftest import EMBEDDED
from tests.support.program import PROGRAM, Program

SPEC = """
name: sweep
resource_requirements: [{name: short, memory: 100m, runtime: PT1S}, {name: plain, memory: 100m, runtime: PT1M}]
jobs:
  - {name: 'slow{i}', command: 'sleep 1.3; touch slow{i}', resource_requirements: short, parameters: {i: '1:2'}}
  - {name: 'fine{i}', command: 'echo x >> fine{i}', resource_requirements: plain, parameters: {i: '1:3'}}
  - {name: typo, command: 'frobnicate', resource_requirements: plain}
  - {name: flaky, command: 'test -e up || { echo "connect: Connection refused" >&2; exit 1; }', resource_requirements: plain}
  - {name: end, command: 'ls slow1 slow2', depends_on: ['slow1', 'slow2']}
"""


def test_a_sweep_is_recovered_step_by_step(program: Program) -> None:
    program("run", program.write("sweep.yaml", SPEC), "-q", code=1)
    shown = program("recover", "--dry-run", "--runtime-multiplier", "20")
    assert "3 job(s) would run again" in shown.stdout and "1 job(s) would stay as they are" in shown.stdout
    assert "1.0s -> 27.0s" in shown.stdout or "->" in shown.stdout
    assert "missing_file" in shown.stdout and "check the path" in shown.stdout
    assert not (program.directory / "slow1").exists()
    (program.directory / "up").touch()
    refused = program("recover", "--recovery-hook", "exit 3", code=4)
    assert "the recovery hook ended with 3" in refused.stderr
    done = program(
        "recover", "--runtime-multiplier", "20", "--recovery-hook", "echo $TORC_WORKFLOW_ID > hooked", code=1
    )
    assert (program.directory / "hooked").read_text() == "1\n"
    assert "7 completed, 1 failed" in done.stdout.replace("1 failed, 7 completed", "7 completed, 1 failed"), done.stdout
    assert (program.directory / "fine1").read_text() == "x\n", "what had completed did not run again"
    nothing = program("recover")
    assert "nothing is run again" in nothing.stderr
    assert program("workflows", "check", "1").stdout == "nothing is wrong\n"


def test_recovery_can_be_left_to_other_runners_and_read_by_programs(program: Program) -> None:
    program("run", program.write("sweep.yaml", SPEC), "-q", code=1)
    told = program("recover", "--no-run", "-f", "json").json
    assert (told["applied"], told["num_retried"]) == (True, 3)
    assert {proposal["action"] for proposal in told["proposals"]} == {"more time", "again"}
    assert "`retry" in program("recover", "--retry", "nonsense", code=2).stderr


def test_there_may_be_nothing_to_recover(program: Program) -> None:
    program("run", program.write("one.yaml", "name: one\njobs: [{name: a, command: 'true'}]\n"), "-q")
    for options in ((), ("--dry-run",)):
        assert "there is nothing to recover" in program("recover", *options).stderr


@EMBEDDED
def test_on_a_terminal_each_group_is_asked_about(program: Program) -> None:
    program("run", program.write("sweep.yaml", SPEC), "-q", code=1)
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "recover", "--no-run", "--reason", "the server is up again"],
        cwd=program.directory,
        env=program.environ(),
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(terminal, b"y\nn\n")
        out, err = process.communicate(timeout=60)
    os.close(terminal)
    os.close(end)
    assert process.returncode == 0, err
    assert "run 1 job(s) of plain/network again" in err and "run 2 job(s) of short/timeout again" in err
    assert "1 job(s) will run again" in err and "node-hours" in out
    (event,) = program("events", "list", "1", "--type", "workflow_recovered", "-f", "json").json
    assert event["data"]["groups"] == ["plain/network"]
    assert event["data"]["reason"] == "the server is up again"


@EMBEDDED
def test_groups_are_chosen_by_options_and_a_budget_holds(program: Program) -> None:
    program("run", program.write("sweep.yaml", SPEC), "-q", code=1)
    shown = program("recover", "--dry-run", "--only", "*/timeout", "-f", "json").json
    assert [group["key"] for group in shown["proposals"]] == ["short/timeout"]
    assert shown["proposals"][0]["num_behind"] == 1 and shown["cost_node_hours"] > 0
    left = program("recover", "--skip", "short", "--skip", "plain/network")
    assert "not chosen" in left.stdout and "nothing is run again" in left.stderr
    unknown = program("recover", "--dry-run", "--only", "nonsense")
    assert "--only nonsense: no group that could be recovered is named so" in unknown.stderr
    dear = program("recover", "--max-node-hours", "0")
    assert "are left of the budget" in dear.stdout
    program("recover", "--skip", "short", "--max-retries", "1", "--no-run")
    program("run", "1", "-q", code=1)
    spent = program("recover", "--max-retries", "1")
    assert "the budget of 1 recovery is spent" in spent.stdout
