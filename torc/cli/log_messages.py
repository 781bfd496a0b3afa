"""What Torc tells beside its output: records of the loggers below `torc`, on standard error, from a level on."""

from __future__ import annotations

import logging
import sys


class _ToStderr(logging.Handler):
    """Prints to what standard error is at that moment: a live display takes its place while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def log_to_stderr(level: str) -> None:
    """Print what Torc has to tell from a level on, with the time of day."""
    logger = logging.getLogger("torc")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = _ToStderr()
        handler.setLevel(level.upper())  # the runner's file takes more
        handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s: %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
