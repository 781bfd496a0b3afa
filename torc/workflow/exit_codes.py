"""The exit code of an attempt: one number for each kind of ending, however it came about.

A signal is 128 + its number, as in shells: whether the kernel killed the job's shell or a program inside it must make no
difference to a rule. An attempt that was ended at a limit has a code of its own, whatever the job made of the signal: 152 for a
timeout (128 + SIGXCPU), 137 for memory (128 + SIGKILL).
"""

from __future__ import annotations

import signal

_SIGNAL_BASE = 128
TIMEOUT = _SIGNAL_BASE + signal.SIGXCPU
OUT_OF_MEMORY = _SIGNAL_BASE + signal.SIGKILL
#: by the reason for which an attempt was ended
_AT_LIMITS = {"timeout": int(TIMEOUT), "out_of_memory": int(OUT_OF_MEMORY)}


def counted(code: int) -> int:
    """Return an exit code in Torc's convention: Python's -9 for death by signal 9 becomes 137."""
    return _SIGNAL_BASE - code if code < 0 else code


def reported(code: int | None, reason: str | None) -> int | None:
    """Return the code of an attempt that ended for this reason; None if unknown."""
    return _AT_LIMITS.get(reason or "", code)


def signal_of(code: int | None) -> int | None:
    """Return the signal that killed a process or the child of a shell."""
    if code is None:
        return None
    number = counted(code) - _SIGNAL_BASE
    return number if 0 < number <= signal.SIGRTMAX and code != 255 else None


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
