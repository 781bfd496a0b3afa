"""The one loop of a runner: waits on exits, signals, replies and deadlines, asks the reactor, and does what it says.

The store is spoken to on a thread of its own, so that a slow store never keeps a job from being started or stopped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from torc.api.base import Torc
from torc.api.runs import Assignment, Exchange, ExchangeReply
from torc.errors import NotFound, TorcError, Unavailable
from torc.runner import launch
from torc.runner.actions import ActionRun
from torc.runner.journal import Journal
from torc.runner.leftovers import Leftovers, become_subreaper
from torc.runner.measure import Sampler
from torc.runner.orphans import Sessions
from torc.runner.reactor import begin, next_wake, react
from torc.runner.state import (
    ActionExited,
    Effect,
    Event,
    Exited,
    Keep,
    Kill,
    KillAction,
    Launched,
    Leave,
    NoRoom,
    NotLaunched,
    Replied,
    RunAction,
    Send,
    Settings,
    Start,
    State,
    Stop,
    Tick,
    TooLarge,
    Unreachable,
)

_LEFTOVERS_SECONDS = 0.5
_AGAIN_SECONDS = 0.01
_JOIN_SECONDS = 15.0
#: what a node runs out of: no job's fault, and it may pass
_NO_ROOM = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
#: SIGHUP: the terminal was closed; under nohup(1) it is ignored, and stays so
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: limits of memory are of little use when they are looked at seldom
_ENFORCE_SECONDS = 0.1
#: another thread gets the interpreter after so long: the default of 5 ms would let a finished job wait
_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Place:
    """Where attempts run and write."""

    run_id: int
    output_dir: str
    mark: str  # names this runner in TORC_RUNNER, beside runners that it runs in
    environ: Mapping[str, str]
    sample_seconds: float = 1.0
    enforce_memory: bool = False
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class View:
    """What a display may show of a runner."""

    running: tuple[tuple[int, str, float, int], ...]  # job id, name, elapsed seconds, memory in bytes
    queued: int
    num_completed: int
    num_failed: int
    unreachable_seconds: float | None


@dataclass(slots=True)
class _Attempt:
    assignment: Assignment
    child: launch.Child
    begun: float
    is_asked: bool = False  # to end, by SIGTERM
    is_killed: bool = False


class Loop:
    """Runs one runner to its end."""

    def __init__(self, torc: Torc, settings: Settings, place: Place) -> None:
        self.torc, self.settings, self.place = torc, settings, place
        output_dir = Path(place.output_dir)
        self.journal = Journal(output_dir, settings.workflow_id, settings.runner_id)
        self._sessions = Sessions(output_dir, settings.workflow_id, settings.runner_id)
        self._base_environ = _encoded(place.environ)
        self.state, self._first = begin(settings, time.monotonic())
        self.attempts: dict[int, _Attempt] = {}
        self.actions: dict[int, ActionRun] = {}  # by pidfd
        self.signals = 0
        self._by_pidfd: dict[int, int] = {}
        self._requests: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._left = False
        seconds = min(place.sample_seconds, _ENFORCE_SECONDS) if place.enforce_memory else place.sample_seconds
        self._sampler = Sampler(seconds)
        self._leftovers = Leftovers(place.mark)
        self._next_sweep = 0.0
        self._signals_taken = 0

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> State:
        """Work until nothing is left, or a signal says to stop. Raises what the store answered, where it was no delay."""
        talker = threading.Thread(target=self._talk, name="torc-exchange", daemon=True)
        interval = sys.getswitchinterval()
        become_subreaper()
        self._epoll.register(self._wake_read, select.EPOLLIN)
        with _signals(self._signalled, self._wake_write):
            sys.setswitchinterval(_SWITCH_SECONDS)
            talker.start()
            try:
                self._perform(self._first)
                while not self._left:
                    self._turn()
            finally:
                sys.setswitchinterval(interval)
                self._abandon(talker)
        return self.state

    def stop(self) -> None:
        """Ask the loop to stop kindly; from any thread."""
        self._signalled(signal.SIGTERM, None)
        self._wake()

    def view(self) -> View:
        """Tell what is going on; from any thread."""
        now = time.monotonic()
        running = tuple(
            (job_id, attempt.assignment.name, now - attempt.begun, self._sampler.memory_of(attempt.child.pid))
            for job_id, attempt in list(self.attempts.items())
        )
        state = self.state
        since = state.unreachable_since
        return View(
            running, len(state.queue), state.num_completed, state.num_failed, None if since is None else now - since
        )

    def _turn(self) -> None:
        now = time.monotonic()
        wake = next_wake(self.state, self.settings, now)
        if self.attempts:
            wake = min(wake or now + 60.0, max(self._sampler.due, now))
        timeout = 60.0 if wake is None else max(0.0, wake - now)
        for fd, _ in self._epoll.poll(timeout, 64):
            if fd == self._wake_read:
                self._drain()
            elif fd in self._by_pidfd:
                self._pidfd_fired(fd)
            elif fd in self.actions:
                self._action_exited(fd)
        self._take_replies()
        self._take_signals()
        now = time.monotonic()
        self._sample(now)
        wake = next_wake(self.state, self.settings, now)
        if wake is not None and wake <= now:
            self._handle(Tick())

    def _handle(self, event: Event) -> None:
        self._perform(react(self.state, event, self.settings, time.monotonic()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start():
                    self._start(effect)
                case Kill(job_id, for_good):
                    self._kill(job_id, for_good)
                case KillAction(firing_id, for_good):
                    for running in self.actions.values():
                        if running.firing_id == firing_id:
                            running.stop(for_good=for_good)
                case Keep(reports):
                    self.journal.keep(reports)
                case RunAction(action):
                    self._begin_action(
                        ActionRun(action, self.place.output_dir, self.settings.workflow_id, self.place.run_id)
                    )
                case Send(request):
                    self._requests.put(request)
                case Leave():
                    self._left = True

    # -- processes ----------------------------------------------------------------------------------------------

    def _start(self, effect: Start) -> None:
        assignment = effect.assignment
        files = launch.files_of(
            self.place.output_dir, self.settings.workflow_id, self.place.run_id, assignment.job_id, assignment.attempt
        )
        try:
            child = self._launch(effect, files)
        except OSError as error:
            why = f"cannot start: {error.strerror or error}" + (f": {error.filename}" if error.filename else "")
            if error.errno in _NO_ROOM:
                self._handle(NoRoom(assignment.job_id, why))
            else:
                self._handle(NotLaunched(assignment.job_id, self.place.clock(), why))
            return
        except ValueError as error:  # a NUL in an argument or a variable
            self._handle(NotLaunched(assignment.job_id, self.place.clock(), f"cannot start: {error}"))
            return
        self.attempts[assignment.job_id] = _Attempt(assignment, child, time.monotonic())
        self._by_pidfd[child.pidfd] = assignment.job_id
        self._epoll.register(child.pidfd, select.EPOLLIN)
        self._began(child.pid)
        self._handle(Launched(assignment.job_id, self.place.clock()))

    def _launch(self, effect: Start, files: launch.Files) -> launch.Child:
        try:
            return launch.start(effect.assignment, files, self._environ(effect))
        except FileNotFoundError:  # somebody removed the folder of logs
            ensure_directories(Path(self.place.output_dir))
            return launch.start(effect.assignment, files, self._environ(effect))

    def _environ(self, effect: Start) -> dict[bytes, bytes]:
        assignment, request = effect.assignment, effect.assignment.request
        environ = dict(self._base_environ)
        if assignment.env:
            environ |= _encoded(assignment.env)
        environ[b"TORC_JOB_ID"] = b"%d" % assignment.job_id
        environ[b"TORC_JOB_NAME"] = os.fsencode(assignment.name)
        environ[b"TORC_ATTEMPT_ID"] = b"%d" % assignment.attempt
        environ[b"TORC_NUM_CPUS"] = b"%d" % request.num_cpus
        environ[b"TORC_MEMORY_BYTES"] = b"%d" % request.memory_bytes
        if effect.gpus or self.settings.gpus:
            environ[b"CUDA_VISIBLE_DEVICES"] = ",".join(map(str, effect.gpus)).encode()
        if assignment.recovery_script and assignment.previous_return_code is not None:
            environ[b"TORC_RETURN_CODE"] = b"%d" % assignment.previous_return_code
        return environ

    def _kill(self, job_id: int, for_good: bool) -> None:
        attempt = self.attempts.get(job_id)
        if attempt is not None:
            attempt.is_asked, attempt.is_killed = True, attempt.is_killed or for_good
            launch.stop(attempt.child.pid, for_good=for_good)

    def _pidfd_fired(self, pidfd: int) -> None:
        """Take the end of an attempt's process, or of one that outlived it and uses the time of grace to save its work."""
        job_id = self._by_pidfd.pop(pidfd)
        self._epoll.unregister(pidfd)  # closing it is not enough: a child in the middle of its exec may hold it still
        attempt = self.attempts[job_id]
        if pidfd != attempt.child.pidfd:
            os.close(pidfd)
        if attempt.is_asked and not attempt.is_killed:
            member = launch.open_member(attempt.child.pid)
            if member is not None:
                self._by_pidfd[member] = job_id
                self._epoll.register(member, select.EPOLLIN)
                return
        self._handle(self._exited(job_id))

    def _exited(self, job_id: int) -> Exited:
        attempt = self.attempts.pop(job_id)
        wall = time.monotonic() - attempt.begun
        return_code, usage = launch.reap(attempt.child)
        usage = self._sampler.close(attempt.child.pid, usage)
        self._ended(attempt.child.pid)
        assignment = attempt.assignment
        missing: tuple[str, ...] = ()
        if return_code == 0 and assignment.outputs:
            missing = tuple(path for path in assignment.outputs if not os.path.lexists(path))
        failed = return_code != 0 or bool(missing)
        return Exited(
            job_id,
            return_code,
            self.place.clock(),
            wall,
            usage,
            missing,
            launch.tail(attempt.child.files.stderr) if failed else None,
            bool(failed and assignment.recovery_script) and os.path.exists(launch.recovery_mark(attempt.child.files)),
        )

    def _begin_action(self, action: ActionRun) -> None:
        pidfd = action.start_next(self._base_environ)
        if pidfd is None:
            self._handle(ActionExited(action.firing_id, action.return_code, action.detail))
        else:
            self.actions[pidfd] = action
            self._epoll.register(pidfd, select.EPOLLIN)
            self._began(action.pid)

    def _action_exited(self, pidfd: int) -> None:
        action = self.actions.pop(pidfd)
        self._epoll.unregister(pidfd)
        action.reap()
        self._ended(action.pid)
        self._begin_action(action)

    def _sample(self, now: float) -> None:
        if self.attempts and now >= self._sampler.due:
            self._sampler.sample({attempt.child.pid for attempt in self.attempts.values()}, now)
            if self.place.enforce_memory:
                for job_id, attempt in list(self.attempts.items()):
                    memory = self._sampler.memory_of(attempt.child.pid)
                    if memory > attempt.assignment.request.memory_bytes:
                        self._handle(TooLarge(job_id, memory))
        if now >= self._next_sweep:
            self._next_sweep = now + _LEFTOVERS_SECONDS
            self._sweep()
            self._sessions.shorten([attempt.child.pid for attempt in self.attempts.values()])

    def _began(self, pid: int) -> None:
        self._sessions.add(pid)
        self._leftovers.began(pid)

    def _ended(self, pid: int) -> None:
        self._leftovers.ended(pid)
        self._sweep()

    def _sweep(self) -> None:
        """End what jobs left behind, so that it cannot write beside their dependents or their next attempts."""
        if self._leftovers.number() == len(self.attempts) + len(self.actions):
            return  # every child is waited for
        known = {attempt.child.pid for attempt in self.attempts.values()}
        known.update(action.pid for action in self.actions.values())
        names = {(b"%d" % job_id, b"%d" % at.assignment.attempt) for job_id, at in self.attempts.items()}
        if self._leftovers.sweep(known, names):
            self._next_sweep = time.monotonic() + _AGAIN_SECONDS  # to reap what was killed, and to find its children

    def _abandon(self, talker: threading.Thread) -> None:
        """Leave nothing running, whatever happened."""
        for attempt in self.attempts.values():
            launch.stop(attempt.child.pid, for_good=True)
            launch.reap(attempt.child)
            self._leftovers.ended(attempt.child.pid)
        self.attempts.clear()
        for action in self.actions.values():
            action.stop(for_good=True)
            action.reap()
            self._leftovers.ended(action.pid)
        self.actions.clear()
        self._by_pidfd.clear()
        deadline = time.monotonic() + _LEFTOVERS_SECONDS
        while self._leftovers.sweep((), ()) and time.monotonic() < deadline:
            select.select([], [], [], _AGAIN_SECONDS)
        self._leftovers.close()
        self._sessions.close()
        self._epoll.close()
        self._requests.put(None)
        talker.join(_JOIN_SECONDS)
        if not talker.is_alive():  # else it may still write to the pipe
            os.close(self._wake_read)
            os.close(self._wake_write)

    # -- the conversation ---------------------------------------------------------------------------------------

    def _talk(self) -> None:
        while (request := self._requests.get()) is not None:
            self._replies.put(self._ask(request))
            self._wake()

    def _ask(self, request: Exchange) -> Event | BaseException:
        try:
            reply: ExchangeReply = self.torc.send(request)
        except Unavailable:
            return Unreachable(request)
        except NotFound:  # the workflow or this runner was deleted
            return Replied(ExchangeReply(done=True, lease_seconds=0.0, runner_is_lost=True))
        except TorcError as error:
            return error
        except BaseException as error:  # noqa: BLE001 - raised again by the loop
            return error
        return Replied(reply)

    def _take_replies(self) -> None:
        while True:
            try:
                reply = self._replies.get_nowait()
            except queue.Empty:
                return
            if isinstance(reply, BaseException):
                raise reply
            self._handle(reply)
            if isinstance(reply, Replied):
                self.journal.delivered()

    # -- signals ------------------------------------------------------------------------------------------------

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def _take_signals(self) -> None:
        while self._signals_taken < self.signals:
            self._signals_taken += 1
            self._handle(Stop(at_once=self._signals_taken > 1))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], Any], wake: int) -> Iterator[None]:
    """Have SIGINT and SIGTERM counted and wake the loop, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    old = {number: signal.signal(number, handler) for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(old_wake, warn_on_full_buffer=False)


def _encoded(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def ensure_directories(output_dir: Path) -> None:
    """Make the folders that attempts write to."""
    (output_dir / "job_stdio").mkdir(parents=True, exist_ok=True)
