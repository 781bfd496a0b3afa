"""A private Slurm cluster for tests: three virtual nodes with accounting, in a temporary folder.

It is started by the first test that needs it and stopped when the test process ends. A cluster whose test process was
killed is found and stopped by the next one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import string
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.wait import wait_until
from torc.errors import TorcError
from torc.schedulers.slurm.sandbox import cluster

#: of an outer job, or of somebody's settings: not for tests
FOREIGN = ("SLURM_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCONTROL_")
_FOLDERS, _OWNER = "torc-slurm-", "owner"
_TRIES = 4
#: what sites do that has bitten: a step ends a second after the first of its tasks, and jobs of a partition give way to others
_SITE = """\
WaitTime=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=low Nodes=ALL PriorityTier=0 GraceTime=0 DefaultTime=1 MaxTime=60 State=UP"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster. `environment` makes a program mean it; the tests' own process has it in its environment already."""

    sandbox: cluster.Sandbox

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach it."""
        return self.sandbox.environment

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes."""
        return self.sandbox.nodes

    def call(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        """Call one of Slurm's commands and give what it prints; it fails the test unless it succeeds.

        On a loaded machine a controller may be late: then all but a submission is asked again.
        """
        for left in reversed(range(_TRIES)):
            done = subprocess.run(
                argv,
                env=self._clean_environment(),
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if done.returncode == 0 or not left or argv[0] == "sbatch" or "timed out" not in done.stderr:
                break
        assert not check or done.returncode == 0, (argv, done.returncode, done.stderr)
        return done.stdout

    def _clean_environment(self) -> dict[str, str]:
        """What the tests' own calls see: settings that a test tries on Torc are not for them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {**kept, **self.environment, "LC_ALL": "C"}

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a script; returns the id of the job. Its output goes to the cluster's folder."""
        text = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
        output = f"--output={self.sandbox.folder}/out-%j.txt"
        return self.call("sbatch", "--parsable", output, *options, stdin=text).strip()

    def output(self, job: str) -> str:
        """Read what a job printed."""
        return (self.sandbox.folder / f"out-{job}.txt").read_text(errors="replace")

    def state(self, job: str) -> str:
        """Ask for the state of a job: as squeue says it, whether it has ended or not."""
        return self.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T", check=False).strip()

    def wait_for(self, job: str, *states: str, timeout: float = 90) -> None:
        """Wait until a job is in one of these states."""
        wait_until(lambda: self.state(job) in states, timeout=timeout, what=f"job {job} is {states}")

    def wait_for_record(self, job: str, state: str, timeout: float = 60) -> None:
        """Wait until accounting has a job in this state: it is late by seconds."""
        ask = ("sacct", "-n", "-P", "-X", "-j", job, "-o", "State")
        wait_until(lambda: self.call(*ask).startswith(state), timeout=timeout, what=f"accounting: job {job} is {state}")

    def stop_accounting(self) -> None:
        """End slurmdbd; `sandbox.start` begins it again."""
        pid = int((self.sandbox.folder / "run" / "slurmdbd.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: _started(pid) is None, timeout=30, what="slurmdbd has ended")

    def tidy(self) -> None:
        """Put right what a test broke, and end what it left."""
        self.sandbox.start_controller()
        self.call("scontrol", "update", "nodename=ALL", "state=resume", check=False)
        self.sandbox.start(install=False)
        for down in (False, False, True, True):
            if not (jobs := self._jobs()):
                return
            self.call("scancel", *jobs, check=False)
            if self._is_empty_within(20):
                return
            if down:  # a message to a node was lost: Slurm lets go of nodes that are down
                self.call("scontrol", "update", "nodename=ALL", "state=down", "reason=tests", check=False)
                is_empty = self._is_empty_within(60)
                self.call("scontrol", "update", "nodename=ALL", "state=resume", check=False)
                self.sandbox.start(install=False)
                if is_empty:
                    return
        raise AssertionError("jobs are left:\n" + self.call("squeue", "-a") + self.call("sinfo", "-N", "-l"))

    def _jobs(self) -> set[str]:
        return set(self.call("squeue", "-h", "-o", "%A").split())

    def _is_empty_within(self, seconds: float) -> bool:
        try:
            wait_until(lambda: not self._jobs(), timeout=seconds, what="no job is left")
        except AssertionError:
            return False
        return True


@contextlib.contextmanager
def running() -> Iterator[Slurm]:
    """Yield a cluster while the block runs; nothing of it is left afterwards."""
    _remove_left()
    folder = Path(tempfile.mkdtemp(prefix=_FOLDERS, dir="/tmp"))  # a socket's path must be short
    (folder / _OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}")
    folder.chmod(0o755)
    prefix = "t" + "".join(random.SystemRandom().choices(string.ascii_lowercase, k=4))
    sandbox = cluster.create(folder, cluster.SandboxSettings(prefix=prefix, message_timeout=5, extra_conf=_SITE))
    try:
        sandbox.start(install=False)
        yield Slurm(sandbox)
    finally:
        sandbox.remove()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left() -> None:
    for folder in Path("/tmp").glob(f"{_FOLDERS}*"):
        try:
            pid, started = (folder / _OWNER).read_text().split()
            if time.time() - folder.stat().st_mtime < 1 or _started(int(pid)) == started:
                continue
            cluster.find(folder).remove()
        except (OSError, ValueError, TorcError):
            continue
        shutil.rmtree(folder, ignore_errors=True)


def _started(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
