"""What a refusal of sbatch means for whoever asked: "not now", or an end, and what would help. Pure.

Slurm's words are those of slurm_errno.c, 20.11 to 25.05, and the names of limits that newer versions print before them. What is not
known here is an end: a job_submit plugin of a site may say anything, and asking again would not change its mind.
"""

from __future__ import annotations

import re

from torc.schedulers.base import SubmissionRefusal

#: limits on how many jobs may be in the queue (AssocMaxSubmitJobLimit, AssocGrpSubmitJobsLimit, QOSMaxSubmitJobPerUserLimit, ...), and
#: what is full, down or not yet there
_PASSING = re.compile(
    r"\b\w*Submit(Job|Jobs)\w*\b"
    r"|temporarily unable to accept job|resource temporarily unavailable|too many jobs|maximum (number of )?jobs"
    r"|partition not available|partition is (down|drained|inactive)|reservation not (usable|available) now"
    r"|required node not available|nodes required for job are down|due to maintenance reservation"
    r"|try again later|standby mode",
    re.IGNORECASE,
)
#: one message for the number of jobs and for the size of one; a limit that is named tells them apart
_OF_POLICY = re.compile(r"violates accounting/QOS policy", re.IGNORECASE)
_LIMIT = re.compile(r"\b(?:Assoc|QOS)(?:Grp|Max|Min)\w+\b")
_HINTS = (
    (
        re.compile(r"time limit|MaxWall", re.IGNORECASE),
        "ask for less time (`walltime`), or for another partition or qos",
    ),
    (
        re.compile(r"^(Assoc|QOS)(Grp|Max|Min)"),
        "ask for less: a limit of the account or qos is lower (sacctmgr show assoc|qos)",
    ),
    (
        re.compile(r"account|association|permission|access", re.IGNORECASE),
        "name an account that you may use there: --account",
    ),
    (re.compile(r"\bqos\b", re.IGNORECASE), "name a qos that you may use, or ask for less"),
    (
        re.compile(r"reservation", re.IGNORECASE),
        "check `reservation` in slurm_defaults or `extra`: scontrol show reservation",
    ),
    (re.compile(r"partition name", re.IGNORECASE), "name an existing partition: see sinfo"),
    (
        re.compile(r"node (count|configuration)|processors|memory|gres|feature|constraint|Cpu|Node", re.IGNORECASE),
        "no node there has that much: ask for less, or for another partition",
    ),
    (re.compile(r"license", re.IGNORECASE), "check `licenses`: scontrol show licenses"),
)
_ANYTHING = "change the request; sbatch(1) explains the message"


def refusal_of(words: str) -> SubmissionRefusal:
    """Return what Slurm's words mean."""
    named = _LIMIT.findall(words)
    if _PASSING.search(words) or (_OF_POLICY.search(words) and not named):
        return SubmissionRefusal(True, "it is submitted again until there is room")
    told = " ".join(named) or words  # of a limit that is named, the name says what it is about
    return SubmissionRefusal(False, next((hint for pattern, hint in _HINTS if pattern.search(told)), _ANYTHING))
