"""Resource use of a runner's attempts: samples, sums, time series, control groups, and which attempts exceed a limit.

Sampling takes at most 1/200 of the time: when one sample takes long, the next one comes later. Reading the values is done by
`proc`, `cgroup` and `gpus`; stopping attempts is done by the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

from torc.api.runs import Assignment, Usage
from torc.runner import cgroup, hardware
from torc.runner.gpus import GpuLoad, Gpus
from torc.runner.proc import ProcessTrees, TreeSample, proportional_bytes
from torc.runner.state import OutOfMemory
from torc.runner.time_series import SeriesPoint, SeriesWriter
from torc.workflow.exit_codes import OUT_OF_MEMORY

_LOG = logging.getLogger(__name__)
_SHARE = 0.005
#: shared memory is counted exactly only once the sum has grown by this factor, because that is expensive
_MORE = 1.05
_MOST_COUNTED_BYTES = 64 << 30
#: memory limits are of little use when they are checked rarely
_ENFORCE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What to monitor."""

    is_on: bool = True
    interval_seconds: float = 1.0
    enforce_memory: bool = False
    series: Path | None = None  # directory of the time series
    meta: Mapping[str, object] | None = None  # recorded there about the runner
    wants_groups: bool = True  # if they can be created

    @classmethod
    def of(cls, settings: Mapping[str, Any], series: Path, meta: Mapping[str, object]) -> Monitoring:
        """Read the workflow settings resource_monitor and enforce_memory."""
        monitor = settings.get("resource_monitor") or {}
        is_on = bool(monitor.get("enabled", True))
        enforce = bool(settings.get("enforce_memory"))
        interval = float(monitor.get("sample_interval_seconds", 5.0 if monitor else 1.0))
        keeps = is_on and monitor.get("granularity") == "time_series"
        more = {**meta, "sample_interval_seconds": interval}
        return cls(is_on, interval, enforce, series if keeps else None, more)

    def of_steps(self) -> Monitoring:
        """Return the monitoring for jobs that Slurm keeps in its own control groups, with its own limits."""
        return replace(self, wants_groups=False, enforce_memory=False)


class _Track:
    """What has been measured for one attempt."""

    __slots__ = (
        "assignment",
        "begun",
        "counted",
        "cpu_seconds",
        "gpu_memory",
        "gpu_total",
        "gpus",
        "group",
        "mapped",
        "memory",
        "num_gpu_samples",
        "num_processes",
        "num_samples",
        "number",
        "peak",
        "read_bytes",
        "session",
        "total",
        "written_bytes",
    )

    def __init__(self, assignment: Assignment, gpus: tuple[str, ...], group: cgroup.Cgroup | None) -> None:
        self.assignment, self.gpus, self.group = assignment, gpus, group
        self.session = self.number = 0
        self.begun = 0.0
        self.memory = self.peak = self.total = self.num_samples = self.num_processes = 0
        self.counted = 0  # the sum for which `peak` was last computed
        self.mapped = 0  # the largest amount of disk files mapped by one process
        self.read_bytes = self.written_bytes = self.gpu_memory = self.num_gpu_samples = 0
        self.cpu_seconds = self.gpu_total = 0.0


class MemoryExcess(NamedTuple):
    """A job that uses more memory than it requested."""

    job_id: int
    memory_bytes: int


class Monitor:
    """Monitors the attempts of one runner. Keys are those that the loop uses for what it started."""

    def __init__(self, monitoring: Monitoring, mark: str) -> None:
        self._settings = monitoring
        enforced = monitoring.enforce_memory
        self._interval = min(monitoring.interval_seconds, _ENFORCE_SECONDS) if enforced else monitoring.interval_seconds
        self._looks = monitoring.is_on or enforced
        self._trees = ProcessTrees(mark)
        self._gpus = Gpus(monitoring.interval_seconds)
        self._writer = None if monitoring.series is None else SeriesWriter(monitoring.series, monitoring.meta or {})
        # look for a delegated group before anything else runs in it
        self._groups = cgroup.delegated(mark, for_limits=enforced) if self._looks and monitoring.wants_groups else None
        self._tracks: dict[int, _Track] = {}
        self._running: dict[int, _Track] = {}  # by session
        if self._looks:
            self._trees.look({})  # find out once which sessions are not ours, so that the first sample is not slower
        self._due = self._record_due = 0.0  # on the monotonic clock
        self._num_kills = _node_kills()
        self._has_told = False

    @property
    def pids(self) -> set[int]:
        """Return the processes started here."""
        return self._gpus.pids

    def prepare(self, key: int, assignment: Assignment, gpus: tuple[str, ...], argv: list[str]) -> list[str]:
        """Start monitoring an attempt that is about to start; return the command to start it with."""
        if not self._has_told and self._groups is not None:
            self._has_told = True
            _LOG.info("each attempt gets a control group in %s", self._groups.root)
        limit = _limit(assignment) if self._settings.enforce_memory else None
        group = None if self._groups is None else self._groups.make(key, limit)
        self._tracks[key] = _Track(assignment, gpus, group)
        return argv if group is None else group.entering(argv)

    def began(self, key: int, session: int, begun: float, started_at: float) -> None:
        """Record the start: `begun` on the monotonic clock, `started_at` in seconds since the epoch."""
        track = self._tracks[key]
        track.session, track.begun = session, begun
        self._running[session] = track
        if self._writer is not None:
            assignment = track.assignment
            name = (assignment.job_id, assignment.attempt, assignment.name)
            track.number = self._writer.begin(name, started_at, assignment.request)

    def forget(self, key: int) -> None:
        """Forget an attempt that could not be started."""
        track = self._tracks.pop(key, None)
        if track is not None and track.group is not None and self._groups is not None:
            self._groups.drop(track.group)

    def memory_of(self, key: int) -> int:
        """Return an attempt's memory in bytes at the last sample; callable from any thread."""
        track = self._tracks.get(key)
        return 0 if track is None else track.memory

    def due(self) -> float | None:
        """Return when to sample next, on the monotonic clock; None: never."""
        return self._due if self._looks and self._running else None

    def look(self, now: float) -> list[MemoryExcess]:
        """Sample all attempts; return those to stop because of their memory."""
        started = thread_time()
        names = {session: (each.assignment.job_id, each.assignment.attempt) for session, each in self._running.items()}
        is_recorded = self._writer is not None and now >= self._record_due
        found = []
        for session, sample in self._trees.look(names).items():
            track = self._running[session]
            over = self._take(track, sample)
            if over is not None:
                found.append(over)
            load = self._gpus.load(track.gpus) if track.gpus else None
            _take_load(track, load)
            if is_recorded and self._writer is not None:
                self._writer.add(track.number, _point(track, len(sample.pids), now - track.begun, load))
        if is_recorded:
            self._record_due = now + self._settings.interval_seconds
        self._due = now + max(self._interval, (thread_time() - started) / _SHARE)
        return found

    def ended(
        self, key: int, usage: Usage, return_code: int, ends: tuple[float, float]
    ) -> tuple[Usage, OutOfMemory | None]:
        """Record the end of an attempt, at `ends` (on the monotonic clock, since the epoch), with the kernel's accounting.

        Returns everything known about its resource use, and whether the OOM killer killed some of it.
        """
        track = self._tracks.pop(key)
        self._running.pop(track.session, None)
        account = None
        if track.group is not None and self._groups is not None:
            account = track.group.account()
            self._groups.drop(track.group)
        usage = _summed_up(track, usage, account)
        if self._writer is not None:
            cpu_seconds = usage.user_cpu_seconds + usage.system_cpu_seconds
            self._writer.add(
                track.number,
                SeriesPoint(
                    ends[0] - track.begun,
                    max(cpu_seconds, track.cpu_seconds),
                    track.memory or usage.peak_memory_bytes,
                    0,
                    usage.read_bytes or 0,
                    usage.written_bytes or 0,
                ),
            )
            self._writer.end(track.number, ends[1], return_code)
        return usage, self._killed(track, usage, account, return_code)

    def close(self) -> None:
        """Write remaining samples and remove the groups."""
        if self._writer is not None:
            self._writer.close()
        if self._groups is not None:
            self._groups.close()
        self._gpus.close()

    def _take(self, track: _Track, sample: TreeSample) -> MemoryExcess | None:
        limit = _limit(track.assignment) if self._settings.enforce_memory else None
        memory = 0 if track.group is None else track.group.memory_bytes()
        is_exact = memory > 0
        memory, over = memory or sample.memory_bytes, None
        if track.group is not None and track.group.limit_bytes is not None and track.group.num_kills():
            # version 1 kills only one process, and the rest of the job is useless
            over = MemoryExcess(track.assignment.job_id, track.group.account().peak_with_cache_bytes)
        elif limit is not None and memory > limit and not _is_limited(track):
            memory, is_exact = proportional_bytes(sample), True  # shared memory was counted once per process
            over = MemoryExcess(track.assignment.job_id, memory) if memory > limit else None
        track.memory = memory
        track.mapped = max(track.mapped, sample.mapped_bytes)
        if is_exact or len(sample.pids) < 2:
            track.peak = max(track.peak, memory)
        elif memory > track.peak and memory > _MORE * track.counted:
            track.counted = memory
            track.peak = max(track.peak, proportional_bytes(sample) if memory < _MOST_COUNTED_BYTES else memory)
        track.total += memory
        track.num_samples += 1
        track.num_processes = max(track.num_processes, len(sample.pids))
        track.cpu_seconds = max(track.cpu_seconds, sample.cpu_seconds)
        track.read_bytes = max(track.read_bytes, sample.read_bytes)
        track.written_bytes = max(track.written_bytes, sample.written_bytes)
        return over

    def _killed(
        self, track: _Track, usage: Usage, account: cgroup.CgroupUsage | None, return_code: int
    ) -> OutOfMemory | None:
        limit = None if track.group is None else track.group.limit_bytes
        if (
            account is not None and account.oom_kills
        ):  # even if other processes survived: the rest of the job is useless
            return OutOfMemory(usage.peak_memory_bytes, limit)
        if return_code == OUT_OF_MEMORY and account is None and _node_kills() > self._num_kills:
            self._num_kills += 1
            return OutOfMemory(usage.peak_memory_bytes, None)
        return None


def _limit(assignment: Assignment) -> int | None:
    """Return an attempt's memory limit; None if it requested no memory: the default is too small for most programs."""
    return assignment.request.memory_bytes if assignment.request.asks_memory else None


def _is_limited(track: _Track) -> bool:
    """Return whether the kernel enforces the attempt's limit."""
    return (
        track.group is not None
        and track.group.limit_bytes is not None
        and track.group.account().peak_with_cache_bytes > 0
    )


def _take_load(track: _Track, load: GpuLoad | None) -> None:
    if load is not None:
        track.gpu_total += load.busy
        track.gpu_memory = max(track.gpu_memory, load.memory_bytes)
        track.num_gpu_samples += 1


def _point(track: _Track, num_processes: int, seconds: float, load: GpuLoad | None) -> SeriesPoint:
    return SeriesPoint(
        seconds,
        track.cpu_seconds,
        track.memory,
        num_processes,
        track.read_bytes,
        track.written_bytes,
        None if load is None else load.busy,
        None if load is None else load.memory_bytes,
    )


def _summed_up(track: _Track, usage: Usage, account: cgroup.CgroupUsage | None) -> Usage:
    """Combine the samples of an attempt with the kernel's accounting."""
    more: dict[str, Any] = {}
    if track.num_samples:
        more["average_memory_bytes"] = track.total // track.num_samples
        more["max_processes"] = track.num_processes
        more["read_bytes"] = max(usage.read_bytes or 0, track.read_bytes)
        more["written_bytes"] = max(usage.written_bytes or 0, track.written_bytes)
    peak = max(usage.peak_memory_bytes - track.mapped, track.peak)
    if account is not None and account.peak_with_cache_bytes:
        peak = max(peak, account.memory_bytes)
        if account.oom_kills and track.group is not None and track.group.limit_bytes is not None:
            peak = account.peak_with_cache_bytes  # the cache had been reclaimed before
        more["peak_memory_with_cache_bytes"] = account.peak_with_cache_bytes
        more["oom_kills"] = account.oom_kills or None
    if track.group is not None and track.group.limit_bytes is not None:
        more["memory_limit_bytes"] = track.group.limit_bytes
    if track.num_gpu_samples:
        more["average_gpus_busy"] = round(track.gpu_total / track.num_gpu_samples, 3)
        more["peak_gpu_memory_bytes"] = track.gpu_memory
    return usage.model_copy(update={"peak_memory_bytes": peak, **more})


def _node_kills() -> int:
    """Return the number of OOM kills in this process's control group, or else on the whole node.

    The latter counts since boot (/proc/vmstat, oom_kill) and may include other users' processes.
    """
    kills = hardware.oom_kills()
    if kills is not None:
        return kills
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
