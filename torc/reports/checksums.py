"""Hashes of files that the store has none of, as the files are now: within bounds, for reading may take longer than the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from torc.api.data import File

#: larger files are not read, and no more than so many bytes in all
LARGEST_BYTES, MOST_BYTES = 1 << 30, 4 << 30


def with_hashes(directory: str, files: Iterable[File]) -> list[File]:
    """Add size and SHA-256 to files that have none and are here."""
    left = MOST_BYTES
    found = []
    for file in files:
        hashed = file if file.sha256 is not None else _hashed(file, os.path.join(directory, file.path), left)
        left -= hashed.size_bytes or 0 if hashed is not file else 0
        found.append(hashed)
    return found


def _hashed(file: File, path: str, left: int) -> File:
    try:
        size = os.stat(path).st_size if os.path.isfile(path) else None
        if size is None or size > min(LARGEST_BYTES, left):
            return file
        with open(path, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except (OSError, ValueError):
        return file  # it is not here, or not for us
    return file.model_copy(update={"size_bytes": size, "sha256": digest})
