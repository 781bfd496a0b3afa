"""Where paths of a spec lead through symbolic links, for comparing them: only who sees the file system can tell."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torc.spec.expansion.paths import place_of

#: of more paths, the folders are looked at, and not each file
_MOST_FILES = 100_000


def links_of(paths: Sequence[str], directory: str) -> dict[str, str]:
    """Return the paths, relative to a directory, that lead elsewhere, and where: relative where that lies below the directory."""
    base = os.path.realpath(directory)
    folders: dict[str, str] = {}
    found: dict[str, str] = {}
    for path in paths:
        folder, name = os.path.split(os.path.join(directory, path))
        if name in {"", ".", ".."}:
            real = _real(os.path.join(folder, name))
        else:
            if folder not in folders:
                folders[folder] = _real(folder)
            real = os.path.join(folders[folder], name)
            if len(paths) <= _MOST_FILES and _is_link(real):
                real = _real(real)
        place = place_of(real, base)
        if place != place_of(path, directory):
            found[path] = place
    return found


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def _is_link(path: str) -> bool:
    try:
        return os.path.islink(path)
    except ValueError:
        return False
