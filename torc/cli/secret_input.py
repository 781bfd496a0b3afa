"""Passwords and tokens come from a terminal without being shown, or from standard input; never from an argument."""

from __future__ import annotations

import getpass
import sys

from torc.display_text import visible
from torc.errors import Invalid


def ask_password(what: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Ask for a password. Raises Invalid where there is nobody to ask."""
    if from_stdin:
        return first_line(what)
    if not sys.stdin.isatty():
        raise Invalid(
            f"{what} is needed, and there is no terminal to ask at", hint="say --password-stdin and pipe it in"
        )
    shown = visible(what)
    found = getpass.getpass(f"{shown}: ")
    if twice and getpass.getpass(f"{shown}, again: ") != found:
        raise Invalid("the two are not the same", hint="try again")
    return found


def first_line(what: str) -> str:
    """Read a line of standard input. Raises Invalid when there is none."""
    found = sys.stdin.readline().rstrip("\r\n")
    if not found:
        raise Invalid(f"{what} is needed on standard input, and nothing came", hint="pipe it in, on a line of its own")
    return found
