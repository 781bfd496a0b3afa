"""Questions to a cluster, each one command for many jobs: what the queue and the accounting say, what there is.

A job that is not in an answer is not known there *yet* or not any more: callers conclude nothing from that alone. A
cluster that cannot answer raises Unavailable. Not for changing anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from torc.errors import Invalid
from torc.schedulers.slurm import commands, fields, output_parser
from torc.schedulers.slurm.commands import PATIENCE_SECONDS, TIMEOUT_SECONDS
from torc.schedulers.slurm.output_parser import AccountingRow, QueueRow, Record, StartEstimate

#: of ids in one command: the kernel's limit on arguments is far, a controller's patience is not
_AT_ONCE = 1000
#: clocks of a login node and of the accounting may differ
_EARLIER_SECONDS = 3600.0


def queue(
    jobs: Collection[str] | None = None,
    *,
    user: str | None = None,
    clusters: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> list[QueueRow]:
    """Ask squeue for jobs in any state: those of these ids (`12`, `12_3`, `12@cluster`), or all of a user, on `clusters`.

    It forgets jobs some minutes after their end.
    """
    ask = ["squeue", "--noheader", "--states=all", "--array", f"--format={output_parser.SQUEUE_FORMAT}"]
    if user is not None:
        ask.append(f"--user={user}")
    if jobs is None:
        there = [f"--clusters={clusters}"] if clusters else []
        return output_parser.parse_squeue(commands.run([*ask, *there], patience=patience))
    rows: list[QueueRow] = []
    for where, ids in by_cluster(jobs):
        try:
            text = commands.run([*ask, *where, f"--jobs={','.join(ids)}"], patience=patience)
        except Invalid as error:
            if "invalid job id" not in error.message.lower():  # the one job that was asked for is forgotten
                raise
        else:
            rows += output_parser.parse_squeue(text)
    return rows


def accounting(
    jobs: Collection[str],
    since: float,
    *,
    duplicates: bool = False,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> list[AccountingRow] | None:
    """Ask sacct for jobs and their steps; `since`: when the first of them was submitted. None: this cluster keeps no accounts.

    Without a time sacct means today, and forgets at midnight. With `duplicates`, earlier runs of a requeued job too.
    """
    rows: list[AccountingRow] = []
    begin = datetime.fromtimestamp(max(since - _EARLIER_SECONDS, 0.0), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for where, ids in by_cluster(jobs):
        ask = ["sacct", "--noheader", "--parsable2", f"--format={output_parser.SACCT_FORMAT}", f"--starttime={begin}"]
        ask += [*where, *(["--duplicates"] if duplicates else []), f"--jobs={','.join(ids)}"]
        try:
            rows += output_parser.parse_sacct(commands.run(ask, timeout=timeout, patience=patience))
        except Invalid as error:
            if "accounting storage is disabled" in error.message.lower():
                return None
            raise
    return rows


def nodes(*, patience: float = PATIENCE_SECONDS) -> list[Record]:
    """Ask for all nodes that are shown to the caller, as `scontrol show nodes` tells them."""
    return output_parser.parse_scontrol(commands.run(["scontrol", "--oneliner", "show", "nodes"], patience=patience))


def partitions(*, patience: float = PATIENCE_SECONDS) -> list[Record]:
    """Ask for all partitions that the caller may use, as `scontrol show partitions` tells them."""
    ask = ["scontrol", "--oneliner", "show", "partitions"]
    return output_parser.parse_scontrol(commands.run(ask, patience=patience))


def job(id_: str, *, patience: float = PATIENCE_SECONDS) -> Record | None:
    """Ask for one job, as `scontrol show job` tells it (restarts, paths, times). None: it is forgotten."""
    try:
        text = commands.run(["scontrol", "--oneliner", "show", "job", id_], patience=patience)
    except Invalid as error:
        if "invalid job id" in error.message.lower():
            return None
        raise
    return next(iter(output_parser.parse_scontrol(text)), None)


def expected_start(options: Iterable[str], script: str, *, patience: float = 0.0) -> StartEstimate | None:
    """Ask when a job of these sbatch options would start, without submitting it. Raises Invalid, where it could never run."""
    answer = commands.ask(["sbatch", "--test-only", *options], stdin=script, patience=patience)
    return output_parser.parse_test_only(answer.said + answer.output)


def by_cluster(jobs: Iterable[str]) -> list[tuple[list[str], list[str]]]:
    """Sort ids by the cluster that they name: the option that means it, and its ids, not too many at once. Raises Invalid."""
    sorted_: dict[str | None, list[str]] = {}
    for text in dict.fromkeys(jobs):
        found = fields.job_id(text)
        if found is None:
            raise Invalid(f"`{text}` is no job id of Slurm", hint="such as 12, 12_3 or 12@cluster")
        sorted_.setdefault(found.cluster, []).append(found.job)
    return [
        ([f"--clusters={cluster}"] if cluster else [], ids[at : at + _AT_ONCE])
        for cluster, ids in sorted_.items()
        for at in range(0, len(ids), _AT_ONCE)
    ]
