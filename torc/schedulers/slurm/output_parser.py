"""What Slurm's commands print, as values: rows of squeue and sacct, records of scontrol, answers of sbatch. Pure.

The formats below are explicit, of fields that exist from Slurm 20.11 to 25.05; names that people choose stand last, as
they may have a `|`. What cannot be read is left out (a row) or None (a field): never an error. Not for asking:
`torc.schedulers.slurm.queries`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torc.schedulers.slurm import fields
from torc.schedulers.slurm.fields import JobId

#: squeue --noheader --states=all --array --format=...
SQUEUE_FORMAT = "%i|%A|%T|%r|%N|%D|%P|%a|%u|%V|%S|%e|%l|%M|%Q|%j"
_SQUEUE_FIELDS = SQUEUE_FORMAT.count("|") + 1
#: sacct --noheader --parsable2 --format=...
SACCT_FIELDS = (
    "JobID",
    "JobIDRaw",
    "State",
    "ExitCode",
    "DerivedExitCode",
    "User",
    "Account",
    "Partition",
    "Cluster",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "TimelimitRaw",
    "NNodes",
    "AllocCPUS",
    "ReqMem",
    "MaxRSS",
    "TotalCPU",
    "AllocTRES",
    "NodeList",
    "JobName",
)
SACCT_FORMAT = ",".join(SACCT_FIELDS)

_RECORD = re.compile(r"(?:^|\s)([A-Z][A-Za-z_/:]*)=")
_TEST_ONLY = re.compile(
    r"Job (?P<job>\S+) to start at (?P<start>\S+)(?: a? ?using (?P<cpus>\d+) processors)?"
    r"(?: on (?:nodes )?(?P<nodes>\S+))?(?: in partition (?P<partition>\S+))?"
)


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A job, or a task of an array, as squeue tells it. Times are in seconds since 1970."""

    id: JobId
    raw_id: int | None
    state: str
    reason: str
    nodes: tuple[str, ...]
    num_nodes: int | None
    partition: str
    account: str
    user: str
    submitted_at: float | None
    starts_at: float | None  # expected, while it is pending
    ends_at: float | None
    walltime_seconds: int | None
    elapsed_seconds: int | None
    priority: int | None
    name: str
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class AccountingRow:
    """A job or a step (`id.step`) as sacct tells it: seconds late, and at first not right. What is None is not known."""

    id: JobId
    raw_id: JobId | None
    state: str
    canceled_by: int | None
    exit_code: int | None
    exit_signal: int | None
    derived_exit_code: tuple[int, int] | None
    user: str
    account: str
    partition: str
    cluster: str
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    elapsed_seconds: int | None
    walltime_seconds: int | None
    num_nodes: int | None
    num_cpus: int | None
    requested_memory_bytes: int | None  # on all nodes together
    max_rss_bytes: int | None  # of a step; sampled, so too small or 0 for a short one and for one that was killed
    cpu_seconds: float | None
    num_gpus: int
    nodes: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """What `scontrol -o show ...` tells of one thing: its fields, as text."""

    values: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a field; nothing where it is `(null)`, `N/A` or not there."""
        value = self.values.get(name, "").strip()
        return "" if value.lower() in {"(null)", "n/a", "none", "unknown"} else value

    def number(self, name: str) -> int | None:
        """Return a field that is a whole number."""
        return fields.number(self.text(name))


@dataclass(frozen=True, slots=True)
class StartEstimate:
    """What `sbatch --test-only` foresees."""

    starts_at: float | None
    num_cpus: int | None
    nodes: tuple[str, ...]
    partition: str | None


def parse_squeue(text: str) -> list[QueueRow]:
    """Read rows of SQUEUE_FORMAT; of several clusters too (`CLUSTER: name` before the rows of each)."""
    rows: list[QueueRow] = []
    cluster: str | None = None
    for line in text.splitlines():
        if line.startswith("CLUSTER: "):
            cluster = line.removeprefix("CLUSTER: ").strip()
            continue
        values = line.split("|", _SQUEUE_FIELDS - 1)
        found = fields.job_id(values[0])
        if found is None or len(values) != _SQUEUE_FIELDS:
            continue
        (
            _,
            raw,
            state,
            reason,
            nodes,
            num_nodes,
            partition,
            account,
            user,
            submit,
            start,
            end,
            limit,
            used,
            priority,
            name,
        ) = values
        rows.append(
            QueueRow(
                id=found,
                raw_id=fields.number(raw),
                state=fields.state(state),
                reason=reason.strip(),
                nodes=fields.nodes(nodes),
                num_nodes=fields.number(num_nodes),
                partition=partition.strip(),
                account=account.strip(),
                user=user.strip(),
                submitted_at=fields.moment(submit),
                starts_at=fields.moment(start),
                ends_at=fields.moment(end),
                walltime_seconds=fields.duration(limit),
                elapsed_seconds=fields.duration(used),
                priority=fields.number(priority),
                name=name,
                cluster=found.cluster or cluster,
            )
        )
    return rows


def parse_sacct(text: str) -> list[AccountingRow]:
    """Read rows of SACCT_FIELDS."""
    rows: list[AccountingRow] = []
    for line in text.splitlines():
        values = line.split("|", len(SACCT_FIELDS) - 1)
        found = fields.job_id(values[0])
        if found is None or len(values) != len(SACCT_FIELDS):
            continue
        of = dict(zip(SACCT_FIELDS, values, strict=True))
        code, signal = fields.exit_code(of["ExitCode"]) or (None, None)
        limit = fields.number(of["TimelimitRaw"])
        cpus, num_nodes = fields.number(of["AllocCPUS"]), fields.number(of["NNodes"])
        rows.append(
            AccountingRow(
                id=found,
                raw_id=fields.job_id(of["JobIDRaw"]),
                state=fields.state(of["State"]),
                canceled_by=fields.canceled_by(of["State"]),
                exit_code=code,
                exit_signal=signal,
                derived_exit_code=fields.exit_code(of["DerivedExitCode"]),
                user=of["User"],
                account=of["Account"],
                partition=of["Partition"],
                cluster=of["Cluster"],
                submitted_at=fields.moment(of["Submit"]),
                started_at=fields.moment(of["Start"]),
                ended_at=fields.moment(of["End"]),
                elapsed_seconds=fields.number(of["ElapsedRaw"]),
                walltime_seconds=None if limit is None else limit * 60,
                num_nodes=num_nodes,
                num_cpus=cpus,
                requested_memory_bytes=_requested(of["ReqMem"], cpus, num_nodes),
                max_rss_bytes=fields.memory(of["MaxRSS"]),
                cpu_seconds=_cpu_seconds(of["TotalCPU"]),
                num_gpus=_tres_gpus(of["AllocTRES"]),
                nodes=fields.nodes(of["NodeList"]),
                name=of["JobName"],
            )
        )
    return rows


def parse_scontrol(text: str) -> list[Record]:
    """Read what `scontrol -o show nodes|partitions|job` prints: a record a line."""
    return [Record(found) for line in text.splitlines() if (found := dict(_pairs(line)))]


def parse_submitted(text: str) -> JobId | None:
    """Read the answer of `sbatch --parsable`: `12`, or `12;cluster`; a site may print more before it."""
    for line in reversed(text.splitlines()):
        found = fields.job_id(line)
        if found is not None and found.step is None:
            return found
    return None


def parse_test_only(said: str) -> StartEstimate | None:
    """Read what `sbatch --test-only` says on standard error. None where it foresees nothing."""
    match = _TEST_ONLY.search(said)
    if match is None:
        return None
    cpus = fields.number(match["cpus"] or "")
    return StartEstimate(
        fields.moment(match["start"]), cpus, fields.nodes(match["nodes"] or ""), match["partition"] or None
    )


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Part `A=1 OS=Linux 6.1 #1 B=` at the names: values may have blanks."""
    found = list(_RECORD.finditer(line))
    for at, match in enumerate(found):
        end = found[at + 1].start() if at + 1 < len(found) else len(line)
        yield match[1], line[match.end() : end].strip()


def _cpu_seconds(text: str) -> float | None:
    """Read `01:02:03`, `1-02:03:04`, `02:03.456` as seconds."""
    whole, _, fraction = text.strip().partition(".")
    seconds = fields.duration(whole) if ":" in whole else None
    if seconds is None:
        return None
    return seconds + (float(f"0.{fraction}") if fraction.isascii() and fraction.isdigit() else 0.0)


def _requested(text: str, cpus: int | None, num_nodes: int | None) -> int | None:
    """Read ReqMem: `100Mc` is for a CPU and `100Mn` for a node (before 21.08), `100M` for all of it."""
    amount = fields.memory(text)
    times = {"c": cpus, "n": num_nodes}.get(text.strip()[-1:], 1)
    return None if amount is None or times is None else amount * times


def _tres_gpus(text: str) -> int:
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "gres/gpu":
            return fields.number(value) or 0
    return 0
