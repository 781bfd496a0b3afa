"""Files that hold secrets: written for their owner alone."""

from __future__ import annotations

from pathlib import Path

from torc.errors import Unavailable
from torc.files import write_whole


def write_private(path: Path, text: str) -> None:
    """Write a file, in a folder for its owner alone where there is none yet. Raises Invalid or Unavailable.

    The folder may be one in which others write, too: a link that stands there is replaced, not followed.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}", hint="check the folder and its disk") from None
    write_whole(path, text.encode(), 0o600)
