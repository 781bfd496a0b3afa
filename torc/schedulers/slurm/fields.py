"""The kinds of values that Slurm's commands print: ids, states, times, durations, amounts, lists of nodes. Pure.

Each function that reads gives None, or nothing, for what it cannot read: a site's plugin or a newer version must never break the
following of jobs. Formats: the manual pages of squeue, sacct, sinfo and scontrol, 20.11 to 25.05.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from torc import hostlist

_JOB_ID = re.compile(
    r"^(?P<base>\d+)"
    r"(?:_(?:(?P<task>\d+)|\[(?P<tasks>[^\]]*)\]?))?"
    r"(?:\+(?P<het>\d+))?"
    r"(?:\.(?P<step>[\w+]+(?:\.\w+)?))?"
    r"(?:[@;](?P<cluster>[\w.-]+))?\Z"
)
_DURATION = re.compile(r"^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?(?:\.(\d+))?\Z")
_AMOUNT = re.compile(r"^(\d+(?:\.\d+)?)([KMGTP]?)[cn]?\Z", re.IGNORECASE)
_EXPONENT = {"": 20, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}
_GPU = re.compile(r"^gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?(?:\(.*)?\Z")
_LONGEST_NUMBER = 15
_NO_NODES = {"", "(null)", "none", "none assigned", "n/a"}


@dataclass(frozen=True, slots=True)
class JobId:
    """`12`, `12_3`, `12_[4-9%2]`, `12+1`, `12.0`, `12_3.batch`, `12@cluster`: what a row is about."""

    base: int
    task: int | None = None  # of an array
    tasks: str | None = None  # of an array, not yet told apart
    het: int | None = None  # component of a heterogeneous job
    step: str | None = None  # batch, extern, interactive, or a number
    cluster: str | None = None

    @property
    def job(self) -> str:
        """The id of the job, as one asks for it: without step and cluster."""
        task = "" if self.task is None else f"_{self.task}"
        return f"{self.base}{task}" + ("" if self.het is None else f"+{self.het}")


def job_id(text: str) -> JobId | None:
    """Read an id as any of the commands prints it."""
    match = _JOB_ID.match(text.strip())
    if match is None or any(len(found) > _LONGEST_NUMBER for found in match.group("base", "task", "het") if found):
        return None
    base, task, het = (None if found is None else int(found) for found in match.group("base", "task", "het"))
    assert base is not None
    return JobId(base, task, match["tasks"], het, match["step"], match["cluster"])


def state(text: str) -> str:
    """Return the first word of a state: `CANCELLED by 0` is CANCELLED, `IDLE+DRAIN` stays."""
    return (text.split() or [""])[0].upper().rstrip("*~#!%$@^-")


def canceled_by(text: str) -> int | None:
    """Return the user id of `CANCELLED by 1000`."""
    words = text.split()
    return int(words[2]) if words[1:2] == ["by"] and len(words) > 2 and _is_number(words[2]) else None


def exit_code(text: str) -> tuple[int, int] | None:
    """Read `code:signal`."""
    code, _, signal = text.strip().partition(":")
    if not _is_number(code) or (signal and not _is_number(signal)):
        return None
    return int(code), int(signal or 0)


def moment(text: str) -> float | None:
    """Read a time as seconds since 1970; the commands are told to print UTC. None for Unknown, N/A, None."""
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    try:
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def duration(text: str) -> int | None:
    """Read `1-02:03:04`, `02:03:04`, `03:04`, `1-02`, `30` (minutes) as seconds. None for UNLIMITED and the like."""
    match = _DURATION.match(text.strip())
    if match is None or any(len(part) > _LONGEST_NUMBER for part in match.groups() if part):
        return None
    days, *parts = match.groups()[:4]
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds


def walltime_text(seconds: int) -> str:
    """Write a walltime as sbatch takes it: `HH:MM:SS`, or `D-HH:MM:SS`."""
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def memory(text: str) -> int | None:
    """Read `120832K`, `1.5G`, `4000Mc`, `16?` (not known yet: None), `4000` (megabytes) as bytes."""
    match = _AMOUNT.match(text.strip())
    if match is None or len(match[1]) > _LONGEST_NUMBER:
        return None
    return int(float(match[1]) * (1 << _EXPONENT[match[2].upper()]))


def number(text: str) -> int | None:
    """Read a whole number; `4+` (sinfo: or more) is 4."""
    stripped = text.strip().rstrip("+")
    return int(stripped) if _is_number(stripped) else None


def gpus(text: str) -> tuple[int, str | None]:
    """Read the GPUs of `gpu:a100:4(S:0-1),shard:8`: how many, and their type where all are of one."""
    total, types = 0, set()
    for part in hostlist.split(text):
        match = _GPU.match(part)
        if match is None:
            continue
        count = int(match[2]) if match[2] and len(match[2]) < _LONGEST_NUMBER else 1
        total += count
        types.add(match[1])
    return total, types.pop() if len(types) == 1 else None


def names(text: str) -> frozenset[str]:
    """Read `a,b`; `(null)` and nothing are empty."""
    return frozenset(name for part in text.split(",") if (name := part.strip()) and name.lower() not in _NO_NODES)


def nodes(text: str) -> tuple[str, ...]:
    """Write out `n[1-3,07-09],gpu1`: each node by name; none for `None assigned` and the like."""
    return () if text.strip().lower() in _NO_NODES else hostlist.expand(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
