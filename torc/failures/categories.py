"""The categories of failures: everything that is said of one, and what a retry has to change.

By which messages a category is known is in `log_patterns`; how the evidence is weighed, in `diagnosis`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

#: what a retry has to change; none: it would fail again
Remedy = Literal["more memory", "more time", "again", "none"]


class Category(StrEnum):
    """What was wrong."""

    label: str  # what happened, in words
    advice: str  # what usually helps
    remedy: Remedy
    is_explicit: bool  # its messages leave no doubt, whatever else is on the line

    OUT_OF_MEMORY = (
        "out_of_memory",
        "it needed more memory than it was given",
        "ask for more memory, or work on less at a time",
        "more memory",
    )
    TIMEOUT = (
        "timeout",
        "it was stopped at a time limit",
        "ask for more time, or save checkpoints and go on from them",
        "more time",
        True,
    )
    NODE_FAILURE = (
        "node_failure",
        "the machine under it failed",
        "run it again; leave out a node that fails more than once",
        "again",
        True,
    )
    PREEMPTED = (
        "preempted",
        "the cluster took its machine for other jobs",
        "run it again; checkpoints save what was done",
        "again",
        True,
    )
    MISSING_FILE = (
        "missing_file",
        "a file that it reads, or a program, is not there",
        "check the path, and which job makes the file",
    )
    MISSING_MODULE = (
        "missing_module",
        "software that it uses is not there",
        "install it, or load its module or environment in the command",
    )
    PERMISSION = (
        "permission",
        "it may not do what it tried",
        "check owners and modes of the files, and the account that it uses",
    )
    DISK_FULL = (
        "disk_full",
        "there was no room left for its files",
        "make room or write elsewhere; `quota` and `df -h` tell how much there is",
    )
    RESOURCE_LIMIT = (
        "resource_limit",
        "it came to a limit of the system for one process or user",
        "raise the limit in the command (`ulimit -a` lists them; `ulimit -n 4096` is for open files), or have it hold less at a time",
    )
    NETWORK = (
        "network",
        "a server or a connection did not answer",
        "run it again; have it try several times with a pause",
        "again",
    )
    GPU = (
        "gpu",
        "the GPU, or what drives it, failed",
        "check that it gets a GPU (num_gpus), that drivers fit, and that its work fits the GPU's memory",
    )
    LICENSE = (
        "license",
        "there was no license for it",
        "wait for a free one and run it again, or limit how many such jobs run at once",
        "again",
        True,
    )
    SYNTAX_ERROR = (
        "syntax_error",
        "the script, the input or the command line is wrong",
        "mend it: running it again changes nothing",
    )
    ASSERTION = (
        "assertion",
        "a check of the program itself failed",
        "look at the input and at what the check said: running it again changes nothing",
    )
    KILLED_BY_USER = (
        "killed_by_user",
        "somebody stopped it",
        "run it again when it is wanted",
        "none",
        True,
    )
    UNKNOWN = (
        "unknown",
        "nothing says why",
        "look at all that it wrote",
    )

    def __new__(
        cls, name: str, label: str, advice: str, remedy: Remedy = "none", is_explicit: bool = False
    ) -> Category:
        member = str.__new__(cls, name)
        member._value_ = name
        member.label, member.advice, member.remedy, member.is_explicit = label, advice, remedy, is_explicit
        return member

    @property
    def is_retryable(self) -> bool:
        """Return whether another attempt may succeed although nobody has corrected anything."""
        return self.remedy != "none"
