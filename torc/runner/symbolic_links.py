"""Resolve the symbolic links in the paths of a spec so that paths can be compared: only a host with the file system can do it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torc.spec.expansion.paths import place_of

#: with more paths, only folders are resolved
_MOST_FILES = 100_000


def links_of(paths: Sequence[str], directory: str) -> dict[str, str]:
    """Return where paths (relative to a directory) really lead, if elsewhere; relative if that is below the directory."""
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
