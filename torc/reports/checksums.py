"""Compute missing hashes of files from their current content, within limits, because reading could take longer than the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from torc.api.data import File

#: largest file to read, and maximum bytes in total
LARGEST_BYTES, MOST_BYTES = 1 << 30, 4 << 30


def with_hashes(directory: str, files: Iterable[File]) -> list[File]:
    """Add size and SHA-256 to files that lack them and are present."""
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
        return file  # absent, or not readable for us
    return file.model_copy(update={"size_bytes": size, "sha256": digest})
