"""Start `torc run`, `torc worker` or `torc submit` in the background on this machine, so that it outlives its caller."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torc.api.base import Torc
from torc.api.runs import ListRunners
from torc.errors import Unavailable
from torc.files import make_folder, open_to_append
from torc.program import own_program
from torc.runner.spawner import is_alive

_BEGIN_SECONDS = 30.0
_LOOK_SECONDS = 0.02
#: the shell exits at once, so that init adopts the process
_BEGIN = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True, slots=True)
class BackgroundProcess:
    """A background process. `ended`: it exited before it was seen working; its log says why, or that nothing was left to do."""

    pid: int
    log: Path
    ended: bool


def begin(
    torc: Torc,
    workflow_id: int,
    command: Sequence[str],
    place: Mapping[str, str],
    *,
    directory: Path,
    output_dir: Path,
    at_work: Callable[[], bool] | None = None,
) -> BackgroundProcess:
    """Start `torc COMMAND...` and wait until it is working (its runner is registered, or `at_work` says so) or has exited.

    `place`: the environment variables that select the same store; `output_dir`: where its log goes, readable only by its owner.
    Raises Unavailable.
    """
    log = output_dir / f"torc_{command[0]}_wf{workflow_id}_{time.strftime('%Y%m%dT%H%M%S')}_{os.getpid()}.log"
    argv = [*own_program(), *command, "--output-dir", str(output_dir)]
    try:
        make_folder(output_dir)
        os.close(open_to_append(log))
        made = subprocess.run(
            ["/bin/sh", "-c", _BEGIN, "sh", str(log), *argv],
            cwd=directory,
            env={**os.environ, **place},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            f"cannot start `torc {command[0]}` in {directory}: {error}", hint="check the directory and its disk"
        ) from None
    pid = int(made.stdout)
    deadline = time.monotonic() + _BEGIN_SECONDS
    while time.monotonic() < deadline:
        if at_work() if at_work is not None else _has_runner(torc, workflow_id, pid):
            return BackgroundProcess(pid, log, ended=False)
        if not is_alive(pid):
            return BackgroundProcess(pid, log, ended=True)
        time.sleep(_LOOK_SECONDS)
    return BackgroundProcess(pid, log, ended=False)


def _has_runner(torc: Torc, workflow_id: int, pid: int) -> bool:
    return any(runner.pid == pid for runner in torc.send(ListRunners(workflow_id=workflow_id, limit=20)).items)
