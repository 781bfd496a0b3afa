"""The commands with which this program starts itself: with the same interpreter, from its own modules only."""

from __future__ import annotations

import sys


def own_module(name: str) -> list[str]:
    """Return the command that runs one of Torc's modules.

    -P keeps the working directory off the module path: others may write there, and their `json.py` would be executed.
    """
    return [sys.executable, "-P", "-m", name]


def own_program() -> list[str]:
    """Return the command that runs this program."""
    return own_module("torc.cli.main")
