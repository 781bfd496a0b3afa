"""Whether a job's declared outputs exist and are new, not left by an earlier attempt, run or person.

The state of each output is recorded before the attempt starts and compared afterwards: inode, size, modification time and
change time (ctime). No clocks are compared, so a file server's clock does not matter. Writing, replacing, renaming or touching
a file changes its ctime, even with tools that preserve the modification time (`cp -p`, `tar`, `rsync -t`). For a folder, the
states of all its entries count.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Mapping

#: state of a path; None: unknown (a folder with too many entries)
Look = tuple[int, ...] | None
#: entries of a folder that are examined at most: some 10 ms
_MOST_ENTRIES = 2_000
#: two changes within this time may get the same timestamp: the kernel's tick is 4 or 10 ms, some file systems store seconds
_TICK_SECONDS, _COARSE_TICK_SECONDS = 0.012, 2.0
_NS = 1_000_000_000


def looks(paths: Iterable[str]) -> dict[str, Look]:
    """Return the states of the paths that exist."""
    found: dict[str, Look] = {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            found[path] = _look(path)
    return found


def unsettled_seconds(paths: Iterable[str]) -> float:
    """Return for how long a change to one of the paths might go unnoticed because it has changed so recently."""
    now = time.time_ns()
    longest = 0.0
    for path in paths:
        try:
            info = os.stat(path)
        except (OSError, ValueError):
            continue
        is_coarse = not (info.st_mtime_ns % _NS or info.st_ctime_ns % _NS)
        left = (_COARSE_TICK_SECONDS if is_coarse else _TICK_SECONDS) - (now - info.st_ctime_ns) / _NS
        if left > 0 and now >= info.st_ctime_ns:
            longest = max(longest, left)
    return longest


def not_written(
    paths: Iterable[str], before: Mapping[str, Look], *, look_again: bool = True
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths that do not exist, and those that have not changed.

    `look_again`: bypass the caches of a network file system.
    """
    paths = list(paths)
    absent = missing(paths, look_again=look_again)
    if not before:
        return absent, ()
    gone = set(absent)
    old = [path for path in paths if path not in gone and _is_old(path, before)]
    if old and look_again:
        for path in old:
            _refresh(path)
        old = [path for path in old if _is_old(path, before)]
    return absent, tuple(old)


def missing(paths: tuple[str, ...] | list[str], *, look_again: bool = True) -> tuple[str, ...]:
    """Return the paths that do not exist. `look_again`: bypass the caches of a network file system."""
    absent = tuple(path for path in paths if not os.path.lexists(path))
    if not absent or not look_again:
        return absent
    for folder in {os.path.dirname(path) or "." for path in absent}:
        _refresh(folder)
    return tuple(path for path in absent if not os.path.lexists(path))


def _refresh(path: str) -> None:
    """Open a path, which makes an NFS client revalidate it."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _is_old(path: str, before: Mapping[str, Look]) -> bool:
    look = before.get(path)
    if look is None:
        return False
    try:
        return _look(path) == look
    except (OSError, ValueError):
        return False


def _look(path: str) -> Look:
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode):
        try:
            target = os.stat(path)
        except OSError:  # a dangling link
            return _identity(link)
        inner = _identity(target) if not stat.S_ISDIR(target.st_mode) else _look_into(path, target)
        return None if inner is None else (*_identity(link), *inner)
    return _look_into(path, link) if stat.S_ISDIR(link.st_mode) else _identity(link)


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _look_into(path: str, info: os.stat_result) -> Look:
    """Return the state of a folder with everything in it. Links in it are not followed."""
    seen = hash(_identity(info))
    left, folders = _MOST_ENTRIES, [path]
    while folders:
        with contextlib.suppress(PermissionError, FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return None
                with contextlib.suppress(FileNotFoundError):
                    seen ^= hash((entry.path, *_identity(entry.stat(follow_symlinks=False))))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return (seen,)
