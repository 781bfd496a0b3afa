"""Slurm as a `torc.schedulers.base.Scheduler`: it is asked with one squeue and one sacct a look.

An allocation is known by its id or, before that is recorded, by its mark, with which the name of its job ends. Where a spec
names another cluster (`clusters` in slurm_defaults), the id names it, too: `12@other`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torc.errors import Invalid, Unavailable
from torc.files import make_folder
from torc.planning.allocations import AllocationState, Observation, merged, phase_of
from torc.planning.scheduler_types import SCHEDULER_TYPES, SchedulerType
from torc.schedulers.allocation_planning import AllocationPlanOptions, PlannedAllocation
from torc.schedulers.base import (
    Capability,
    DescribedCluster,
    NodeNeeds,
    OpenAllocation,
    PollResult,
    QueuePosition,
    SubmissionRefusal,
    Submitted,
)
from torc.schedulers.partition_choice import default_memory, problems_of
from torc.schedulers.partitions import Cluster
from torc.schedulers.request import AllocationRequest
from torc.schedulers.slurm import (
    commands,
    output_parser,
    profiles,
    queries,
    queue_position,
    refusals,
    scheduler_specs,
    script,
)
from torc.schedulers.slurm.discovery import live_cluster
from torc.schedulers.slurm.output_parser import AccountingRow, QueueRow
from torc.schedulers.slurm.request import SlurmRequest
from torc.schedulers.slurm.script import ScriptFacts, mark_of

_log = logging.getLogger(__name__)
#: seconds after an end in which the accounting usually tells of it
_ACCOUNTS_LATE = 15.0
#: sacct is asked for so long at most, and after a silence again so much later
_ACCOUNTS_TIMEOUT = 20.0
_ACCOUNTS_SOONEST, _ACCOUNTS_LATEST = 60.0, 600.0
#: a look is tried again for so long at most: who follows looks again by himself, and says meanwhile that there is no answer
_LOOK_PATIENCE = 15.0
#: likewise a submission: what was not heard is submitted by whoever follows
_SUBMIT_PATIENCE = 30.0
_ADDRESS_PATIENCE = 10.0
_SHORT = "a process in it was killed for want of memory"
_GONE = ("invalid job id", "already completing or completed")
_NO_REASON = {"", "none", "(null)"}


@dataclass(slots=True)
class Accounting:
    """When to ask sacct: not for a while, when it does not answer. That it is away is said once."""

    _due: float = 0.0  # on the monotonic clock
    _pause: float = 0.0

    def ask(self, jobs: Collection[str], since: float) -> list[AccountingRow] | None:
        """Ask for jobs; None: this cluster keeps no accounts. Raises Unavailable, at once while it is known to be away."""
        if time.monotonic() < self._due:
            raise Unavailable("the accounting does not answer")
        try:
            rows = queries.accounting(jobs, since, timeout=_ACCOUNTS_TIMEOUT, patience=0.0)
        except Unavailable as error:
            if not self._pause:
                _log.warning("Slurm's accounting does not answer; Torc follows only the queue. %s", error.message)
            self._pause = min(max(_ACCOUNTS_SOONEST, 2 * self._pause), _ACCOUNTS_LATEST)
            self._due = time.monotonic() + self._pause
            raise
        if self._pause:
            _log.warning("Slurm's accounting answers again")
        self._due = self._pause = 0.0
        return rows


@dataclass(frozen=True, slots=True)
class SlurmBackend:
    """The Slurm cluster that commands on this machine reach."""

    workflow_id: int = 0
    program: tuple[str, ...] = ("torc",)
    directory: str = "/"
    output_dir: str = "/tmp"
    variables: Mapping[str, str] = field(default_factory=dict)
    #: how long a look is tried again while the controller is busy
    patience: float = commands.PATIENCE_SECONDS
    accounting: Accounting = field(default_factory=Accounting, compare=False)

    @property
    def type(self) -> SchedulerType:
        """Slurm's names."""
        return SCHEDULER_TYPES["slurm"]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All that there is."""
        return frozenset(Capability)

    def request_of(
        self,
        name: str,
        fields: Mapping[str, Any],
        *,
        job_name: str,
        defaults: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> SlurmRequest:
        """Return what a Slurm scheduler of a spec stands for."""
        return scheduler_specs.request_of(name, fields, job_name=job_name, defaults=defaults, settings=settings)

    def recorded(self, values: Mapping[str, Any]) -> SlurmRequest:
        """Read a request from what was recorded of it."""
        return SlurmRequest.recorded(values)

    def fields_of(self, planned: PlannedAllocation, cluster: Cluster, options: AllocationPlanOptions) -> dict[str, Any]:
        """Write a planned allocation as a Slurm scheduler of a spec."""
        return scheduler_specs.fields_of(planned, cluster, options)

    def check(self, request: AllocationRequest) -> None:
        """Check the sbatch options of the user."""
        script.check(_narrowed(request))

    def left_out(self, request: AllocationRequest) -> list[str]:
        """Say which sbatch options of the user do not hold."""
        return script.left_out(_narrowed(request))

    def settings_for(self, needs: NodeNeeds) -> list[str]:
        """Say how a Slurm scheduler of a spec asks for it."""
        return scheduler_specs.settings_for(needs)

    def refusal_of(self, words: str) -> SubmissionRefusal:
        """Return what sbatch's words mean."""
        return refusals.refusal_of(words)

    def render(self, request: AllocationRequest, mark: str, allocation_id: int) -> str:
        """Write the batch script. Raises Invalid."""
        facts = ScriptFacts(
            self.workflow_id, allocation_id, mark, self.program, self.directory, self.output_dir, self.variables
        )
        return script.render(_narrowed(request), facts)

    def problems(self, request: AllocationRequest) -> list[str]:
        """Ask what the partitions allow."""
        try:
            return problems_of(request, live_cluster(patience=_LOOK_PATIENCE))
        except (Invalid, Unavailable) as error:
            _log.info("%s: what the partitions allow is not known", error.message)
            return []

    def default_memory(self, request: AllocationRequest) -> int | None:
        """Ask what the partitions give by default, where the request leaves the memory to them."""
        if request.memory_bytes_per_node is not None or request.cpus_per_node is None:
            return None
        try:
            return default_memory(request, live_cluster(patience=_LOOK_PATIENCE))
        except (Invalid, Unavailable) as error:
            _log.info("%s: how much memory allocations get by default is not known", error.message)
            return None

    def submit(self, script: str) -> Submitted:
        """Call sbatch. Raises Invalid, with Slurm's words, or Unavailable. Slurm starts nothing whose folder for output is missing."""
        try:
            make_folder(Path(self.output_dir))
        except OSError as error:
            raise Invalid(
                f"cannot make {self.output_dir}: {error.strerror}", hint="name another --output-dir"
            ) from None
        text = commands.run(["sbatch", "--parsable"], stdin=script, patience=min(self.patience, _SUBMIT_PATIENCE))
        found = output_parser.parse_submitted(text)
        if found is None:
            raise Unavailable(f"sbatch answered {text.strip()[:100]!r}, which names no job", uncertain=True)
        return Submitted(found.job if found.cluster is None else f"{found.job}@{found.cluster}", found.cluster)

    def look(self, asked: Collection[OpenAllocation]) -> PollResult:
        """Ask squeue and, for what it does not know or has seen end, sacct. Without sacct, what squeue says counts."""
        by_id = {item.cluster_job_id: item.mark for item in asked if item.cluster_job_id is not None}
        unknown = {item.mark: item.elsewhere for item in asked if item.cluster_job_id is None}
        here = {mark for mark, place in unknown.items() if place is None}
        far, uncertain = self._elsewhere({mark: place for mark, place in unknown.items() if place is not None})
        # a place may be this cluster by its name: what is asked for there does not count again where it stands here
        rows = [row for row in self._queue(by_id, here) if mark_of(row.name) not in unknown.keys() - here] + far
        found, surplus = _found(rows, unknown)
        by_id |= {number: mark for mark, number in found.items()}
        queue = {mark: _of_queue(row) for row in rows if (mark := _own(by_id, row)) is not None}
        late = {
            number: mark
            for number, mark in by_id.items()
            if mark not in queue or phase_of(queue[mark].cluster_state) is AllocationState.ENDED
        }
        rows_of_accounts: list[AccountingRow] | None = []
        try:
            if late:
                rows_of_accounts = self.accounting.ask(
                    list(late), min((item.created_at for item in asked), default=0.0)
                )
        except Unavailable:  # of what the queue has forgotten, nobody can tell now
            uncertain |= {mark for mark in late.values() if mark not in queue}
        accounts = {
            mark: _of_accounting(row)
            for row in rows_of_accounts or ()
            if row.id.step is None and (mark := _own(late, row)) is not None
        }
        short = {_named(late, row) for row in rows_of_accounts or () if _ran_out(row)}
        seen = {}
        for mark in queue.keys() | accounts.keys():
            told = merged(queue.get(mark), accounts.get(mark))
            if told is None or (rows_of_accounts is not None and _is_early(told)):
                continue
            is_short = mark in short and told.cluster_state == "FAILED"
            seen[mark] = replace(told, cluster_state="OUT_OF_MEMORY", reason=_SHORT) if is_short else told
        return PollResult(seen, found, surplus, uncertain)

    def cancel(self, ids: Collection[str]) -> None:
        """Call scancel. Raises Unavailable."""
        for where, numbers in queries.by_cluster(ids):
            try:
                commands.run(["scancel", *where, *numbers], patience=self.patience)
            except Invalid as error:
                if not any(words in error.message.lower() for words in _GONE):
                    raise
                _log.info("%s", error.message)

    def cluster(self) -> Cluster:
        """Ask scontrol and sacctmgr."""
        return live_cluster()

    def plan_for(self, environ: Mapping[str, str], profile: str | None) -> DescribedCluster:
        """Find a profile, or ask the cluster here."""
        return profiles.current(environ, profile)

    def node_addresses(self) -> list[frozenset[str]]:
        """Ask scontrol for NodeAddr and NodeHostName."""
        nodes = queries.nodes(patience=min(self.patience, _ADDRESS_PATIENCE))
        return [frozenset({node.text("NodeAddr"), node.text("NodeHostName")}) for node in nodes]

    def expected_start(self, script: str) -> float | None:
        """Call sbatch --test-only."""
        found = queries.expected_start([], script)
        return None if found is None else found.starts_at

    def queue_positions(self, ids: Collection[str]) -> dict[str, QueuePosition]:
        """Ask squeue for the jobs that wait."""
        return queue_position.places(ids)

    @property
    def _look_patience(self) -> float:
        return min(self.patience, _LOOK_PATIENCE)

    def _queue(self, by_id: Mapping[str, str], unknown: Collection[str]) -> list[QueueRow]:
        """Ask for the jobs of these ids or, where some have none yet, for all of ours."""
        if unknown:
            rows = queries.queue(user=str(os.geteuid()), patience=self._look_patience)
            elsewhere = [number for number in by_id if "@" in number]
            return rows + (queries.queue(elsewhere, patience=self._look_patience) if elsewhere else [])
        return queries.queue(list(by_id), patience=self._look_patience) if by_id else []

    def _elsewhere(self, places: Mapping[str, str]) -> tuple[list[QueueRow], frozenset[str]]:
        """Ask the clusters on which these marks may be; returns the marks, too, about which none can be asked now."""
        rows: list[QueueRow] = []
        uncertain: set[str] = set()
        for place in sorted(set(places.values())):
            try:
                rows += queries.queue(user=str(os.geteuid()), clusters=place, patience=self._look_patience)
            except (Invalid, Unavailable) as error:  # allocations on other clusters are followed all the same
                _log.warning("%s", error.message)
                uncertain.update(mark for mark, named in places.items() if named == place)
        return rows, frozenset(uncertain)


def _narrowed(request: AllocationRequest) -> SlurmRequest:
    """Return a request as that of Slurm, which made it."""
    if not isinstance(request, SlurmRequest):
        raise TypeError(f"{request.type} made this request")
    return request


def _ran_out(row: AccountingRow) -> bool:
    """Return whether a row says that something in the step of the runners ran out of memory: the job itself has only FAILED then."""
    return row.id.step == "0" and row.state == "OUT_OF_MEMORY"


def _is_early(told: Observation) -> bool:
    """Return whether the queue says FAILED and the accounting may still say why: for some seconds, it is waited for."""
    if told.source != "queue" or told.cluster_state != "FAILED" or told.exit_code is not None:
        return False
    return told.ended_at is not None and time.time() - told.ended_at < _ACCOUNTS_LATE


def _own(by_id: Mapping[str, str], row: QueueRow | AccountingRow) -> str | None:
    """Return the mark of a row that is about one of ours.

    A controller that was killed may have forgotten the last jobs, and give their ids to others: the name tells.
    """
    mark = _named(by_id, row)
    return mark if mark is not None and mark_of(row.name) == mark else None


def _named(by_id: Mapping[str, str], row: QueueRow | AccountingRow) -> str | None:
    """Return the mark of what has the id of a row, on the cluster that the row is of."""
    return by_id.get(f"{row.id.job}@{row.cluster}") or by_id.get(row.id.job)


def _found(rows: Iterable[QueueRow], unknown: Collection[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find by their marks what nobody has reported: the oldest job of each, and those that are there beside it."""
    jobs: dict[str, dict[str, tuple[float, int]]] = {}
    for row in rows:
        mark = mark_of(row.name)
        if mark in unknown:
            number = str(row.id.base) if row.cluster is None else f"{row.id.base}@{row.cluster}"
            jobs.setdefault(mark, {})[number] = (row.submitted_at or 0.0, row.id.base)
    by_age = {mark: sorted(times, key=times.__getitem__) for mark, times in jobs.items()}
    return {mark: numbers[0] for mark, numbers in by_age.items()}, tuple(
        number for numbers in by_age.values() for number in numbers[1:]
    )


def _of_queue(row: QueueRow) -> Observation:
    waiting = phase_of(row.state) is AllocationState.PENDING
    return Observation(
        source="queue",
        cluster_state=row.state,
        reason=None if row.reason.lower() in _NO_REASON else row.reason,
        nodes=row.nodes,
        started_at=None if waiting else row.starts_at,
        ended_at=row.ends_at if phase_of(row.state) is AllocationState.ENDED else None,
        expected_start_at=row.starts_at if waiting else None,
    )


def _of_accounting(row: AccountingRow) -> Observation:
    code = None if row.exit_code is None else f"{row.exit_code}:{row.exit_signal or 0}"
    return Observation(
        source="accounting",
        cluster_state=row.state,
        nodes=row.nodes,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=code,
        reason=None if row.canceled_by is None else f"cancelled by user {row.canceled_by}",
    )
