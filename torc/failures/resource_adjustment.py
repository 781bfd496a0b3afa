"""What jobs should request: more after they failed for lack of it, and less where they requested far more than they use.

Whether a job is retried is decided by `retry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import ceil

from torc.workflow.resources import ResourceRequest

_MEBIBYTE = 1 << 20
_ROUND_BYTES, _ROUND_SECONDS = 64 << 20, 60
_MOST_BYTES = 1 << 60
_MOST_SECONDS = 2**31 - 1


def raised(
    request: ResourceRequest,
    *,
    memory_factor: float | None = None,
    runtime_factor: float | None = None,
    peak_memory: int | None = None,
    wall_seconds: float | None = None,
) -> ResourceRequest:
    """Return a request with more memory or time: a factor times what was requested or, if that is more, what was used.

    So a job that requested far too little, or nothing, gets enough the next time. Memory is rounded up to whole MiB, time to seconds.
    """
    memory, runtime = request.memory_bytes, request.runtime_seconds
    if memory_factor is not None:
        memory = more_memory(memory, peak_memory or 0, memory_factor)
    if runtime_factor is not None:
        runtime = more_time(runtime, wall_seconds or 0.0, runtime_factor)
    return request._replace(memory_bytes=max(memory, _MEBIBYTE), runtime_seconds=runtime)


def more_memory(asked: int, used: float, factor: float) -> int:
    """Return a factor times the larger of two amounts of memory, in bytes, rounded up to whole MiB."""
    return max(_MEBIBYTE, min(ceil(max(asked, used) * factor / _MEBIBYTE) * _MEBIBYTE, _MOST_BYTES))


def more_time(asked: int, used: float, factor: float) -> int:
    """Return a factor times the longer of two times, rounded up to whole seconds."""
    return max(1, min(ceil(max(asked, used) * factor), _MOST_SECONDS))


def fitted(request: ResourceRequest, *, memory_bytes: float, wall_seconds: float, factor: float) -> ResourceRequest:
    """Return a request of at most a factor times the highest use; smaller values stay as they are.

    Memory is rounded up to 64 MiB and time to minutes: single measurements are no more precise than that.
    """
    memory = ceil(memory_bytes * factor / _ROUND_BYTES) * _ROUND_BYTES
    runtime = ceil(wall_seconds * factor / _ROUND_SECONDS) * _ROUND_SECONDS
    return request._replace(
        memory_bytes=min(request.memory_bytes, max(memory, _ROUND_BYTES)),
        runtime_seconds=min(request.runtime_seconds, max(runtime, _ROUND_SECONDS)),
    )


#: jobs whose needs differ by up to this factor share a class, as long as there are few classes
_RATIOS = (1.5, 2.0, 4.0, 8.0, 32.0)
_MOST_CLASSES = 4


def alike(amounts: Sequence[float]) -> list[list[int]]:
    """Group jobs by need, smallest first: giants get a class of their own, and no job gets many times its need.

    Returns indexes. There are few groups: if needs differ by orders of magnitude, groups get wider.
    """
    ordered = sorted(range(len(amounts)), key=lambda at: (amounts[at], at))
    parts: list[list[int]] = []
    for ratio in _RATIOS:
        parts = []
        for at in ordered:
            if parts and amounts[at] <= ratio * amounts[parts[-1][0]]:
                parts[-1].append(at)
            else:
                parts.append([at])
        if len(parts) <= _MOST_CLASSES:
            return parts
    rest = [at for part in parts[_MOST_CLASSES - 1 :] for at in part]
    return [*parts[: _MOST_CLASSES - 1], rest]


def is_chosen(key: str, only: Sequence[str], skip: Sequence[str]) -> bool:
    """Return whether a group is selected. A choice is its key, the first parts of the key, or a pattern with `*` and `?`."""
    return (not only or any(_names(choice, key) for choice in only)) and not any(_names(choice, key) for choice in skip)


def _names(choice: str, key: str) -> bool:
    return key == choice or key.startswith(f"{choice}/") or fnmatchcase(key, choice)
