"""Workflows whose runs are cut off at every point: what they do, how they are resumed, and what must be so at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.running import ROOT
from torc.api.base import Torc
from torc.api.workflows import CreateWorkflow, GetWorkflow
from torc.automation.here import Here
from torc.automation.policy import Policy
from torc.automation.watch import Watch
from torc.errors import Unavailable
from torc.runner.local import RunOptions, run_here

#: says so when another copy of it runs; a lock ends with its holder, however that ended
LOCK = "exec 9> lock_$TORC_JOB_NAME; flock -n 9 || echo $TORC_JOB_NAME >> overlaps; "
DONE = "echo $TORC_JOB_NAME >> successes"


@dataclass(frozen=True)
class Scenario:
    """A workflow and how it is run."""

    commands: Mapping[str, str]  # what each job does between LOCK and DONE
    fields: Mapping[str, Any] = field(default_factory=dict)
    waits: Mapping[str, list[str]] = field(default_factory=dict)
    of_job: Mapping[str, Any] = field(default_factory=dict)  # fields of every job

    @property
    def jobs(self) -> list[str]:
        return list(self.commands)

    def create(self, torc: Torc, work: Path) -> int:
        jobs = [
            {"name": name, "command": f"{LOCK}{command}{DONE}", "depends_on": self.waits.get(name, []), **self.of_job}
            for name, command in self.commands.items()
        ]
        document = {"name": "crash", "jobs": jobs, **self.fields}
        return torc.send(CreateWorkflow(spec=json.dumps(document), format="json", directory=str(work))).id

    def drive(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        """Run it, for the first time."""
        run_here(torc, workflow_id, options(work))

    def resume(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        """Go on with it, as a user would after a crash."""
        self.drive(torc, workflow_id, work, url)

    def check(self, work: Path) -> None:
        """Check what the commands wrote, at the end. Raises AssertionError."""


def options(work: Path, **more: Any) -> RunOptions:
    return RunOptions(output_dir=work / "out", wait_seconds=0.2, max_parallel_jobs=2, **more)


class Actions(Scenario):
    """Commands of actions run once; where a crash came while they ran, again with the same key."""

    def check(self, work: Path) -> None:
        """Each line is `trigger key`: each key belongs to one firing."""
        ran = Counter((work / "actions").read_text().split("\n")[:-1])
        triggers = Counter(line.split()[0] for line in ran)
        for trigger in ("started", "ready", "done"):
            assert triggers[trigger] == 1, f"{trigger} had {triggers[trigger]} keys: {ran}"
            assert max(n for line, n in ran.items() if line.startswith(trigger)) <= 2, ran


class Checkpoints(Scenario):
    """Runs of which each is stopped by its time limit, while a job saves its work."""

    def drive(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        for _ in range(60):
            run_here(torc, workflow_id, options(work, time_limit_seconds=0.4))
            if torc.send(GetWorkflow(workflow_id=workflow_id)).state == "completed":
                return


class Recovery(Scenario):
    """`torc watch --recover`: the job gets more memory until that is enough."""

    def drive(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        hands = Here(torc, options(work), lambda workflow: nullcontext())
        ending = Watch(torc, workflow_id, Policy(max_retries=6), hands, poll_seconds=0.2).run().ending
        assert ending == "completed", ending


class Others(Scenario):
    """A second runner works beside the one that crashes, in a process of its own, and sees the end of the run."""

    def drive(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        command = [sys.executable, "-m", "tests.support.running", url, str(workflow_id), str(work / "out"), "1"]
        with open(work / "second.log", "ab") as log:
            second = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        (work / "second.pid").write_text(str(second.pid))
        run_here(torc, workflow_id, options(work))
        second.wait(60)

    def resume(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        run_here(torc, workflow_id, options(work))


class OtherDies(Others):
    """The second runner is killed as well before anybody resumes."""

    def resume(self, torc: Torc, workflow_id: int, work: Path, url: str) -> None:
        second = work / "second.pid"
        if second.exists():
            with_pid = int(second.read_text() or 0)
            try:
                os.kill(with_pid, signal.SIGKILL)
            except ProcessLookupError:
                second.unlink(missing_ok=True)
        try:
            run_here(torc, workflow_id, options(work))
        except Unavailable:
            return  # it is tried again


_FLAKY = "echo x >> {name}.tries; [ $(wc -l < {name}.tries) -gt {fails} ] || exit 3; "
_CHECKPOINT = (
    "n=$(cat count 2>/dev/null || echo 0); save() { echo $n > count.new; mv count.new count; }; "
    "trap 'save; exit 0' TERM; while [ $n -lt 12 ]; do sleep 0.05; n=$((n + 1)); done; save; "
)
_GROWS = "[ $TORC_MEMORY_BYTES -gt 150000000 ] || { echo MemoryError >&2; exit 1; }; "

SCENARIOS: dict[str, Scenario] = {
    "retries": Scenario(
        {
            "a": "",
            "once": _FLAKY.format(name="once", fails=1),
            "twice": _FLAKY.format(name="twice", fails=2),
            "end": "",
        },
        {"failure_handlers": [{"name": "again", "rules": [{"exit_codes": [3], "max_retries": 5}]}]},
        {"once": ["a"], "end": ["once", "twice"]},
        {"failure_handler": "again"},
    ),
    "actions": Actions(
        {"a": "", "b": "", "c": ""},
        {
            "actions": [
                {
                    "trigger_type": trigger,
                    "action_type": "run_commands",
                    "commands": [f"echo {word} $TORC_ACTION_KEY >> actions", f": {word}"],
                    **more,
                }
                for trigger, word, more in (
                    ("on_workflow_start", "started", {}),
                    ("on_jobs_ready", "ready", {"jobs": ["c"]}),
                    ("on_workflow_complete", "done", {}),
                )
            ]
        },
        {"c": ["a", "b"]},
    ),
    "checkpoints": Checkpoints(
        {"long": _CHECKPOINT, "next": ""}, {}, {"next": ["long"]}, {"supports_termination": True}
    ),
    "recovery": Recovery(
        {"hungry": _GROWS, "beside": "", "end": ""},
        {"resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT1M"}]},
        {"end": ["hungry"]},
        {"resource_requirements": "small"},
    ),
    "runners": OtherDies({f"j{n}": "sleep 0.02; " for n in range(8)}, {}, {"j6": ["j0", "j1"], "j7": ["j6"]}),
}
