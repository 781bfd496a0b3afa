"""How this program starts itself: by the same interpreter, from its own modules alone."""

from __future__ import annotations

import sys


def own_module(name: str) -> list[str]:
    """Return the command that runs a module of ours.

    -P keeps the working directory off the path of modules: others may write there, and a `json.py` of theirs would be run.
    """
    return [sys.executable, "-P", "-m", name]


def own_program() -> list[str]:
    """Return the command that runs this program."""
    return own_module("torc.cli.main")
