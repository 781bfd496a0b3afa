"""What jobs are to ask for: more after they failed for want of it, as much as they use where they asked for far more.

Not for deciding whether a job is tried again (`retry`).
"""

from __future__ import annotations

from math import ceil

from torc.core.resources import ResourceRequest

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
    """Give a request with more memory or time: a factor times what was asked for or, where that is more, what was used.

    Who asked for too little by far, or for nothing, is so given enough the next time. Memory is rounded up to whole MiB, time to
    seconds.
    """
    memory, runtime = request.memory_bytes, request.runtime_seconds
    if memory_factor is not None:
        wanted = max(memory, peak_memory or 0) * memory_factor
        memory = min(ceil(wanted / _MEBIBYTE) * _MEBIBYTE, _MOST_BYTES)
    if runtime_factor is not None:
        runtime = max(1, min(ceil(max(runtime, wall_seconds or 0.0) * runtime_factor), _MOST_SECONDS))
    return request._replace(memory_bytes=max(memory, _MEBIBYTE), runtime_seconds=runtime)


def fitted(request: ResourceRequest, *, memory_bytes: float, wall_seconds: float, factor: float) -> ResourceRequest:
    """Give a request that is no more than a factor times what was used at most; what is less already stays.

    Memory is rounded up to 64 MiB and time to minutes: what was measured once is no more exact than that.
    """
    memory = ceil(memory_bytes * factor / _ROUND_BYTES) * _ROUND_BYTES
    runtime = ceil(wall_seconds * factor / _ROUND_SECONDS) * _ROUND_SECONDS
    return request._replace(
        memory_bytes=min(request.memory_bytes, max(memory, _ROUND_BYTES)),
        runtime_seconds=min(request.runtime_seconds, max(runtime, _ROUND_SECONDS)),
    )
