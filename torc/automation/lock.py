"""One watch per workflow: the watcher holds a lock in the output directory, which ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torc.errors import Conflict, Unavailable
from torc.files import make_folder, open_to_append, open_trusted
from torc.processes import boot_id, start_ticks

#: even a process that only checks holds the lock for a moment
_PATIENCE_SECONDS = 0.5
_MOST_BYTES = 4096


class Holder(NamedTuple):
    """The watcher of a workflow."""

    pid: int
    host: str
    since: float  # seconds since the epoch
    process: str  # boot id and start time of the process, which distinguish it from others with the same pid

    @property
    def is_alive(self) -> bool:
        """Return whether that process is alive on this machine."""
        return _process(self.pid) == self.process


@contextlib.contextmanager
def held(output_dir: Path, workflow_id: int) -> Iterator[Path]:
    """Be the only watcher of a workflow. Raises Conflict if there is one already."""
    path = path_of(output_dir, workflow_id)
    try:
        make_folder(output_dir)
        handle = open_to_append(path)
    except OSError as error:
        raise Unavailable(
            f"cannot write to the output directory {output_dir}: {error.strerror}",
            hint="choose another one with --output-dir, or free some space",
        ) from None
    try:
        _take(handle, output_dir, workflow_id)
        os.ftruncate(handle, 0)
        me = Holder(os.getpid(), socket.gethostname(), time.time(), _process(os.getpid()))
        os.write(handle, json.dumps(me._asdict()).encode())
        yield path
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int, output_dir: Path, workflow_id: int) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    try:
        while not _try(handle):
            if time.monotonic() > end:
                break
            time.sleep(_PATIENCE_SECONDS / 50)
        else:
            return
        who = holder(output_dir, workflow_id)
        by = f" by process {who.pid} on {who.host}" if who is not None else ""
        raise Conflict(
            f"workflow {workflow_id} is already being watched{by}",
            hint=f"stop it with: torc watch {workflow_id} --stop",
        ) from None
    except OSError as error:  # a file system without locks
        raise Unavailable(
            f"{output_dir} does not support locks: {error.strerror}",
            hint="choose another output directory with --output-dir",
        ) from None


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _process(pid: int) -> str:
    return f"{boot_id()} {start_ticks(pid)}"


def path_of(output_dir: Path, workflow_id: int) -> Path:
    """Return the path of the lock file."""
    return output_dir / f"watch_{workflow_id}.lock"


def holder(output_dir: Path, workflow_id: int) -> Holder | None:
    """Return the watcher of a workflow, or None."""
    path = path_of(output_dir, workflow_id)
    try:
        handle = open_trusted(path)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    except OSError:
        return None
    finally:
        os.close(handle)
    return None


def _read(handle: int) -> Holder | None:
    """Return the watcher; None if it has not been written yet."""
    try:
        found = json.loads(os.pread(handle, _MOST_BYTES, 0))
        return Holder(int(found["pid"]), str(found["host"]), float(found["since"]), str(found["process"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
