"""What `srun` prints about a step that it started or failed to start. Pure text parsing.

Under cgroups `srun` returns 1 both for a step that ran out of memory and for a program that failed: only its messages differ.
"""

from __future__ import annotations

import re

_STATES = (
    (
        "OUT_OF_MEMORY",
        re.compile(r"out of memory|oom.kill|exceeded (step|job|its)? ?memory limit|memory limit \(", re.IGNORECASE),
    ),
    ("TIMEOUT", re.compile(r"DUE TO TIME LIMIT|due to time limit", re.IGNORECASE)),
    ("PREEMPTED", re.compile(r"DUE TO PREEMPTION", re.IGNORECASE)),
    ("NODE_FAIL", re.compile(r"DUE TO NODE FAILURE|node failure on|NODE_FAIL", re.IGNORECASE)),
    ("CANCELLED", re.compile(r"\bCANCELLED (AT|by)\b|forcing job termination", re.IGNORECASE)),
)
_NOT_CREATED = re.compile(
    r"unable to create step|unable to confirm allocation|step creation (failed|aborted)|invalid job id|"
    r"unable to contact slurm controller|task launch for .* failed|unable to allocate resources",
    re.IGNORECASE,
)
#: conditions that may pass soon, or that mean the allocation itself is over
_PASSING = re.compile(
    r"busy|temporarily|timed out|unable to contact|try again|resource temporarily|communication|connection|"
    r"already complet|invalid job id|expired|zero bytes|socket|task launch",
    re.IGNORECASE,
)
_EXIT_CODE = re.compile(r"Exited with exit code (\d+)")
_NOISE = re.compile(r"^(srun|slurmstepd[^:]*): (error: |info: )?")
#: lines that do not state the cause
_LEAST_TELLING = re.compile(r"retrying|queued and waiting|Job step creation temporarily disabled", re.IGNORECASE)
_LONGEST = 300


def state_of(words: str) -> str | None:
    """Return Slurm's state for how a step ended, if it did not end by itself."""
    return next((state for state, pattern in _STATES if pattern.search(words)), None)


def was_not_created(words: str) -> bool:
    """Return whether the step could not be created."""
    return bool(_NOT_CREATED.search(words))


def exit_code(words: str) -> int | None:
    """Return the exit code of the first failed task of several; `srun` itself may return that of a task it then killed."""
    found = _EXIT_CODE.search(words)
    return None if found is None else int(found[1])


def is_transient(words: str) -> bool:
    """Return whether retrying to create the step may succeed."""
    return bool(_PASSING.search(words))


def gist(words: str) -> str:
    """Return the most informative line, without the program name."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if not _LEAST_TELLING.search(line)] or lines
    return _NOISE.sub("", telling[-1])[:_LONGEST] if telling else "srun printed nothing"
