"""Collect the logs of workers, in a folder for each machine. Files that have not changed are not fetched again.

Files arrive in one `tar` stream; each is written to a temporary file and then renamed, so that after an interruption every file
is complete and the next call continues. Only regular files are accepted, only requested ones, and only inside the machine's
folder, whatever the remote side sends.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from pydantic import Field

from torc.api.base import Torc, Value
from torc.api.remote_workers import RemoteWorker
from torc.api.workflows import GetWorkflow, Workflow
from torc.errors import Invalid, TorcError, Unavailable
from torc.remote import scripts, ssh_errors
from torc.remote.ssh import OutputStream, kind_of
from torc.remote.workers import RemoteAccess, ask, key_of, on_each, safe_name
from torc.ssh_destination import Destination, parse_destination

_BATCH = 5000
_CHUNK = 1 << 20
_LONGEST_SECONDS = 24 * 3600.0
_LONGEST_NAME = 255
#: exit codes of tar: success, or a file changed while it was read
_ORDERLY = {0, 1}


class Collected(Value):
    """The logs collected from a machine."""

    host: str
    is_ok: bool = True
    folder: str = Field(description="local folder of the logs")
    num_files: int = Field(0, description="fetched now")
    num_bytes: int = 0
    num_kept: int = Field(0, description="already present")
    message: str | None = None
    hint: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class _ListedFile:
    """A remote file."""

    name: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class _Fetched:
    """What has arrived so far."""

    names: set[str] = field(default_factory=set)
    num_bytes: int = 0


def collect(
    torc: Torc, workflow_id: int, workers: Sequence[RemoteWorker], reach: RemoteAccess, folder: Path
) -> list[Collected]:
    """Collect the logs of a workflow from each machine into `folder/HOST/`."""
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    _make(folder)

    def failed(worker: RemoteWorker, error: TorcError) -> Collected:
        return Collected(
            host=worker.host,
            is_ok=False,
            folder=str(folder / safe_name(worker.host)),
            message=error.message,
            hint=error.hint,
            kind=kind_of(error),
        )

    return on_each(reach, workers, lambda worker: _collect(worker, workflow, reach, folder), failed)


def _collect(worker: RemoteWorker, workflow: Workflow, reach: RemoteAccess, folder: Path) -> Collected:
    here = folder / safe_name(worker.host)
    answer = ask(reach, worker, scripts.list_logs(key_of(workflow, worker), workflow.id))
    output = answer.get("output")
    if output is None:
        return Collected(host=worker.host, folder=str(here), message="no worker of this workflow was started there")
    there = _listed(answer.rest)
    wanted = [file for file in there if not _is_here(here / file.name, file)]
    fetched = _Fetched()
    for at in range(0, len(wanted), _BATCH):
        names = {file.name for file in wanted[at : at + _BATCH]}
        _fetch(worker, reach, scripts.send_logs(output, sorted(names)), _Sink(here, names, fetched))
    missing = len(wanted) - len(fetched.names)
    return Collected(
        host=worker.host,
        folder=str(here),
        num_files=len(fetched.names),
        num_bytes=fetched.num_bytes,
        num_kept=len(there) - len(wanted),
        message=f"{missing} file(s) disappeared meanwhile or cannot be read there" if missing else None,
    )


def _listed(listing: bytes) -> list[_ListedFile]:
    """Parse the output of `find`; unsafe names and truncated lines are skipped."""
    found = []
    for line in listing.split(b"\0")[:-1]:
        parts = os.fsdecode(line).split(" ", 2)
        with contextlib.suppress(ValueError):
            size, time, name = parts
            if _is_safe(name):
                found.append(_ListedFile(name, int(size), _nanoseconds(time)))
    return found


def _is_safe(name: str) -> bool:
    parts = name.split("/")
    return all(part not in {"", ".", ".."} and len(os.fsencode(part)) <= _LONGEST_NAME - 6 for part in parts)


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])


def _is_here(path: Path, file: _ListedFile) -> bool:
    """Return whether the local file is up to date; some file systems store times only to the microsecond."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return info.st_size == file.size and info.st_mtime_ns // 1000 == file.mtime_ns // 1000


class _Sink:
    """Writes the requested files of an archive."""

    def __init__(self, folder: Path, names: set[str], fetched: _Fetched) -> None:
        self._folder, self._names, self._fetched = folder, names, fetched

    def take(self, archive: tarfile.TarFile) -> None:
        """Write the files in the archive."""
        for member in archive:
            name = member.name.removeprefix("./")
            if not member.isreg() or name not in self._names or not _is_safe(name):
                continue
            content = archive.extractfile(member)
            if content is not None:
                self._write(self._folder / name, member, content)
                self._fetched.names.add(name)
                self._fetched.num_bytes += member.size

    def _write(self, path: Path, member: tarfile.TarInfo, content: IO[bytes]) -> None:
        _make(path.parent)
        part = path.with_name(f"{path.name}.part")
        time = _nanoseconds(member.pax_headers.get("mtime", str(int(member.mtime))))
        try:
            with _opened(part) as file:
                left = member.size
                while left:
                    chunk = content.read(min(left, _CHUNK))
                    if not chunk:
                        raise tarfile.ReadError("cut off")
                    file.write(chunk)
                    left -= len(chunk)
            os.utime(part, ns=(time, time))
            os.replace(part, path)
        except OSError as error:
            raise Unavailable(
                f"cannot write {path}: {error.strerror}",
                hint="free some space, or choose another folder: -o DIR",
                kind="local",
            ) from None
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(part: Path) -> Iterator[IO[bytes]]:
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
        yield file


def _fetch(worker: RemoteWorker, reach: RemoteAccess, script: str, sink: _Sink) -> None:
    """Run a script that sends an archive, and write its files. Raises Unavailable; files that have arrived are kept."""
    to = parse_destination(worker.host)
    damage: str | None = None
    flowing = reach.ssh.flowing(to, script, idle_seconds=reach.seconds, seconds=_LONGEST_SECONDS)
    with flowing as (flow, ending):
        try:
            # tarfile only needs `read`
            with tarfile.open(
                fileobj=cast(Any, flow), mode="r|", encoding="utf-8", errors="surrogateescape"
            ) as archive:
                sink.take(archive)
        except (tarfile.TarError, EOFError, ValueError) as error:
            damage = str(error) or type(error).__name__
        _drain(flow)
    if damage is not None or ending.code not in _ORDERLY:
        said = ssh_errors.last_line(ending.said) or damage or f"exit code {ending.code}"
        raise _damaged(to, said)


def _drain(flow: OutputStream) -> None:
    while flow.read(_CHUNK):
        pass


def _damaged(to: Destination, said: str) -> Unavailable:
    return Unavailable(
        f"{to}: the logs arrived incomplete: {said}",
        hint="try again: files that have arrived are kept; GNU tar is required there",
        kind="archive_damaged",
        host=str(to),
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"cannot create {folder}: {error.strerror}", hint="choose another folder: -o DIR") from None
