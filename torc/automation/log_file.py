"""The log of a watch: `watch_{host}_{W}.log` in the output directory, optionally also shown live."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from torc.runner.log_file import LogFile

_LOGGER = logging.getLogger("torc.automation")


def path_of(output_dir: Path, workflow_id: int) -> Path:
    """Return the path of the log file."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    return output_dir / f"watch_{host}_{workflow_id}.log"


@contextlib.contextmanager
def kept(output_dir: Path, workflow_id: int, onlooker: TextIO | None) -> Iterator[None]:
    """Append the messages of a watch, from INFO up, to its log, and show them to an onlooker. Times in the log are UTC."""
    handlers: list[logging.Handler] = []
    with contextlib.suppress(OSError):  # an unwritable log is tolerated
        handlers.append(LogFile(path_of(output_dir, workflow_id)))
    if onlooker is not None:
        shown = logging.StreamHandler(onlooker)
        shown.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        handlers.append(shown)
    before = _LOGGER.level, _LOGGER.propagate
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    for handler in handlers:
        _LOGGER.addHandler(handler)
    try:
        yield
    finally:
        _LOGGER.level, _LOGGER.propagate = before
        for handler in handlers:
            _LOGGER.removeHandler(handler)
            handler.close()
