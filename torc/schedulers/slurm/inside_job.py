"""What a runner asks Slurm from inside an allocation: when it ends, and to signal one of its steps. One command each, seldom."""

from __future__ import annotations

import time

from torc.errors import Invalid, Unavailable
from torc.schedulers.slurm import commands, fields

_PATIENCE_SECONDS = 30.0


def end_time(job_id: str) -> float | None:
    """Return when an allocation ends, in seconds since the epoch; None: it has no limit, or Slurm cannot tell now."""
    ask = ["squeue", "--noheader", f"--jobs={job_id}", "--format=%L"]
    try:
        left = fields.duration(commands.run(ask, patience=_PATIENCE_SECONDS))
    except (Unavailable, Invalid):
        return None
    return None if left is None else time.time() + left


def signal_step(job_id: str, name: str, number: str | None) -> None:
    """Send SIGTERM to the processes of a step, by its number, or by its name where that is not known.

    What goes wrong is borne: SIGKILL follows.
    """
    try:
        if number is None:
            number = _number_of(job_id, name)
        if number is not None:
            commands.run(["scancel", "--signal=TERM", f"{job_id}.{number}"], patience=0.0)
    except (Unavailable, Invalid):
        return


def _number_of(job_id: str, name: str) -> str | None:
    listed = commands.run(["squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%i|%j"], patience=0.0)
    for line in listed.splitlines():
        step, _, named = line.strip().partition("|")
        if named == name:
            return step.rpartition(".")[2]
    return None
