"""The signals that ask a runner to stop, or warn it that it will have to. Not for those that it sends: `spawner` does."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: SIGHUP: the terminal was closed; under nohup(1) it is ignored, and stays so
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: what the scripts of allocations hand on when Slurm warns them: programs that do not ask for it never notice
WARNING = signal.SIGURG


@contextlib.contextmanager
def counted(handler: Callable[[int, FrameType | None], Any], wake: int) -> Iterator[None]:
    """Have these signals handled and wake the loop, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    old = {
        number: signal.signal(number, handler)
        for number in (*_STOPPING, WARNING)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(old_wake, warn_on_full_buffer=False)
