"""Backups of a SQLite database: made while it is in use, verified, repeated at intervals, and restored.

A database is restored the way a copy is made (`torc.store.sqlite_copy`): the file gets its final name only when it is complete.
PostgreSQL has its own programs for this.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import logging
import os
import shutil
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torc.api.workflows import CheckWorkflow, ListWorkflows
from torc.client.embedded import Embedded
from torc.errors import Conflict, Forbidden, Invalid, NotFound, StoreLost, TorcError, Unavailable
from torc.store import schema_version
from torc.store.engine import open_store
from torc.store.file_guard import copies, damage, what_to_do
from torc.store.sqlite_copy import BESIDE, copy, hosts_of_runners, remove, sync
from torc.units import human_bytes

_LOG = logging.getLogger(__name__)
FOLDER = "backups"
_MOST_PROBLEMS = 5
#: in the names of periodic copies: only these are deleted automatically
_AUTOMATIC = "auto-"


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied: the target, its size, and the number of workflows in it."""

    path: str
    size_bytes: int
    workflows: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. `kept`: where the previous database is now, if there was one."""

    path: str
    workflows: int
    kept: str | None
    problems: tuple[str, ...] = ()


def path_of(database: str) -> Path:
    """Return the file of a SQLite database."""
    return Path(database.removeprefix("sqlite:///")).absolute()


def fresh_name(path: Path, folder: Path | None = None, word: str = "") -> Path:
    """Return the name for a copy made now, such that it can be found as the last backup."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return (path.parent / FOLDER if folder is None else folder) / f"{path.name}.backup-{word}{stamp}"


def back_up(database: str, target: Path) -> Backup:
    """Copy a SQLite database to a new file that only the caller can read. Raises NotFound, Conflict, Unavailable or StoreLost."""
    _refuse_postgres(database)
    source = path_of(database)
    if not source.exists():
        raise NotFound(f"there is no database {source}", hint="choose one with --db")
    try:
        workflows = copy(source, target)
    except FileExistsError:
        raise Conflict(
            f"{target} already exists", hint="choose another file: a backup never overwrites a file"
        ) from None
    except (OSError, sqlite3.Error) as error:
        if wrong := damage(error):
            raise StoreLost(f"the database {source} {wrong}", hint=what_to_do(source)) from None
        raise Unavailable(
            f"cannot copy {source} to {target}: {error}", hint="check the disks and permissions of both"
        ) from None
    return Backup(str(target.absolute()), target.stat().st_size, workflows)


def _refuse_postgres(database: str) -> None:
    if "://" in database and not database.startswith("sqlite:///"):
        raise Invalid(
            "Torc copies and restores only SQLite databases",
            hint="for PostgreSQL: pg_dump -Fc DATABASE > FILE, and pg_restore --clean --if-exists -d DATABASE FILE",
        )


# -- restoring --------------------------------------------------------------------------------------------------


def restore(database: str, source: Path, *, force: bool = False) -> Restored:
    """Replace a SQLite database by a copy; the old database is kept under another name.

    Nothing may use the database meanwhile. `force` accepts a copy that violates invariants or belongs to somebody else. Raises
    NotFound, Forbidden, Conflict or Unavailable, in which case nothing has changed.
    """
    _refuse_postgres(database)
    target = path_of(database)
    if not source.is_file():
        raise NotFound(f"there is no file {source}", hint="use a copy made by `torc server backup`")
    if target.exists() and os.path.samefile(source, target):
        raise Invalid(f"{source} is the database itself", hint="use a copy of it")
    info = source.stat()
    if not force and (info.st_uid not in {os.geteuid(), 0} or info.st_mode & stat.S_IWOTH):
        raise Forbidden(
            f"{source} does not belong to you, or is writable by everybody: its commands would run as you",
            hint="look at it first (torc --db FILE workflows list), then add --force",
        )
    with _alone(target):
        return _restore(target, source, force=force)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lock the database against concurrent restores; the lock ends with this process. Raises Conflict or Unavailable."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"cannot restore {target}: {error.strerror}", hint="check the folder and its permissions"
        ) from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another process is restoring {target}", hint="wait until it is done, then check the result"
            ) from None
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(folder)


def _restore(target: Path, source: Path, *, force: bool) -> Restored:
    _refuse_if_used(target)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    ready = target.with_name(f".{target.name}.restored-{stamp}")
    problems: list[str] = []

    def look(fresh: Path) -> None:
        problems.extend(_problems(fresh))
        if problems and not force:
            raise Conflict(
                f"{source} violates invariants: {'; '.join(problems)}",
                hint="restore another copy, or use --force to restore this one anyway",
            )

    try:
        workflows = copy(source, ready, look)
        _refuse_if_used(target)  # the verification took a while
        kept = _put_aside(target, stamp)
        try:
            os.replace(ready, target)
        except OSError:
            _put_back(kept, target)
            raise
        sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        if wrong := damage(error):
            others = [each for each in copies(target) if not os.path.samefile(each, source)]
            hint = f"restore another copy: torc server restore {others[0] if others else 'FILE'}"
            raise Unavailable(f"{source} {wrong}", hint=hint) from None
        raise Unavailable(
            f"cannot restore {target} from {source}: {error}",
            hint="check both files, their disks and their permissions",
        ) from None
    finally:
        remove(ready)
    return Restored(str(target), workflows, None if kept is None else str(kept), tuple(problems))


def _problems(path: Path) -> list[str]:
    """Upgrade a copy to the current schema and return the invariants that its workflows violate."""
    torc = Embedded(open_store(path, create=False), "restore")
    found: list[str] = []
    try:
        cursor = None
        while True:
            page = torc.send(ListWorkflows(include_archived=True, limit=1000, cursor=cursor))
            for workflow in page.items:
                broken = torc.send(CheckWorkflow(workflow_id=workflow.id))
                found += [f"workflow {workflow.id}: {each}" for each in broken[:_MOST_PROBLEMS]]
            cursor = page.cursor
            if cursor is None or len(found) >= _MOST_PROBLEMS:
                return found[:_MOST_PROBLEMS]
    finally:
        torc.close()
        with contextlib.suppress(OSError):  # where it was older
            path.with_name(f"{path.name}.before-{schema_version.HEAD}").unlink()


def _put_aside(target: Path, stamp: str) -> Path | None:
    """Rename a database and its write-ahead log, which must not be applied to the database that takes its place."""
    if not target.exists():
        for end in BESIDE:
            target.with_name(target.name + end).unlink(missing_ok=True)
        return None
    kept = target.with_name(f"{target.name}.replaced-{stamp}")
    os.link(target, kept)
    for end in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.replace(target.with_name(target.name + end), kept.with_name(kept.name + end))
    return kept


def _put_back(kept: Path | None, target: Path) -> None:
    """Restore the write-ahead log of a database that could not be replaced."""
    if kept is not None:
        for end in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.replace(kept.with_name(kept.name + end), target.with_name(target.name + end))
        kept.unlink()


def _refuse_if_used(path: Path) -> None:
    users = users_of(path)
    if users:
        shown = ", ".join(map(str, users[:10]))
        raise Conflict(
            f"{path} is in use by process {shown}",
            hint="stop the processes that use it, or wait: runners finish their last jobs; `torc server stop` stops a server",
        )
    elsewhere = _runners_elsewhere(path)
    if elsewhere:
        raise Conflict(
            f"runners on {', '.join(elsewhere)} use {path}",
            hint="stop them first, or wait a minute after they have ended",
        )


def users_of(path: Path) -> list[int]:
    """Return the processes of this machine that have a database open, even if it was deleted meanwhile."""
    real = os.path.realpath(path)
    wanted = {name + end for name in (real, f"{real}-wal") for end in ("", " (deleted)")}
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _has_open(name, wanted):
            found.append(int(name))
    return found


def _has_open(pid: str, wanted: set[str]) -> bool:
    with contextlib.suppress(OSError):  # ended, or another user's
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") in wanted:
                    return True
    return False


def _runners_elsewhere(path: Path) -> list[str]:
    """Return the other machines whose runners are registered in a database, as far as it is readable."""
    here = socket.gethostname()
    try:
        return [host for host in hosts_of_runners(path, time.time()) if host != here]
    except sqlite3.Error:
        return []


# -- at intervals -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def kept(database: str, seconds: float | None, keep: int, folder: Path | None = None) -> Iterator[None]:
    """Copy a SQLite database at intervals while the block runs, on a separate thread; the last `keep` copies stay."""
    if seconds is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_keep_up, args=(path_of(database), seconds, keep, folder, ended), name="torc-backup", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # a copy in progress is finished


def _keep_up(path: Path, seconds: float, keep: int, folder: Path | None, ended: threading.Event) -> None:
    beside = path.parent / FOLDER if folder is None else folder
    wait = _due_in(path, beside, seconds)
    while not ended.wait(wait):
        wait = _due_in(path, beside, seconds)
        if wait > 0.0:  # another process has made one
            continue
        wait = seconds
        try:
            beside.mkdir(mode=0o700, parents=True, exist_ok=True)
            _leave_room(path, beside)
            back_up(str(path), fresh_name(path, beside, _AUTOMATIC))
            for old in _automatic(path, beside)[keep:]:
                old.unlink(missing_ok=True)
        except (TorcError, OSError) as error:
            _LOG.warning("cannot make a backup: %s", error)


def _automatic(path: Path, folder: Path) -> list[Path]:
    """Return the periodic copies, newest first. Copies that a person requested are never deleted."""
    return sorted(folder.glob(f"{glob.escape(path.name)}.backup-{_AUTOMATIC}*"), reverse=True)


def _due_in(path: Path, folder: Path, seconds: float) -> float:
    """Return the seconds until the next copy is due: all processes that use one database share the interval."""
    with contextlib.suppress(OSError, IndexError):
        return min(seconds, max(0.0, _automatic(path, folder)[0].stat().st_mtime + seconds - time.time()))
    return 0.0


def _leave_room(path: Path, folder: Path) -> None:
    """Refuse an automatic copy that would take space that the database may need. Raises Unavailable."""
    size = path.stat().st_size
    free = shutil.disk_usage(folder).free
    if free < 3 * size:  # the copy, and the growth of the database while its log is merged
        raise Unavailable(
            f"{folder} has {human_bytes(free)} free, and the database has {human_bytes(size)}",
            hint="free some space, or store copies elsewhere: torc config set backup.folder FOLDER --here",
        )
