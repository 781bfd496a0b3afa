"""What `srun` prints about a step that it started, or could not start. Pure: text in, what it means out.

Under cgroups a step that ran out of memory makes `srun` return 1, like a program that failed: only its words tell.
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
#: what is so now, and may be over soon; or the allocation itself is over
_PASSING = re.compile(
    r"busy|temporarily|timed out|unable to contact|try again|resource temporarily|communication|connection|"
    r"already complet|invalid job id|expired|zero bytes|socket|task launch",
    re.IGNORECASE,
)
_EXIT_CODE = re.compile(r"Exited with exit code (\d+)")
_NOISE = re.compile(r"^(srun|slurmstepd[^:]*): (error: |info: )?")
#: of several lines the one that says why
_LEAST_TELLING = re.compile(r"retrying|queued and waiting|Job step creation temporarily disabled", re.IGNORECASE)
_LONGEST = 300


def state_of(words: str) -> str | None:
    """Return Slurm's word for how a step ended, where it was not by itself."""
    return next((state for state, pattern in _STATES if pattern.search(words)), None)


def was_not_created(words: str) -> bool:
    """Return whether a step did not come to be."""
    return bool(_NOT_CREATED.search(words))


def exit_code(words: str) -> int | None:
    """Return the exit code of the first of several tasks that failed: `srun` itself returns that of those that it ended then."""
    found = _EXIT_CODE.search(words)
    return None if found is None else int(found[1])


def may_pass(words: str) -> bool:
    """Return whether a step that did not come to be may another time."""
    return bool(_PASSING.search(words))


def gist(words: str) -> str:
    """Return the line that says most, without the name of the program."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if not _LEAST_TELLING.search(line)] or lines
    return _NOISE.sub("", telling[-1])[:_LONGEST] if telling else "srun said nothing"
