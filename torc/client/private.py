"""Files that hold secrets: written for their owner alone, all of it at once, under a name that nobody can have prepared."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from torc.errors import Unavailable


def write_private(path: Path, text: str) -> None:
    """Write a file, in a folder for its owner alone where there is none yet. Raises Unavailable.

    The folder may be one in which others write, too: a link that stands there is replaced, not followed.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600, and surely new
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(number)
        os.replace(fresh, path)
    except OSError as error:
        raise _cannot(path, error) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


def _cannot(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"cannot write {path}: {error.strerror}", hint="check the folder and its disk")
