"""Files that contain secrets, readable only by their owner."""

from __future__ import annotations

from pathlib import Path

from torc.errors import Unavailable
from torc.files import write_whole


def write_private(path: Path, text: str) -> None:
    """Write a file, creating its folder (readable only by the owner) if necessary. Raises Invalid or Unavailable.

    Others may be able to write to the folder: an existing link is replaced, not followed.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}", hint="check the folder and its disk") from None
    write_whole(path, text.encode(), 0o600)
