"""The log of a runner, next to the logs of its jobs: its settings, failures, what it stopped, when the store was unreachable."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from torc.display_text import visible
from torc.files import open_to_append

_LOGGER = logging.getLogger("torc.runner")
_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"


class _LineFormatter(logging.Formatter):
    """Indents continuation lines, so that a name with a newline cannot pass for another record. Times are UTC."""

    def __init__(self) -> None:
        super().__init__(_FORMAT, "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record)).replace("\n", "\n    ")


class LogFile(logging.StreamHandler[TextIO]):
    """Appends to a file opened without following links; a full disk is reported elsewhere. Raises OSError if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        file = open(open_to_append(path), "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - `close` does
        super().__init__(file)
        self._path = path
        self.setFormatter(_LineFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, to a new file if the old one was deleted."""
        with contextlib.suppress(OSError):
            if os.fstat(self.stream.fileno()).st_nlink == 0:
                fresh = open(open_to_append(self._path), "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
                self.stream.close()
                self.stream = fresh
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        super().close()


@contextlib.contextmanager
def kept(output_dir: Path, host: str, workflow_id: int, run_id: int) -> Iterator[None]:
    """Append the runner's log, from INFO up, to a file; if it cannot be opened, log a warning and continue."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", host)
    path = output_dir / f"job_runner_{safe}_wf{workflow_id}_r{run_id}.log"
    try:
        handler = LogFile(path)
    except OSError as error:
        _LOGGER.warning("cannot write the runner's log: %s: %s", path, error.strerror)
        yield
        return
    level = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(min(_LOGGER.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        _LOGGER.setLevel(level)
        _LOGGER.removeHandler(handler)
        handler.close()
