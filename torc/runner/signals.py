"""The signals that ask a runner to stop or warn it in advance. Those that it sends are in `spawner`."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: SIGHUP: the terminal was closed; under nohup(1) it is ignored and stays ignored
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: sent by allocation scripts when Slurm warns them; programs that do not handle it ignore it
WARNING = signal.SIGURG


@contextlib.contextmanager
def counted(handler: Callable[[int, FrameType | None], Any], wake: int) -> Iterator[None]:
    """Handle these signals and wake the loop, if this is the main thread."""
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
