"""How attempts become processes. `DirectLauncher` starts them as children of this node's spawners; schedulers may have others.

When and where to start is decided by `reactor`; the processes themselves belong to `spawner_client` and `spawner`.
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
from torc.runner.spawner_client import Environ, OutputFiles, ProcessEnded, Spawners
from torc.runner.state import StartAttempt


@dataclass(frozen=True, slots=True)
class PreparedAttempt:
    """The process to start for an attempt."""

    argv: list[str]
    files: OutputFiles
    environ: Environ


@dataclass(frozen=True, slots=True)
class AttemptEnding:
    """How an attempt ended, as far as the launcher knows.

    `not_started_reason`: why it never ran; `is_transient`: trying again later may help;
    `node_failed`: its node failed, which ends the allocation.
    """

    return_code: int
    wall_seconds: float
    usage: Usage
    slurm_state: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    not_started_reason: str | None = None
    is_transient: bool = False
    node_failed: bool = False


def pinnable(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the CPUs to which jobs can be pinned; none unless the workflow sets `pin_cpus`. Raises Invalid."""
    if not settings.get("pin_cpus"):
        return ()
    if shutil.which("taskset") is None:
        raise Invalid("`pin_cpus` needs the program `taskset`, which this machine lacks", hint="install util-linux")
    return tuple(sorted(os.sched_getaffinity(0)))


class DirectLauncher:
    """Starts jobs on this node. With a scratch folder, each attempt gets its own TMPDIR in it, which is removed afterwards.

    With CPUs in `pinned`, each attempt is bound to as many of them as it requests, each CPU to one attempt; an attempt that finds
    too few left (the runner was told of more CPUs than exist) may use all.
    """

    def __init__(self, scratch: str | None = None, pinned: Sequence[int] = ()) -> None:
        self._scratch = scratch
        self._taskset = shutil.which("taskset") or "taskset"
        self._free_cpus = list(pinned)
        self._cpus: dict[int, list[int]] = {}
        self._folders: dict[int, str] = {}
        self._remover = ThreadPoolExecutor(1, "torc-scratch") if scratch else None

    def fileno(self) -> int | None:
        """Return a descriptor to wait on in addition to the spawners' descriptors."""
        return None

    def begun(self) -> list[int]:
        """Read pending messages from the descriptor; return the keys of attempts that have started running."""
        return []

    def runs(self, key: int) -> bool:
        """Return whether an attempt runs as soon as its process has started; if not, `begun` reports it."""
        del key
        return True

    def prepare(
        self, key: int, start: StartAttempt, argv: list[str], files: OutputFiles, environ: Environ
    ) -> PreparedAttempt:
        """Return the process to start for an attempt. Raises OSError, like `spawner_client.command_line`."""
        num_cpus = start.assignment.request.num_cpus
        if self._free_cpus and num_cpus <= len(self._free_cpus):
            self._cpus[key], self._free_cpus = self._free_cpus[:num_cpus], self._free_cpus[num_cpus:]
            argv = [self._taskset, "--cpu-list", ",".join(map(str, self._cpus[key])), *argv]
        if self._scratch and (folder := spawner.make_scratch(self._scratch)):
            self._folders[key] = folder
            environ = {**environ, b"TMPDIR": os.fsencode(folder)}
        return PreparedAttempt(argv, files, environ)

    def stop(self, spawners: Spawners, key: int, *, for_good: bool) -> None:
        """End an attempt: SIGTERM, or SIGKILL if `for_good`."""
        spawners.stop(key, for_good=for_good)

    def orphaned(self, key: int, pid: int) -> None:
        """End an attempt whose spawner has died: this process has become the parent of its process."""
        del key
        spawner.stop(pid, for_good=True)

    def ending(self, key: int, began: float, event: ProcessEnded) -> AttemptEnding:
        """Return how an attempt ended, and remove its scratch folder."""
        self.dropped(key)
        return AttemptEnding(event.return_code, event.at - began, event.usage)

    def dropped(self, key: int) -> None:
        """Release what an attempt holds, however it ended."""
        self._free_cpus = sorted([*self._free_cpus, *self._cpus.pop(key, ())])
        folder = self._folders.pop(key, None)
        if folder is not None and self._remover is not None:
            self._remover.submit(shutil.rmtree, folder, ignore_errors=True)

    def close(self) -> None:
        """Release everything."""
        for key in list(self._folders):
            self.dropped(key)
        if self._remover is not None:
            self._remover.shutdown()
