"""Files in folders that others may write to: written atomically, never through a link, and trusted only if they are ours.

A file whose name others can predict is created anew or verified to be our own; what is read back and acted on must be our own as
well. `torc.runner.spawner`, which imports nothing, applies the same rules to the output of jobs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import IO, BinaryIO

from torc.errors import Invalid, Unavailable

#: the folder of job logs, which is never a link, whatever its parent is
LOG_FOLDER = "job_stdio"
#: of a spec, and of each file with parameters: what a server takes as one request
LARGEST_TEXT = 64 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def config_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the user's own configuration (XDG Base Directory Specification)."""
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(base) / "torc"


def private_folder(path: Path) -> None:
    """Create a folder for its owner alone, or remove the write access of others from an existing one.

    Raises OSError, also for a link or another user's folder.
    """
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if not _is_ours(info.st_uid, path):
            raise _not_ours(path)
        if info.st_mode & _OTHERS_WRITE:
            os.fchmod(fd, stat.S_IMODE(info.st_mode) & ~_OTHERS_WRITE)
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Create a folder and its parents for their owner alone; existing ones are not changed. Raises OSError."""
    if not path.is_dir():  # mkdir(parents=True) would apply the umask to the parents
        if path != path.parent:
            make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def open_new(path: str | PathLike[str], flags: int = os.O_WRONLY, mode: int = 0o600) -> int:
    """Create and open a new file; an existing file of that name is unlinked. Raises OSError."""
    flags |= os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, mode)


def open_to_append(path: str | PathLike[str]) -> int:
    """Open our own file for appending, or create it. Raises OSError, also for a link or another user's file."""
    return _ours(
        os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600), path
    )


def open_trusted(path: str | PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file that only this user can have written, in order to act on its content. Raises OSError."""
    fd = _ours(os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), path)
    if os.fstat(fd).st_mode & _OTHERS_WRITE:
        os.close(fd)
        raise _not_ours(path)
    return fd


def read_trusted(path: str | PathLike[str]) -> bytes:
    """Read such a file. Raises OSError."""
    with open(open_trusted(path), "rb") as file:
        return file.read()


class NotPrivate(PermissionError):
    """A file with a secret belongs to another user or is accessible to others."""


def read_private(path: str | PathLike[str], at_most: int = 64 << 10) -> str:
    """Read a regular file of this user that nobody else can access. Raises OSError (NotPrivate), UnicodeDecodeError."""
    # O_NONBLOCK: a pipe might never get a writer
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, encoding="utf-8") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
            raise NotPrivate(errno.EPERM, "other users own it or have access to it", os.fspath(path))
        return file.read(at_most)


def read_text(path: str | PathLike[str], at_most: int = LARGEST_TEXT) -> str:
    """Return a file's text, which may come from a pipe. Raises OSError (EFBIG for more than `at_most` bytes) and UnicodeDecodeError."""
    with open(path, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"larger than {at_most >> 20} MiB", os.fspath(path))
    return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def open_log(path: str | PathLike[str]) -> BinaryIO:
    """Open anybody's log to show or pack it: a regular file, not a link. Raises OSError."""
    folder, name = os.path.split(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if os.path.basename(folder) == LOG_FOLDER:
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fd = os.open(name, flags, dir_fd=at)
        finally:
            os.close(at)
    else:
        fd = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return open(fd, "rb")


def _ours(fd: int, path: str | PathLike[str]) -> int:
    """Return an open file if it is a regular file of ours with a single link. Raises OSError."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1 or not _is_ours(info.st_uid, os.path.dirname(path) or "."):
        os.close(fd)
        raise _not_ours(path)
    return fd


def _is_ours(uid: int, folder: str | PathLike[str]) -> bool:
    """Return whether an owner is this user, also on file systems that assign root's files to another user (root_squash)."""
    if uid == os.geteuid():
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return uid == os.fstat(probe.fileno()).st_uid
    except OSError:
        return False


def _not_ours(path: str | PathLike[str]) -> OSError:
    return PermissionError(errno.EPERM, "it is not yours, or other users can change it", os.fspath(path))


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `path` at the end. `mode` is subject to the umask. Raises Invalid or Unavailable."""
    _require_place(path)
    if not path.parent.is_dir():
        raise Invalid(f"there is no directory {path.parent}", hint="create it, or choose another place")
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode & ~_umask())
        os.replace(name, path)
    except OSError as error:
        raise _cannot(path, error) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _require_place(path: Path) -> None:
    """Refuse what a file must not replace: a folder, a device or a pipe, and whatever the system keeps in /dev and /proc."""
    if path.is_dir():
        raise Invalid(f"{path} is a directory", hint="give the name of a file")
    folder = os.path.realpath(path.parent)
    is_systems = folder.startswith(("/dev/", "/proc/", "/sys/")) and not folder.startswith("/dev/shm/")
    if (
        (path.exists() and not path.is_file())
        or folder in {"/dev", "/proc", "/sys"}
        or (is_systems and folder != "/dev/shm")
    ):
        raise Invalid(f"{path} is no place for a file", hint="name a file in a folder of yours")


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file atomically. Raises Invalid or Unavailable."""
    with whole_file(path, mode) as file:
        file.write(content)


def _umask() -> int:
    present = os.umask(0o077)
    os.umask(present)
    return present


def _cannot(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"cannot write {path}: {error.strerror}", hint="check the directory and its disk, or choose another place"
    )
