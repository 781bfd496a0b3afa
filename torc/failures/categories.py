"""The failure categories: how each is described, and what a retry has to change.

Which messages indicate a category is in `log_patterns`; how evidence is weighed is in `diagnosis`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

#: what a retry has to change; none: it would fail again
Remedy = Literal["more memory", "more time", "again", "none"]


class Category(StrEnum):
    label: str  # what happened
    advice: str  # what usually helps
    remedy: Remedy
    is_explicit: bool  # its messages leave no doubt, whatever else is on the line

    OUT_OF_MEMORY = (
        "out_of_memory",
        "it needed more memory than it was given",
        "request more memory, or process less at a time",
        "more memory",
    )
    TIMEOUT = (
        "timeout",
        "it was stopped at a time limit",
        "request more time, or save checkpoints and resume from them",
        "more time",
        True,
    )
    NODE_FAILURE = (
        "node_failure",
        "the machine it ran on failed",
        "run it again; exclude a node that fails repeatedly",
        "again",
        True,
    )
    PREEMPTED = (
        "preempted",
        "it was preempted by other jobs of the cluster",
        "run it again; checkpoints would preserve its progress",
        "again",
        True,
    )
    MISSING_FILE = (
        "missing_file",
        "a file that it reads or a program is missing",
        "check the path and which job writes the file",
    )
    MISSING_MODULE = (
        "missing_module",
        "software that it uses is missing",
        "install it, or load its module or environment in the command",
    )
    PERMISSION = (
        "permission",
        "it lacked a permission",
        "check the owners and modes of files, and the account that it uses",
    )
    DISK_FULL = (
        "disk_full",
        "the disk was full or a quota was reached",
        "free some space or write elsewhere; `quota` and `df -h` show how much is left",
    )
    RESOURCE_LIMIT = (
        "resource_limit",
        "it reached a system limit for a process or user",
        "raise the limit in the command (`ulimit -a` lists them; `ulimit -n 4096` is for open files), or use fewer of them at once",
    )
    NETWORK = (
        "network",
        "a server or a connection did not answer",
        "run it again; let the program retry after a pause",
        "again",
    )
    GPU = (
        "gpu",
        "the GPU or its driver failed",
        "check that it gets a GPU (num_gpus), that the driver version matches, and that its work fits into GPU memory",
    )
    LICENSE = (
        "license",
        "no license was available",
        "wait for a free one and run it again, or limit how many such jobs run at once",
        "again",
        True,
    )
    SYNTAX_ERROR = (
        "syntax_error",
        "the script, the input or the command line is wrong",
        "correct it: running it again will not help",
    )
    ASSERTION = (
        "assertion",
        "a check of the program itself failed",
        "look at the input and the message of the check: running it again will not help",
    )
    KILLED_BY_USER = (
        "killed_by_user",
        "somebody stopped it",
        "run it again if it is still needed",
        "none",
        True,
    )
    UNKNOWN = (
        "unknown",
        "the cause is unknown",
        "look at its complete output",
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
        """Return whether another attempt may succeed without any correction."""
        return self.remedy != "none"
