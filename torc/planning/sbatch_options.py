"""The sbatch options that users write (`slurm_defaults`, `extra` of a scheduler): parsing, and which ones Torc refuses. Pure.

Options not listed here are passed on unchanged. docs/slurm.md has this table for users.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torc import hostlist

#: would break what Torc relies on: option -> why, and what to write instead
REFUSED: Mapping[str, str] = {
    "array": "each task of an array would be an allocation unknown to Torc; use num_allocations of the action",
    "wrap": "Torc writes the script of an allocation",
    "test-only": "nothing would be submitted; use torc submit --dry-run",
    "wait": "sbatch would return only when the allocation ends; use torc watch",
    "ntasks": "one runner starts on each node; use nodes and cpus_per_node of the scheduler",
    "nodefile": "use nodes of the scheduler, and nodelist",
    "help": "nothing would be submitted",
    "usage": "nothing would be submitted",
    "version": "nothing would be submitted",
    "uid": "the allocation would be another user's",
    "gid": "the allocation would be another group's",
}
#: set by Torc itself, which warns about it: option -> why
LEFT_OUT: Mapping[str, str] = {
    "signal": "Slurm has to warn the runners before the end; for a job that saves its work, set supports_termination",
    "requeue": "Torc requests another allocation itself, and must be able to tell the two apart",
    "job-name": "Torc finds its allocations by their names",
    "output": "the log goes to the output directory of the workflow",
    "error": "the log goes to the output directory of the workflow",
    "open-mode": "the log goes to the output directory of the workflow",
    "input": "the script of an allocation reads nothing",
    "chdir": "jobs run in the directory of the workflow",
    "parsable": "Torc sets it",
    "quiet": "Torc shows Slurm's warnings",
}
_SHORT: Mapping[str, str] = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "B": "extra-node-info",
    "c": "cpus-per-task",
    "C": "constraint",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "h": "help",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "m": "distribution",
    "M": "clusters",
    "n": "ntasks",
    "N": "nodes",
    "o": "output",
    "O": "overcommit",
    "p": "partition",
    "q": "qos",
    "Q": "quiet",
    "s": "oversubscribe",
    "S": "core-spec",
    "t": "time",
    "v": "verbose",
    "V": "version",
    "w": "nodelist",
    "W": "wait",
    "x": "exclude",
}
_ALONE = frozenset(
    {
        "contiguous",
        "help",
        "hold",
        "ignore-pbs",
        "no-requeue",
        "overcommit",
        "parsable",
        "quiet",
        "reboot",
        "requeue",
        "spread-job",
        "test-only",
        "usage",
        "use-min-nodes",
        "verbose",
        "version",
        "wait",
    }
)
#: values of these options are given only with `=`
_MAYBE = frozenset({"exclusive", "get-user-env", "nice", "no-kill", "oversubscribe", "propagate", "share"})
#: getopt accepts unique prefixes of names
_LONG = tuple(
    sorted(
        {
            *REFUSED,
            *LEFT_OUT,
            *_SHORT.values(),
            *_ALONE,
            *_MAYBE,
            "cluster",
            "mem",
            "mem-per-cpu",
            "mem-per-gpu",
            "comment",
        }
    )
)


class SbatchOption(NamedTuple):
    """An option by its long name. `value` is None for an option without one."""

    name: str
    value: str | None = None


def read(text: str) -> list[SbatchOption]:
    """Parse options like sbatch. Raises ValueError for what it would reject."""
    words = shlex.split(text)
    found: list[SbatchOption] = []
    while words:
        word = words.pop(0)
        if word == ":":
            raise ValueError("a heterogeneous job (`:`) would be several allocations in one")
        if word.startswith("--") and len(word) > 2:
            written, sign, value = word[2:].partition("=")
            name = _whole(written)
            if (
                not sign
                and name not in _ALONE | _MAYBE
                and words
                and (name in _SHORT.values() or not words[0].startswith("-"))
            ):
                sign, value = "=", words.pop(0)
            found.append(SbatchOption(name, value if sign else None))
        elif word.startswith("-") and len(word) > 1:
            found += _short(word[1:], words)
        else:
            raise ValueError(f"`{word}` is not an option")
    return found


def _short(letters: str, words: list[str]) -> list[SbatchOption]:
    """Parse `-HQ`, `-xn1` or `-x n1`; may consume the value from the following words."""
    found: list[SbatchOption] = []
    while letters:
        name, letters = _SHORT.get(letters[0], letters[0]), letters[1:]
        if name in _ALONE | _MAYBE:
            found.append(SbatchOption(name))
            continue
        value = letters or (words.pop(0) if words else None)
        found.append(SbatchOption(name, value))
        break
    return found


def _whole(written: str) -> str:
    if written in _LONG:
        return written
    meant = [name for name in _LONG if name.startswith(written)]
    return meant[0] if len(meant) == 1 else written


def problem_of(option: str) -> str | None:
    """Return why an option is refused; None if it is allowed."""
    name = option.replace("_", "-")
    why = REFUSED.get(name)
    return None if why is None else f"`{name}` cannot be set: {why}"


def problem_in(text: str) -> str | None:
    """Return why these options are refused; None if they are allowed."""
    try:
        return next((problem for option in read(text) if (problem := problem_of(option.name)) is not None), None)
    except ValueError as error:
        return str(error)


def excluded(options: Iterable[SbatchOption]) -> tuple[str, ...]:
    """Return the nodes that options exclude. Raises ValueError for a file of nodes."""
    nodes: dict[str, None] = {}
    for option in options:
        if option.name == "exclude" and option.value:
            if "/" in option.value:
                raise ValueError(
                    "`exclude` is a list of nodes here, not a file, so that nodes that failed can be added to it"
                )
            nodes |= dict.fromkeys(hostlist.expand(option.value))
    return tuple(nodes)
