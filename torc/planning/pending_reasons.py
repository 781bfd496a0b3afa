"""Why the queue of a cluster lets a job wait: Slurm's words, in those of people, and what helps. Pure."""

from __future__ import annotations

from typing import NamedTuple


class PendingReason(NamedTuple):
    """What a reason means. `never`: waiting alone will not end it."""

    what: str
    hint: str | None = None
    never: bool = False


_LESS = "cancel it (torc slurm cancel), and ask for less"
#: by the beginning of the word; the longest that matches holds (squeue(1), JOB REASON CODES)
_REASONS: dict[str, PendingReason] = {
    "Resources": PendingReason("it is next, and waits for nodes to become free"),
    "Priority": PendingReason("others in the queue come before it"),
    "BeginTime": PendingReason("its time to begin has not come"),
    "Cleaning": PendingReason("what it left on its nodes is being cleaned up"),
    "Licenses": PendingReason("it waits for a license"),
    "Dependency": PendingReason("it waits for another job of the cluster"),
    "DependencyNeverSatisfied": PendingReason(
        "it depends on a job that failed", "cancel it: it will never start", never=True
    ),
    "JobHeldUser": PendingReason("somebody holds it", "scontrol release lets it go", never=True),
    "JobHeldAdmin": PendingReason("an administrator holds it", "ask them", never=True),
    "PartitionDown": PendingReason(
        "its partition is down", "it begins when the partition is up again, or name another one"
    ),
    "PartitionInactive": PendingReason("its partition starts nothing now"),
    "PartitionNodeLimit": PendingReason("it asks for more nodes than its partition gives", _LESS, never=True),
    "PartitionTimeLimit": PendingReason("it asks for more time than its partition gives", _LESS, never=True),
    "PartitionConfig": PendingReason("its partition does not allow what it asks for", _LESS, never=True),
    "BadConstraints": PendingReason("no node has what it asks for", _LESS, never=True),
    "ReqNodeNotAvail": PendingReason("nodes that it needs are down, drained or reserved"),
    "Reservation": PendingReason("it waits for its reservation"),
    "NodeDown": PendingReason("a node that it needs is down"),
    "InvalidAccount": PendingReason(
        "its account is not valid", "name an account that you may charge (--account)", never=True
    ),
    "InvalidQOS": PendingReason("its qos is not valid", "name a qos that you may use", never=True),
    "Assoc": PendingReason("a limit of your account is reached"),
    "QOS": PendingReason("a limit of its qos is reached"),
    "MaxCpuPerAccount": PendingReason("a limit of your account is reached"),
    "JobArrayTaskLimit": PendingReason("so many tasks of its array run already"),
}
#: of limits that one job alone goes beyond
_ALONE = ("PerJob", "MaxWall", "MinCpu", "MinMemory", "MinGRES")


def explain(reason: str | None) -> PendingReason:
    """Return what a reason means; of one that is not known, the word itself."""
    word = (reason or "").strip().strip("()").partition(",")[0].partition(" ")[0]
    if not word or word == "None":
        return PendingReason("the cluster has not looked at it yet")
    known = max((name for name in _REASONS if word.startswith(name)), key=len, default=None)
    if known is None:
        return PendingReason(f"the cluster says {word}")
    why = _REASONS[known]
    if known in {"Assoc", "QOS"} and any(part in word for part in _ALONE):
        return PendingReason(f"it asks for more than is allowed ({word})", _LESS, never=True)
    return PendingReason(f"{why.what} ({word})", why.hint, why.never)
