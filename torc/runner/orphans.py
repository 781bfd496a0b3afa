"""Runners of this machine that are no more, and what they left running.

A runner that was killed with -9 is told by its pid, its start time and the boot: no other process can have all three.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from torc.api.base import Torc
from torc.api.runs import EndRunner, ListRunners, Runner
from torc.runner.hardware import Identity, process_started

_PATIENCE_SECONDS = 5.0


def give_up_dead_runners(torc: Torc, workflow_id: int, here: Identity) -> list[Runner]:
    """End the runners of this machine whose processes are gone; their jobs' processes are killed first."""
    dead = [
        runner
        for runner in torc.send(ListRunners(workflow_id=workflow_id, active_only=True, limit=10_000)).items
        if _is_dead(runner, here)
    ]
    for runner in dead:
        end_processes(runner.id)
        torc.send(EndRunner(workflow_id=workflow_id, runner_id=runner.id, reason="died"))
    return dead


def _is_dead(runner: Runner, here: Identity) -> bool:
    if runner.host != here.host:
        return False
    if runner.boot_id != here.boot_id:
        return True
    return process_started(runner.pid) != runner.process_started


def end_processes(runner_id: int) -> None:
    """Kill every process that a runner's jobs started, and wait until they are gone: no two copies may write at once."""
    mark = f"TORC_RUNNER_ID={runner_id}".encode()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (found := _marked(mark)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _marked(mark: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if mark in environ.split(b"\0") and process_started(int(name)) is not None:
                found.append(int(name))
    return found
