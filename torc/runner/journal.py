"""Finished attempts on disk while the store cannot be reached, so that no result is lost if the runner dies too.

Each line is a whole request. Each (job, attempt) counts once, so delivering a journal twice is harmless. What to keep is
decided by `exchange_policy`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from torc.api.base import Torc
from torc.api.runs import DeliverResults, ListRunners, Runner
from torc.errors import Conflict, NotFound
from torc.files import make_folder, open_to_append, read_trusted
from torc.runner.state import PendingReports

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"undelivered_wf(\d+)_n(\d+)\.json\Z")


class JournalOwner(NamedTuple):
    """Whose results they are. The times distinguish the workflow and runner from those with the same ids in another store."""

    workflow_id: int
    runner_id: int
    workflow_created_at: float | None = None
    runner_started_at: float | None = None


class Journal:
    """One file of one runner; it exists only while something is undelivered.

    What cannot be written, because the disk is full or the folder is gone, is held in memory and written with the next reports.
    """

    def __init__(self, output_dir: Path, owner: JournalOwner) -> None:
        self._folder, self._owner = output_dir, owner
        self._name = _name(owner.workflow_id, owner.runner_id)
        self._folder_fd = _open_folder(output_dir)  # still valid after the folder is moved
        self._unwritten: list[bytes] = []
        self._is_torn = False  # the file may end in the middle of a line
        self.is_kept = False

    @property
    def path(self) -> Path:
        """Return where the file is, even after its folder was moved."""
        with contextlib.suppress(OSError):
            found = os.readlink(f"/proc/self/fd/{self._folder_fd}")
            if not found.endswith(" (deleted)"):
                return Path(found) / self._name
        return self._folder / self._name

    @property
    def is_whole(self) -> bool:
        """Return whether everything to be kept is in the file."""
        return not self._unwritten

    def keep(self, reports: PendingReports) -> None:
        """Write reports that could not be delivered, one per line.

        Without fsync, like SQLite's commits here: what is written survives this process, but not a power failure.
        """
        request = DeliverResults(
            **self._owner._asdict(),
            finished=list(reports.finished),
            actions_finished=list(reports.actions_finished),
        )
        self._unwritten.append(request.model_dump_json(exclude_defaults=True).encode() + b"\n")
        self.write()

    def write(self) -> None:
        """Try to write what is not in the file yet."""
        if not self._unwritten:
            return
        data = (b"\n" if self._is_torn else b"") + b"".join(self._unwritten)
        try:
            with _opened(self._open()) as fd:
                self.is_kept = True
                self._is_torn = True
                while data:
                    data = data[os.write(fd, data) :]
        except OSError as error:
            _LOG.debug("cannot write the journal: %s", error)
            return
        self._unwritten.clear()
        self._is_torn = False

    def delivered(self) -> None:
        """Delete what was kept: the store has it."""
        self._unwritten.clear()
        if self.is_kept:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder_fd)
            self.is_kept = self._is_torn = False

    def close(self) -> None:
        """Close the folder's descriptor. A file with content stays."""
        self.write()
        self._folder = self.path.parent
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def _open(self) -> int:
        try:
            return open_to_append(f"/proc/self/fd/{self._folder_fd}/{self._name}")
        except FileNotFoundError:  # the folder was deleted: make it again
            make_folder(self._folder)
            fresh = _open_folder(self._folder)
            if self._folder_fd >= 0:
                os.close(self._folder_fd)
            self._folder_fd = fresh
            return open_to_append(f"/proc/self/fd/{fresh}/{self._name}")


def deliver(torc: Torc, workflow_id: int, runner_id: int, output_dir: Path, *, is_left: bool = True) -> int:
    """Deliver a journal, and remove it if its runner is gone. Returns how many results were accepted.

    A journal for a workflow with the same id in a store that has been replaced stays where it is.
    """
    path = output_dir / _name(workflow_id, runner_id)
    requests = _read(path)
    if requests is None:
        return 0
    try:
        taken = [torc.send(request) for request in requests]
    except (Conflict, NotFound) as error:
        _LOG.warning("%s contains results that this store does not accept: %s", path, error.message)
        return 0
    if is_left:
        with contextlib.suppress(OSError):
            path.unlink()
    if outdated := sum(each.num_outdated for each in taken):
        _LOG.warning(
            "%d results in %s refer to things that this store does not have: their jobs were edited, or user data that they wrote was "
            "lost when the store was restored; these jobs run again",
            outdated,
            path,
        )
    return sum(each.num_counted for each in taken)


def deliver_all(torc: Torc, workflow_id: int, output_dir: Path, works_here: Callable[[Runner], bool]) -> int:
    """Deliver the journals of all runners in a folder. Returns how many results were accepted.

    Runners that are still working remove their own files; `works_here` identifies those among them whose leases have expired.
    """
    found = sorted(journals(output_dir, workflow_id))
    if not found:
        return 0
    now = time.time()
    active = {
        runner.id
        for runner in torc.send(ListRunners(workflow_id=workflow_id, active_only=True, limit=10_000)).items
        if runner.lease_expires_at > now or works_here(runner)
    }
    return sum(deliver(torc, workflow_id, each, output_dir, is_left=each not in active) for each in found)


def journals(output_dir: Path, workflow_id: int) -> Iterator[int]:
    """Yield the ids of a workflow's runners that have left journals in a folder."""
    try:
        names = os.listdir(output_dir)
    except OSError:
        return
    for name in names:
        match = _NAME.match(name)
        if match is not None and int(match[1]) == workflow_id:
            yield int(match[2])


def _name(workflow_id: int, runner_id: int) -> str:
    return f"undelivered_wf{workflow_id}_n{runner_id}.json"


def _open_folder(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _read(path: Path) -> list[DeliverResults] | None:
    """Parse a journal; a truncated last line is ignored. None: the file cannot be trusted."""
    found = []
    try:
        lines = read_trusted(path).splitlines()
    except OSError:
        return None
    for line in lines:
        with contextlib.suppress(ValidationError):
            found.append(DeliverResults.model_validate_json(line))
    return found
