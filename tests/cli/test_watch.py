"""`torc watch --recover`, as people type it: killed, in the background, beside others."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program
from tests.support.running import is_alive, wait_until

#: fails for ever for a reason that may pass; its second attempt waits to be let go
STUBBORN = """
name: stubborn
jobs:
  - name: a
    command: |
      echo x >> tries
      [ $(wc -l < tries) -ne 2 ] || { touch second; until [ -e go ]; do sleep 0.02; done; }
      echo "connect: Connection refused" >&2
      exit 1
"""


def rounds(program: Program) -> int:
    return len(program("events", "list", "1", "--type", "workflow_recovered", "-f", "json").json)


@EMBEDDED
def test_a_watch_that_was_killed_goes_on_with_the_same_budget(program: Program) -> None:
    program("run", program.write("stubborn.yaml", STUBBORN), "-q", code=1)
    options = ("watch", "1", "--recover", "--max-retries", "3", "--poll-interval", "1s")
    watching = program.start(*options)
    wait_until((program.directory / "second").exists, "the second attempt runs")
    assert rounds(program) == 1
    os.kill(watching.pid, signal.SIGKILL)
    watching.communicate()
    (program.directory / "go").touch()
    done = program(*options, code=1)
    assert rounds(program) == 3, "one before it was killed, two after"
    assert "the budget of 3 recoveries is spent" in done.stdout
    spent = program(*options, code=1)
    assert rounds(program) == 3 and "the budget of 3 recoveries is spent" in spent.stdout
    log = next((program.directory / "torc_output").glob("watch_*_1.log")).read_text()
    assert "recovery 1:" in log and "recovery 3:" in log and "ending: left" in log
    assert program("workflows", "check", "1").stdout == "nothing is wrong\n"


def test_a_watch_in_the_background_outlives_its_terminal_and_is_the_only_one(program: Program) -> None:
    program("create", program.write("stubborn.yaml", STUBBORN))
    begun = program("watch", "1", "--recover", "--poll-interval", "1s", "--background", "-f", "json").json
    pid, log = begun["pid"], program.directory / begun["log"]
    try:
        assert os.getsid(pid) == pid, "in a session of its own"
        command_line = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        assert "--url" not in command_line and "--db" not in command_line
        wait_until((program.directory / "second").exists, "it ran, recovered, and runs again")
        refused = program("watch", "1", "--recover", code=4)
        assert f"is already being watched by process {pid}" in refused.stderr
        assert f"process {pid}" in program("watch", "1", "--recover", "--background", code=4).stderr
        stopped = program("watch", "1", "--stop")
        assert f"(process {pid}) has ended" in stopped.stdout
        assert "ending: stopped" in log.read_text()
        wait_until(lambda: not is_alive(pid), "it has ended")
        assert program("status", "1", "-f", "json").json["state"] == "interrupted"
        assert "nobody watches workflow 1" in program("watch", "1", "--stop", code=3).stderr
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@EMBEDDED
def test_what_it_is_told_wrong_is_said_before_it_begins(program: Program) -> None:
    program("create", program.write("stubborn.yaml", STUBBORN))
    assert "--background needs --recover" in program("watch", "1", "--background", code=2).stderr
    idle = program("watch", "1", "--only", "large", "--max-retries", "2", code=2).stderr
    assert "--max-retries and --only need --recover" in idle
    assert "`retry" in program("watch", "1", "--recover", "--retry", "nonsense", code=2).stderr
    assert "--poll-interval" in program("watch", "1", "--recover", "--poll-interval", "soon", code=2).stderr
    (program.directory / "a file").touch()
    said = program("watch", "1", "--recover", "--background", "-o", "a file", code=5).stderr
    assert "with the output directory" in said and "choose another one" in said
    assert "there is no workflow 9" in program("watch", "9", "--recover", "--background", code=3).stderr


@EMBEDDED
def test_the_hook_is_given_the_proposal_and_may_refuse(program: Program) -> None:
    program("run", program.write("stubborn.yaml", STUBBORN), "-q", code=1)
    hook = "cat > proposal.json; echo $TORC_WORKFLOW_ID > asked; exit 7"
    refused = program("watch", "1", "--recover", "--recovery-hook", hook, code=4)
    assert "the recovery hook ended with 7" in refused.stderr
    assert (program.directory / "asked").read_text() == "1\n"
    assert '"key":"default/network"' in (program.directory / "proposal.json").read_text().replace(" ", "")
    assert rounds(program) == 0
