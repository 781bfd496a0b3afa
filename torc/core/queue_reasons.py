"""Why the queue of a cluster lets a job wait: Slurm's words, in those of people, and what helps. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Why(NamedTuple):
    """What a reason means. `never`: waiting alone will not end it."""

    what: str
    hint: str | None = None
    never: bool = False


_LESS = "cancel it (torc slurm cancel), and ask for less"
#: by the beginning of the word; the longest that matches holds (squeue(1), JOB REASON CODES)
_REASONS: dict[str, Why] = {
    "Resources": Why("it is next, and waits for nodes to become free"),
    "Priority": Why("others in the queue come before it"),
    "BeginTime": Why("its time to begin has not come"),
    "Cleaning": Why("what it left on its nodes is being cleaned up"),
    "Licenses": Why("it waits for a license"),
    "Dependency": Why("it waits for another job of the cluster"),
    "DependencyNeverSatisfied": Why("it depends on a job that failed", "cancel it: it will never start", never=True),
    "JobHeldUser": Why("somebody holds it", "scontrol release lets it go", never=True),
    "JobHeldAdmin": Why("an administrator holds it", "ask them", never=True),
    "PartitionDown": Why("its partition is down", "it begins when the partition is up again, or name another one"),
    "PartitionInactive": Why("its partition starts nothing now"),
    "PartitionNodeLimit": Why("it asks for more nodes than its partition gives", _LESS, never=True),
    "PartitionTimeLimit": Why("it asks for more time than its partition gives", _LESS, never=True),
    "PartitionConfig": Why("its partition does not allow what it asks for", _LESS, never=True),
    "BadConstraints": Why("no node has what it asks for", _LESS, never=True),
    "ReqNodeNotAvail": Why("nodes that it needs are down, drained or reserved"),
    "Reservation": Why("it waits for its reservation"),
    "NodeDown": Why("a node that it needs is down"),
    "InvalidAccount": Why("its account is not valid", "name an account that you may charge (--account)", never=True),
    "InvalidQOS": Why("its qos is not valid", "name a qos that you may use", never=True),
    "Assoc": Why("a limit of your account is reached"),
    "QOS": Why("a limit of its qos is reached"),
    "MaxCpuPerAccount": Why("a limit of your account is reached"),
    "JobArrayTaskLimit": Why("so many tasks of its array run already"),
}
#: of limits that one job alone goes beyond
_ALONE = ("PerJob", "MaxWall", "MinCpu", "MinMemory", "MinGRES")


def explain(reason: str | None) -> Why:
    """Tell what a reason means; of one that is not known, the word itself."""
    word = (reason or "").strip().strip("()").partition(",")[0].partition(" ")[0]
    if not word or word == "None":
        return Why("the cluster has not looked at it yet")
    known = max((name for name in _REASONS if word.startswith(name)), key=len, default=None)
    if known is None:
        return Why(f"the cluster says {word}")
    why = _REASONS[known]
    if known in {"Assoc", "QOS"} and any(part in word for part in _ALONE):
        return Why(f"it asks for more than is allowed ({word})", _LESS, never=True)
    return Why(f"{why.what} ({word})", why.hint, why.never)
