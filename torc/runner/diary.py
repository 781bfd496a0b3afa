"""The log of a runner, beside the logs of its jobs: what it started with, what failed, what it stopped, when the store was away."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

_LOGGER = logging.getLogger("torc.runner")
_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"


@contextlib.contextmanager
def kept(output_dir: Path, host: str, workflow_id: int, run_id: int) -> Iterator[None]:
    """Have what the runner tells, from INFO on, appended to a file; a file that cannot be opened is borne. Times are UTC."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", host)
    path = output_dir / f"job_runner_{safe}_wf{workflow_id}_r{run_id}.log"
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError:
        yield
        return
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.handleError = lambda record: None  # type: ignore[method-assign] # a full disk is told by other means
    level = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(min(_LOGGER.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        _LOGGER.setLevel(level)
        _LOGGER.removeHandler(handler)
        handler.close()
