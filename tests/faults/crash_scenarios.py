"""Workflows whose runs are cut off at every point: what they do, how they are resumed, and what must be so at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from tests.support.running import ROOT
from torc.api.base import Torc
from torc.api.events import ListEvents
from torc.api.workflows import CreateWorkflow, GetWorkflow
from torc.automation.local_executor import LocalExecutor
from torc.automation.policy import RecoveryPolicy
from torc.automation.watch import WorkflowWatch
from torc.client.embedded import Embedded
from torc.errors import Unavailable
from torc.runner.local_run import RunOptions, run_here

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
    num_kills: int = 1  # of runners

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

    def recorded(self, torc: Embedded, workflow_id: int, work: Path) -> dict[str, int]:
        """Return how often each command ran that must not run again, beside the jobs. Raises AssertionError."""
        return {}

    def check(self, work: Path) -> None:
        """Check what the commands wrote, at the end. Raises AssertionError."""


def options(work: Path, **more: Any) -> RunOptions:
    return RunOptions(output_dir=work / "out", wait_seconds=0.2, max_parallel_jobs=2, **more)


def journaled(work: Path) -> tuple[set[int], set[int]]:
    """Return the jobs that succeeded and the firings that ended according to the journals that runners left behind."""
    jobs: set[int] = set()
    firings: set[int] = set()
    for path in (work / "out").glob("undelivered_*.json"):
        for line in path.read_text(errors="replace").splitlines():
            try:
                kept = json.loads(line)
            except ValueError:  # cut off by the crash
                continue
            jobs |= {item["job_id"] for item in kept.get("finished", ()) if item["outcome"] == "succeeded"}
            firings |= {item["firing_id"] for item in kept.get("actions_finished", ())}
    return jobs, firings


class Actions(Scenario):
    """Commands of actions run once; where a crash came while they ran, again with the same key, or not at all."""

    def recorded(self, torc: Embedded, workflow_id: int, work: Path) -> dict[str, int]:
        finished = torc.send(ListEvents(workflow_id=workflow_id, type="action_finished")).items
        ends = Counter(event.data["firing_id"] for event in finished)
        assert all(n == 1 for n in ends.values()), f"actions have ended more than once: {ends}"
        ran = Counter(line.split()[0] for line in self._lines(work))
        done = {}
        with torc.store.engine.connect() as db:
            kept = journaled(work)[1]
            for firing_id, trigger, state in db.execute(_FIRINGS, {"id": workflow_id}):
                for name in (f"{_WORDS[trigger]}-{number}" for number in (0, 1)):
                    assert state != "due" or not ran[name] or name not in _ONCE, f"{name} is due again: {ran}"
                    assert state != "done" or ran[name], f"{name} is recorded as done, and did not run"
                    if state in {"done", "failed"} or firing_id in kept:
                        done[name] = ran[name]
        return done

    def check(self, work: Path) -> None:
        """Each line is `trigger-command key`: each key belongs to one command of one firing."""
        lines = self._lines(work)
        names = defaultdict(list)
        for line in lines:
            name, key = line.split()
            names[name].append(key)
        keys = [key for found in names.values() for key in set(found)]
        assert len(keys) == len(set(keys)), f"two commands have one key: {lines}"
        for name, found in names.items():
            assert len(set(found)) == 1, f"{name} had several keys: {lines}"
            assert re.fullmatch(r"[0-9a-f]{32}-[01]", found[0]), f"{name} had no key of its own: {lines}"
            assert name.endswith(f"-{found[0][-1]}"), f"{name} had the key of another command: {lines}"
            assert len(found) <= (1 if name in _ONCE else 2), f"{name} ran too often: {lines}"
        wanted = {f"{word}-{number}" for word in ("started", "ready", "done") for number in (0, 1)}
        assert wanted <= set(names), f"actions did not run: {sorted(wanted - set(names))}"

    @staticmethod
    def _lines(work: Path) -> list[str]:
        path = work / "actions"
        return path.read_text().splitlines() if path.exists() else []


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
        hands = LocalExecutor(torc, options(work), lambda workflow: nullcontext())
        ending = WorkflowWatch(torc, workflow_id, RecoveryPolicy(max_retries=6), hands, poll_seconds=0.2).run().ending
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

_WORDS = {
    "on_workflow_start": "started",
    "on_jobs_complete": "once",
    "on_jobs_ready": "ready",
    "on_workflow_complete": "done",
}
_ONCE = {"once-0", "once-1"}
_FIRINGS = text(
    "SELECT f.id, a.trigger_type, f.state FROM firing f JOIN action a ON a.id = f.action_id WHERE f.workflow_id = :id"
)

SCENARIOS: dict[str, Scenario] = {
    "retries": Scenario(
        {
            "a": "env -i setsid sleep 1000 & ",
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
                    "commands": [f"echo {word}-{number} $TORC_ACTION_KEY >> actions" for number in (0, 1)],
                    "at_most_once": word == "once",
                    **({"jobs": ["c"]} if trigger == "on_jobs_ready" else {}),
                    **({"jobs": ["a"]} if trigger == "on_jobs_complete" else {}),
                }
                for trigger, word in _WORDS.items()
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
    "runners": OtherDies(
        {f"j{n}": "sleep 0.02; " for n in range(8)}, {}, {"j6": ["j0", "j1"], "j7": ["j6"]}, num_kills=2
    ),
}
