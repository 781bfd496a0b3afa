"""Write files whole or not at all, under names that nobody can have prepared. For every room that writes for somebody."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from torc.errors import Invalid, Unavailable


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of `path` at the end. `mode` is lessened by the umask. Raises Invalid or Unavailable."""
    if path.is_dir():
        raise Invalid(f"{path} is a directory", hint="name a file in it")
    if not path.parent.is_dir():
        raise Invalid(f"there is no directory {path.parent}", hint="make it, or name another place")
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


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file. Raises Invalid or Unavailable."""
    with whole_file(path, mode) as file:
        file.write(content)


def _umask() -> int:
    present = os.umask(0o077)
    os.umask(present)
    return present


def _cannot(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"cannot write {path}: {error.strerror}", hint="check the directory and its disk, or name another place"
    )
