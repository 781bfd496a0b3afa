"""Why a job is waiting in a cluster's queue: Slurm's reasons in plain words, and what helps. Pure."""

from __future__ import annotations

from typing import NamedTuple


class PendingReason(NamedTuple):
    """What a reason means. `never`: waiting alone will not resolve it."""

    what: str
    hint: str | None = None
    never: bool = False


_LESS = "cancel it (torc slurm cancel), and request less"
#: by prefix; the longest match applies (squeue(1), JOB REASON CODES)
_REASONS: dict[str, PendingReason] = {
    "Resources": PendingReason("it is next and is waiting for nodes to become free"),
    "Priority": PendingReason("other jobs in the queue have priority"),
    "BeginTime": PendingReason("its begin time has not been reached"),
    "Cleaning": PendingReason("its nodes are being cleaned up"),
    "Licenses": PendingReason("it is waiting for a license"),
    "Dependency": PendingReason("it is waiting for another cluster job"),
    "DependencyNeverSatisfied": PendingReason(
        "it depends on a job that failed", "cancel it: it will never start", never=True
    ),
    "JobHeldUser": PendingReason("a user holds it", "release it with scontrol release", never=True),
    "JobHeldAdmin": PendingReason("an administrator holds it", "ask the administrator", never=True),
    "PartitionDown": PendingReason("its partition is down", "wait until it is up again, or choose another partition"),
    "PartitionInactive": PendingReason("its partition is not starting jobs now"),
    "PartitionNodeLimit": PendingReason("it requests more nodes than its partition allows", _LESS, never=True),
    "PartitionTimeLimit": PendingReason("it requests more time than its partition allows", _LESS, never=True),
    "PartitionConfig": PendingReason("its partition does not allow this request", _LESS, never=True),
    "BadConstraints": PendingReason("no node satisfies the request", _LESS, never=True),
    "ReqNodeNotAvail": PendingReason("nodes that it needs are down, drained or reserved"),
    "Reservation": PendingReason("it is waiting for its reservation"),
    "NodeDown": PendingReason("a node that it needs is down"),
    "InvalidAccount": PendingReason(
        "its account is not valid", "specify an account that you may charge (--account)", never=True
    ),
    "InvalidQOS": PendingReason("its qos is not valid", "specify a qos that you may use", never=True),
    "Assoc": PendingReason("a limit of your account is reached"),
    "QOS": PendingReason("a limit of its qos is reached"),
    "MaxCpuPerAccount": PendingReason("a limit of your account is reached"),
    "JobArrayTaskLimit": PendingReason("the limit of running tasks in its array is reached"),
}
#: reasons naming a limit that a single job exceeds
_ALONE = ("PerJob", "MaxWall", "MinCpu", "MinMemory", "MinGRES")


def explain(reason: str | None) -> PendingReason:
    """Explain a reason; an unknown one is quoted."""
    word = (reason or "").strip().strip("()").partition(",")[0].partition(" ")[0]
    if not word or word == "None":
        return PendingReason("the cluster has not looked at it yet")
    known = max((name for name in _REASONS if word.startswith(name)), key=len, default=None)
    if known is None:
        return PendingReason(f"the cluster says {word}")
    why = _REASONS[known]
    if known in {"Assoc", "QOS"} and any(part in word for part in _ALONE):
        return PendingReason(f"it requests more than is allowed ({word})", _LESS, never=True)
    return PendingReason(f"{why.what} ({word})", why.hint, why.never)
