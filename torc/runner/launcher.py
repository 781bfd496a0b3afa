"""How attempts become processes: here `DirectLauncher`, as children of this node's spawners. a scheduler may have others.

Not for deciding when and where: `reactor` does. Not for the processes themselves: `spawner_client` and `spawner` have those.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torc.api.runs import Reason, Usage
from torc.errors import Invalid
from torc.runner import spawner
from torc.runner.spawner_client import Environ, Files, ProcessEnded, Spawners
from torc.runner.state import StartAttempt


@dataclass(frozen=True, slots=True)
class PreparedAttempt:
    """What to have started."""

    argv: list[str]
    files: Files
    environ: Environ


@dataclass(frozen=True, slots=True)
class AttemptEnding:
    """How an attempt ended, as far as whoever started it knows. `not_begun`: it never ran, and why; `may_pass`: it may another time.

    `node_failed`: a node failed under it, and with that the allocation is over.
    """

    return_code: int
    wall_seconds: float
    usage: Usage
    slurm_state: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    not_begun: str | None = None
    may_pass: bool = False
    node_failed: bool = False


def pinnable(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the CPUs of this machine to which jobs are pinned; none unless the workflow wants it. Raises Invalid."""
    if not settings.get("pin_cpus"):
        return ()
    if shutil.which("taskset") is None:
        raise Invalid("`pin_cpus` needs the program `taskset`, which this machine lacks", hint="install util-linux")
    return tuple(sorted(os.sched_getaffinity(0)))


class DirectLauncher:
    """Starts jobs on this node. With a folder for scratch, each attempt gets a TMPDIR of its own in it, and it is removed after.

    With CPUs in `pinned`, each attempt is bound to as many of them as it asks for, no two to the same; one that finds too few left
    (the runner was told of more than there are) may use all.
    """

    def __init__(self, scratch: str | None = None, pinned: Sequence[int] = ()) -> None:
        self._scratch = scratch
        self._taskset = shutil.which("taskset") or "taskset"
        self._free_cpus = list(pinned)
        self._cpus: dict[int, list[int]] = {}
        self._folders: dict[int, str] = {}
        self._remover = ThreadPoolExecutor(1, "torc-scratch") if scratch else None

    def fileno(self) -> int | None:
        """Return a descriptor to wait on beside those of the spawners."""
        return None

    def begun(self) -> list[int]:
        """Take in what comes from there; returns the attempts that have begun to run by it."""
        return []

    def runs(self, key: int) -> bool:
        """Return whether an attempt runs as soon as its process was started; else `begun` tells."""
        del key
        return True

    def prepare(
        self, key: int, start: StartAttempt, argv: list[str], files: Files, environ: Environ
    ) -> PreparedAttempt:
        """Say what to have started for an attempt. Raises OSError, as `launch.command_line`."""
        num_cpus = start.assignment.request.num_cpus
        if self._free_cpus and num_cpus <= len(self._free_cpus):
            self._cpus[key], self._free_cpus = self._free_cpus[:num_cpus], self._free_cpus[num_cpus:]
            argv = [self._taskset, "--cpu-list", ",".join(map(str, self._cpus[key])), *argv]
        if self._scratch and (folder := spawner.make_scratch(self._scratch)):
            self._folders[key] = folder
            environ = {**environ, b"TMPDIR": os.fsencode(folder)}
        return PreparedAttempt(argv, files, environ)

    def stop(self, spawners: Spawners, key: int, *, for_good: bool) -> None:
        """End an attempt: kindly, or for good."""
        spawners.stop(key, for_good=for_good)

    def orphaned(self, key: int, pid: int) -> None:
        """End an attempt whose spawner has died: this process is now the parent of what that started for it."""
        del key
        spawner.stop(pid, for_good=True)

    def ending(self, key: int, began: float, event: ProcessEnded) -> AttemptEnding:
        """Say how an attempt ended. What it had of scratch is removed."""
        self.dropped(key)
        return AttemptEnding(event.return_code, event.at - began, event.usage)

    def dropped(self, key: int) -> None:
        """Note that an attempt is no more, however it ended."""
        self._free_cpus = sorted([*self._free_cpus, *self._cpus.pop(key, ())])
        folder = self._folders.pop(key, None)
        if folder is not None and self._remover is not None:
            self._remover.submit(shutil.rmtree, folder, ignore_errors=True)

    def close(self) -> None:
        """Give everything back."""
        for key in list(self._folders):
            self.dropped(key)
        if self._remover is not None:
            self._remover.shutdown()
