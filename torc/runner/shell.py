"""The shell that runs the commands of jobs, actions and recovery scripts: bash where available, otherwise sh.

Where /bin/sh is dash, bash takes 0.7 ms more CPU time to start, as much as a runner spends on a whole short job. So a command
that means the same to both, a single program with plain words as arguments, is run by dash.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from functools import cache

SH = "/bin/sh"
_BASH = "/bin/bash"
#: words in which no shell expands, splits or assigns anything
_WORDS = re.compile(r"[A-Za-z0-9_./@+,:-]+(?: [A-Za-z0-9_./@%+,:=-]+)*")
_SAME_BUILTINS = {"true", "false", ":"}
#: words with a meaning of their own in a shell: builtins and reserved words of bash and dash
_OWN_WORDS = {
    ".",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "chdir",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
}


@cache
def program() -> str:
    """Return the path of the shell."""
    if os.access(_BASH, os.X_OK):
        return _BASH
    return shutil.which("bash") or SH


def is_bash() -> bool:
    """Return whether commands run under bash."""
    return program() != SH


def reads_nothing(names: Iterable[str]) -> bool:
    """Return whether bash takes nothing from variables with these names: no startup file, options or functions."""
    return not any(name.startswith("BASH") or name == "SHELLOPTS" for name in names)


def for_command(command: str, path: str) -> str:
    """Return the shell for a command; bash would read nothing from the environment. `path` is the job's PATH."""
    if not _WORDS.fullmatch(command) or not _sh_is_dash():
        return program()
    first = command.partition(" ")[0]
    return SH if first in _SAME_BUILTINS or _is_program(first, path) else program()


@cache
def _sh_is_dash() -> bool:
    return os.path.basename(os.path.realpath(SH)) == "dash"


@cache
def _is_program(word: str, path: str) -> bool:
    """Return whether the kernel itself executes what a word names: shells differ in how they run scripts without `#!`."""
    if word in _OWN_WORDS or ("/" in word and not word.startswith("/")):
        return False
    found = shutil.which(word, path=path)
    if found is None or not found.startswith("/"):
        return False
    try:
        with open(found, "rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start == b"\x7fELF" or start.startswith(b"#!")
