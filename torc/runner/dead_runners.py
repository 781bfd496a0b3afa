"""Find runners of this machine that have died or were given up, and end what they left running.

A runner that was killed with SIGKILL is identified by pid, start time and boot id, which no other process can share. The
processes of its jobs are identified by TORC_RUNNER in their environment and by the session ids that the runner recorded: a
program started with an empty environment is still in its job's session. While its spawners live, everything that a job has
started descends from them; they are killed last. The only processes that can be missed are those that changed both
environment and session after the runner and its spawners were killed together.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import NamedTuple

from torc.api.base import Torc
from torc.api.runs import EndRunner, GivenUp, ListRunners, Runner
from torc.errors import Conflict
from torc.failures.retry import DIED
from torc.files import open_new, read_trusted
from torc.processes import pid_namespace, start_ticks
from torc.runner import job_credentials, journal
from torc.runner.hardware import ProcessIdentity, mark
from torc.runner.orphan_processes import environ_of
from torc.runner.spawner import parent_of

_PATIENCE_SECONDS = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_BYTES = 1 << 20


class Sessions:
    """Records which sessions a runner starts, and when, so that they can be ended if the runner dies."""

    def __init__(self, output_dir: Path, workflow_id: int, runner_id: int) -> None:
        self.path = _path(output_dir, workflow_id, runner_id)
        self._fd = open_new(self.path, os.O_RDWR | os.O_APPEND)  # runner ids are never reused
        self._size = 0

    def add(self, pid: int) -> None:
        """Record a new session. A full disk is tolerated: the environment identifies nearly as much."""
        line = b"%d %.2f\n" % (pid, time.clock_gettime(time.CLOCK_BOOTTIME))
        self._size += len(line)
        with contextlib.suppress(OSError):
            os.write(self._fd, line)

    def keep(self, pid: int, job_id: int, attempt: int) -> None:
        """Record that the processes left by a finished attempt are to keep running, even if the runner is killed."""
        line = b"%d %d %d kept\n" % (pid, job_id, attempt)
        self._size += len(line)
        with contextlib.suppress(OSError):
            os.write(self._fd, line)

    def shorten(self, pids: list[int]) -> None:
        """Drop ended sessions from the file once there are many."""
        if self._size > _MOST_BYTES:
            self._size = 0
            with contextlib.suppress(OSError):
                lines = os.pread(self._fd, 2 * _MOST_BYTES, 0).splitlines(True)
                kept = [line for line in lines if line.endswith(b"kept\n") or int(line.split()[0]) in pids]
                os.truncate(self._fd, 0)
                os.write(self._fd, b"".join(kept))

    def close(self) -> None:
        """Delete the file: the runner leaves nothing behind."""
        os.close(self._fd)
        self.path.unlink(missing_ok=True)


def _path(output_dir: Path, workflow_id: int, runner_id: int) -> Path:
    return output_dir / f"sessions_wf{workflow_id}_n{runner_id}.txt"


def give_up_dead_runners(torc: Torc, workflow_id: int, here: ProcessIdentity, output_dir: Path) -> list[Runner]:
    """End the runners of this machine whose processes are gone.

    Kills the processes of their jobs and first delivers the results that they could not report, so that nothing runs twice; also
    delivers what unregistered runners left in the folder. Raises Conflict when a process cannot be killed.
    """
    deliver_left(torc, workflow_id, here, output_dir)
    dead = dead_runners(torc, workflow_id, here)
    for runner in dead:
        sessions = _path(output_dir, workflow_id, runner.id)
        if runner.boot_id == here.boot_id:
            end_processes(mark(runner.pid, runner.process_started), sessions)
        end_runner(torc, runner, DIED, output_dir)
        sessions.unlink(missing_ok=True)
        job_credentials.clean(output_dir, workflow_id, runner.id)
    return dead


def dead_runners(torc: Torc, workflow_id: int, here: ProcessIdentity) -> list[Runner]:
    """Return the runners of this machine that are registered as active but whose processes are gone. Changes nothing."""
    runners = torc.send(ListRunners(workflow_id=workflow_id, active_only=True, limit=10_000)).items
    return [runner for runner in runners if _is_dead(runner, here)]


def deliver_left(torc: Torc, workflow_id: int, here: ProcessIdentity, output_dir: Path) -> int:
    """Deliver results left in a folder, before anything is given up or run again. Returns how many were accepted."""
    return journal.deliver_all(
        torc, workflow_id, output_dir, lambda runner: runner.host == here.host and not _is_dead(runner, here)
    )


def end_runner(torc: Torc, runner: Runner, reason: str, output_dir: Path) -> None:
    """End a runner. Its journal is delivered first: afterwards its results would be rejected."""
    journal.deliver(torc, runner.workflow_id, runner.id, output_dir)
    torc.send(EndRunner(workflow_id=runner.workflow_id, runner_id=runner.id, reason=reason))


def end_given_up(runner: GivenUp, workflow_id: int, output_dir: Path) -> None:
    """Kill the jobs of a live (perhaps stopped) runner of this machine that has lost its lease. Raises Conflict.

    The runner itself is left alone: it will notice that its spawners are gone and that it was given up.
    """
    if runner.process_started.partition("@")[2] == pid_namespace():
        sessions = _path(output_dir, workflow_id, runner.runner_id)
        end_processes(mark(runner.pid, runner.process_started, runner.runner_id), sessions)


def _is_dead(runner: Runner, here: ProcessIdentity) -> bool:
    if runner.host != here.host:
        return False
    if runner.boot_id != here.boot_id:
        return True
    ticks, _, namespace = runner.process_started.partition("@")
    if namespace != here.process_started.partition("@")[2]:
        return False  # in another container, where its pid means nothing to us; its lease will expire
    return str(start_ticks(runner.pid)) != ticks


def end_processes(runner_mark: str, sessions: Path) -> None:
    """Kill every process started by a runner's jobs and wait until they are gone: no two copies may write at once.

    Its spawners are stopped first, so that they start nothing more but remain the parents of orphans.
    """
    starts, kept = _written_down(sessions)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    prefix = runner_mark.encode()
    stopped: set[int] = set()
    while True:
        found = _look(prefix, starts, kept)
        for pid in found.spawners - stopped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
        is_new, stopped = bool(found.spawners - stopped), found.spawners
        if not (found.jobs or is_new):
            if not found.spawners:
                return
            found = _Found(set(), found.spawners)
        if time.monotonic() > deadline:
            left = sorted(found.jobs | found.spawners)[:10]
            raise Conflict(
                f"processes of another runner still run and cannot be killed: {', '.join(map(str, left))}",
                hint="end them (they may be waiting for a file system, or belong to another user), then try again",
            )
        for pid in found.jobs or (() if is_new else found.spawners):
            _kill(pid, deadline)


class _Found(NamedTuple):
    jobs: set[int]
    spawners: set[int]


def _look(prefix: bytes, starts: dict[int, list[float]], kept: set[tuple[bytes, bytes]]) -> _Found:
    """Find the processes that a runner started: marked by it, in one of its sessions, or descended from its spawners.

    `kept` are finished attempts (job id, attempt) whose remaining processes are to keep running.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = _Found(set(), set())
    offspring: dict[int, list[int]] = {}
    for pid in pids:
        offspring.setdefault(parent_of(pid), []).append(pid)
        if (environ := _environ_of(pid, prefix)) is not None and b"TORC_JOB_ID" not in environ:
            found.spawners.add(pid)
        elif environ is not None:
            if (environ[b"TORC_JOB_ID"], environ.get(b"TORC_ATTEMPT_ID", b"")) not in kept:
                found.jobs.add(pid)
        elif _is_of_session(pid, starts):
            found.jobs.add(pid)
    below = list(found.spawners)
    while below:
        for child in offspring.get(below.pop(), ()):
            below.append(child)
            if child not in found.spawners and _may_be_ended(child) and start_ticks(child) is not None:
                found.jobs.add(child)
    return found


def _kill(pid: int, deadline: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        select.select([pidfd], [], [], max(0.0, min(1.0, deadline - time.monotonic())))
    finally:
        os.close(pidfd)


def _written_down(path: Path) -> tuple[dict[int, list[float]], set[tuple[bytes, bytes]]]:
    """Return when sessions started, in seconds since boot, and the attempts whose processes stay; torn lines are skipped."""
    starts: dict[int, list[float]] = {}
    kept: set[tuple[bytes, bytes]] = set()
    with contextlib.suppress(OSError):
        for line in read_trusted(path).splitlines():
            with contextlib.suppress(ValueError):
                pid, *rest = line.split()
                if len(rest) == 3 and rest[2] == b"kept":
                    kept.add((rest[0], rest[1]))
                    starts.pop(int(pid), None)
                elif len(rest) == 1:
                    starts.setdefault(int(pid), []).append(float(rest[0]))
    return starts, kept


def _environ_of(pid: int, prefix: bytes) -> dict[bytes, bytes] | None:
    """Return the environment of a live process that carries the runner's mark; else None."""
    environ = environ_of(pid)
    is_marked = any(word.startswith(prefix) for word in environ.get(b"TORC_RUNNER", b"").split())
    return environ if is_marked and _may_be_ended(pid) and start_ticks(pid) is not None else None


def _may_be_ended(pid: int) -> bool:
    """Return whether a process belongs to this user: a runner starts nothing for others, although root could kill those too."""
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid() and pid != os.getpid()
    except OSError:
        return False


def _is_of_session(pid: int, starts: dict[int, list[float]]) -> bool:
    """Return whether a live process is in one of the sessions in `starts`."""
    if not starts:
        return False
    ticks = start_ticks(pid)
    if ticks is None or not _may_be_ended(pid):
        return False
    try:
        session = os.getsid(pid)
    except OSError:
        return False  # gone
    leader = start_ticks(session)
    # a pid is not reused while it names a session: if the leader has ended, the members' start times decide
    began = ticks if leader is None else leader
    return any(_began_at(began, at, is_leader=leader is not None) for at in starts.get(session, ()))


def _began_at(ticks: int, seconds: float, *, is_leader: bool) -> bool:
    difference = ticks / _TICKS - seconds
    return abs(difference) < 1.0 if is_leader else difference > -1.0
