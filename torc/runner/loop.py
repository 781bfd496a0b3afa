"""The event loop of a runner: waits for exits, signals, replies and deadlines, asks the reactor, and carries out its effects."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from torc.api.base import Torc
from torc.api.runs import Assignment, GivenUp, Usage
from torc.runner import dead_runners, job_environ, shell, signals, spawner, spawner_client
from torc.runner.actions import ActionRun
from torc.runner.context import RunnerContext, RunnerView
from torc.runner.dead_runners import Sessions
from torc.runner.deferral import DeferredEnds
from torc.runner.exchange_policy import keep
from torc.runner.exchange_thread import ExchangeThread
from torc.runner.journal import Journal, JournalOwner
from torc.runner.launcher import AttemptEnding, DirectLauncher
from torc.runner.monitor import Monitor
from torc.runner.orphan_processes import OrphanProcesses
from torc.runner.outputs import Look, looks, not_written
from torc.runner.reactor import begin, next_wake, react
from torc.runner.state import (
    ActionExited,
    ActionNotStarted,
    AttemptOver,
    Effect,
    Event,
    Exited,
    Keep,
    Kill,
    KillAction,
    Launched,
    Leave,
    LogTails,
    MemoryExceeded,
    NoRoom,
    NotLaunched,
    ReactorSettings,
    Replied,
    RunAction,
    RunnerState,
    Send,
    Slept,
    SpawnerDied,
    StartAttempt,
    Stop,
    Tick,
    Warned,
    Withdraw,
    Withdrawn,
)
from torc.workflow.exit_codes import counted

_LOG = logging.getLogger(__name__)
_LEFTOVERS_SECONDS = 0.5
_AGAIN_SECONDS = 0.01
_LONGEST_SECONDS = 60.0
_NOTHING: Mapping[str, Look] = {}
#: places for actions, which run alongside the jobs
_MORE_PLACES = 2
#: the node has run out of something: not the job's fault, and it may recover
_NO_ROOM = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
#: interval after which another thread gets the interpreter: the default of 5 ms would delay finished jobs
_SWITCH_SECONDS = 0.0005


@dataclass(slots=True)
class _Attempt:
    effect: StartAttempt
    files: spawner_client.OutputFiles
    started_with: spawner_client.OutputFiles  # where the process writes that is started for it
    key: int  # identifies it to the spawner
    place: int
    begun: float  # on the monotonic clock
    before: Mapping[str, Look]  # state of its outputs before the start
    pid: int = 0  # once known

    @property
    def assignment(self) -> Assignment:
        return self.effect.assignment

    @property
    def name(self) -> tuple[int, int]:
        return self.assignment.job_id, self.assignment.attempt

    def may_have_begun(self) -> bool:
        return spawner_client.have_begun(self.started_with)


class _Orphan(NamedTuple):
    """Something started by a spawner that has died."""

    subject: _Attempt | ActionRun
    is_begun: bool


def _suspended_seconds() -> float:
    """Return how long the machine has been suspended since it booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Loop:
    def __init__(
        self, torc: Torc, settings: ReactorSettings, place: RunnerContext, launcher: DirectLauncher | None = None
    ) -> None:
        self.torc, self.settings, self.place = torc, settings, place
        output_dir = Path(place.output_dir)
        owner = JournalOwner(
            settings.workflow_id, settings.runner_id, settings.workflow_created_at, settings.runner_started_at
        )
        self.journal = Journal(output_dir, owner)
        self._sessions = Sessions(output_dir, settings.workflow_id, settings.runner_id)
        self._is_plain = shell.reads_nothing(place.environ)
        self._base_environ = job_environ.encoded(place.environ)
        # where jobs are counted by number, their resource requests mean nothing
        self._threads = () if settings.counts_only else job_environ.threads_not_set(self._base_environ)
        self.state, self._first = begin(settings, time.monotonic())
        self.attempts: dict[int, _Attempt] = {}  # by job id
        self.actions: dict[int, ActionRun] = {}  # by firing id
        self.signals = 0
        self._started: dict[int, _Attempt | ActionRun] = {}  # by key
        self._next_key = 0
        self._spawners: spawner_client.Spawners | None = None
        self._exchanges = ExchangeThread(torc)
        self._epoll = select.epoll()
        self._left = False
        self._monitor = Monitor(place.monitoring, place.mark)
        self._launcher = launcher or DirectLauncher()
        self._deferred = DeferredEnds(place.visibility_delay_seconds, place.signal_seconds)
        self._leftovers = OrphanProcesses(place.mark)
        self._kept: set[tuple[bytes, bytes]] = set()  # finished attempts whose processes stay
        self._next_sweep = 0.0
        self._signals_taken = 0
        self._is_warned = False
        self._suspended = _suspended_seconds()
        self._given_up: set[int] = set()  # runner ids

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> RunnerState:
        """Work until nothing is left or a signal asks to stop. Raises the store's errors, except for passing ones."""
        interval = sys.getswitchinterval()
        if not shell.is_bash():
            _LOG.warning("this machine has no bash; commands run under %s", shell.SH)
        spawner.become_subreaper()
        self._epoll.register(self._exchanges.fileno(), select.EPOLLIN)
        with signals.counted(self._signalled, self._exchanges.wake_fd):
            sys.setswitchinterval(_SWITCH_SECONDS)
            try:
                self._spawners = spawner_client.Spawners(self._base_environ, self._slots() + _MORE_PLACES)
                self._epoll.register(self._spawners.fileno(), select.EPOLLIN)
                if self._launcher.fileno() is not None:
                    self._epoll.register(self._launcher.fileno() or 0, select.EPOLLIN)
                self._exchanges.start()
                self._perform(self._first)
                while not self._left:
                    self._turn()
            except BaseException:
                self._keep_unreported()
                raise
            finally:
                sys.setswitchinterval(interval)
                self._abandon()
        return self.state

    def stop(self) -> None:
        """Ask the loop to stop gracefully; callable from any thread."""
        self._signalled(signal.SIGTERM, None)
        self._exchanges.wake()

    def view(self) -> RunnerView:
        """Return what to display; callable from any thread."""
        now = time.monotonic()
        running = tuple(
            (job_id, attempt.assignment.name, now - attempt.begun, self._monitor.memory_of(attempt.key))
            for job_id, attempt in list(self.attempts.items())
            if attempt.pid
        )
        state = self.state
        since = state.unreachable_since
        return RunnerView(
            running, len(state.queue), state.num_completed, state.num_failed, None if since is None else now - since
        )

    def _turn(self) -> None:
        now = time.monotonic()
        wake = next_wake(self.state, self.settings, now)
        due = self._monitor.due()
        if due is not None:
            wake = min(wake or inf, max(due, now))
        # a job's deadline may be months away; epoll accepts only a few weeks
        due_ends = (
            max(self._deferred.due, now + _AGAIN_SECONDS) if self.state.awaits_confirmation else self._deferred.due
        )
        wake = min(inf if wake is None else wake, now + _LONGEST_SECONDS, due_ends)
        if self._kept:  # processes that may stay end at some point
            wake = min(wake, now + _LEFTOVERS_SECONDS)
        ready = self._epoll.poll(max(0.0, wake - now), 64)
        self._notice_sleep()
        for fd, _ in ready:
            if fd == self._exchanges.fileno():
                self._exchanges.drain()
            elif fd == self._launcher.fileno():
                self._take_begun()
            else:
                self._take_events()
        self._take_replies()
        self._take_signals()
        now = time.monotonic()
        for exited in self._deferred.ready(now, is_stopping=self.state.is_stopping):
            self._handle(exited)
        for start in self._deferred.starts(now) if not self.state.awaits_confirmation else ():
            self._start(start)
        self._sample(now)
        wake = next_wake(self.state, self.settings, now)
        if wake is not None and wake <= now:
            self._handle(Tick())

    def _notice_sleep(self) -> None:
        """Report to the reactor that the machine was suspended, before it handles anything that has been waiting since."""
        before, self._suspended = self._suspended, _suspended_seconds()
        if self._suspended - before > 1.0:
            self._handle(Slept(self._suspended - before))

    def _handle(self, event: Event) -> None:
        self._perform(react(self.state, event, self.settings, time.monotonic()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case StartAttempt():
                    if not self._deferred.holds(effect, time.monotonic()):
                        self._start(effect)
                case Kill(job_id, for_good):
                    self._kill(job_id, for_good)
                case Withdraw(job_id):
                    self.spawners.withdraw(self.attempts[job_id].key)
                case KillAction(firing_id, for_good):
                    running = self.actions.get(firing_id)
                    if running is not None:
                        running.stop()
                        self.spawners.stop(running.key, for_good=for_good)
                case Keep(reports):
                    self.journal.keep(reports)
                case RunAction(action):
                    self._go_on(ActionRun(action, self.place.output_dir, self.settings.workflow_id, self.place.run_id))
                case Send(request):
                    self._exchanges.submit(request)
                case Leave():
                    self._left = True

    # -- processes ----------------------------------------------------------------------------------------------

    @property
    def spawners(self) -> spawner_client.Spawners:
        assert self._spawners is not None, "the loop does not run"
        return self._spawners

    def _slots(self) -> int:
        """Return the highest number of jobs that can run at once."""
        return self.settings.max_parallel_jobs or self.settings.total.slots

    def _start(self, effect: StartAttempt) -> None:
        assignment = effect.assignment
        files = spawner_client.files_of(
            self.place.output_dir, self.settings.workflow_id, self.place.run_id, assignment.job_id, assignment.attempt
        )
        key = self._new_key()
        place = key if effect.after is None else self.attempts[effect.after].place
        before = looks(assignment.outputs) if assignment.outputs else _NOTHING
        attempt = _Attempt(effect, files, files, key, place, time.monotonic(), before)
        try:
            command = spawner_client.command_line(assignment, files, self._path_of(assignment))
            argv = self._monitor.prepare(key, assignment, effect.gpus, command)
            names = self.place.gpu_variables if effect.gpus or self.settings.gpus else ()
            what = self._launcher.prepare(
                key, effect, argv, files, job_environ.of_attempt(effect, names, self._threads)
            )
            attempt.started_with = what.files
            keeps = assignment.keep_background_processes
            self.spawners.start(key, what.argv, what.files, what.environ, place=place, keeps=keeps)
        except OSError as error:
            self._failed(attempt, error.errno or spawner.NO_ERRNO, f"{error.strerror}: {error.filename}")
        except ValueError as error:  # a lone surrogate
            self._monitor.forget(key)
            self._launcher.dropped(key)
            self._not_started(attempt, spawner.NO_ERRNO, str(error))
        else:
            self.attempts[assignment.job_id] = self._started[key] = attempt

    def _path_of(self, assignment: Assignment) -> str | None:
        """Return an attempt's PATH; None if its shell reads more from the environment."""
        if not (self._is_plain and shell.reads_nothing(assignment.env)):
            return None
        return assignment.env.get("PATH", self.place.environ.get("PATH", os.defpath))

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key

    def _take_events(self) -> None:
        """Handle the events of the spawners, including their deaths."""
        self._leftovers.before_events()
        events, died = self.spawners.events()
        for event in events:
            if isinstance(event, spawner_client.ProcessStarted):
                self._began(event)
            elif isinstance(event, spawner_client.ProcessEnded):
                self._left_behind(self._started[event.key], event.left)
        orphans = self._bury(died) if died else []
        self._sweep()
        for event in events:
            subject = (
                self._started[event.key]
                if isinstance(event, spawner_client.ProcessStarted)
                else self._started.pop(event.key)
            )
            match event:
                case spawner_client.ProcessStarted() if isinstance(subject, _Attempt):
                    if self._launcher.runs(event.key):
                        self._handle(Launched(subject.assignment.job_id, self.place.clock()))
                case spawner_client.StartFailed(_, number, why):
                    self._failed(subject, number, why)
                case spawner_client.ProcessEnded():
                    self._ended(subject, event)
        if died:
            self._end_orphans(orphans)

    def _bury(self, died: list[spawner_client.SpawnerExited]) -> list[_Orphan]:
        """Remove dead spawners; return what they had been told to start and had not seen end."""
        found: list[_Orphan] = []
        for each in died:
            _LOG.warning("the process that starts jobs (pid %d) %s", each.client.pid, each.how)
            for keys in self.spawners.reap(each):
                for at, key in enumerate(keys):
                    subject = self._started[key]
                    found.append(_Orphan(subject, subject.pid > 0 or (at == 0 and subject.may_have_begun())))
        jobs = [
            each.subject.assignment.job_id for each in found if each.is_begun and isinstance(each.subject, _Attempt)
        ]
        self._handle(SpawnerDied(died[-1].how, tuple(jobs)))
        return found

    def _end_orphans(self, orphans: list[_Orphan]) -> None:
        """Kill everything that dead spawners left, then report how each of their attempts and actions ended."""
        for each in orphans:
            if each.subject.pid:
                self._launcher.orphaned(each.subject.key, each.subject.pid)
        used = {each.subject.key: spawner_client.reap(each.subject.pid) for each in orphans if each.subject.pid}
        for pid in self._leftovers.end_orphans(self.spawners.pids | self._monitor.pids, self._kept):
            _LOG.warning("process %d was orphaned and cannot be killed", pid)
        for subject, is_begun in orphans:
            del self._started[subject.key]
            if is_begun and isinstance(subject, _Attempt) and self._launcher.runs(subject.key) and not subject.pid:
                self._handle(Launched(subject.assignment.job_id, self.place.clock()))
            if is_begun:
                usage = used.get(subject.key, Usage())
                ended = spawner_client.ProcessEnded(subject.key, counted(-signal.SIGKILL), time.monotonic(), usage)
                self._ended(subject, ended, is_orphan=True)
            elif isinstance(subject, _Attempt):
                self._failed(subject, spawner.WITHDRAWN, "")
            else:
                self.actions.pop(subject.firing_id, None)
                self._handle(ActionNotStarted(subject.firing_id))

    def _left_behind(self, subject: _Attempt | ActionRun, left: tuple[int, ...]) -> None:
        """Mark the remaining processes of an attempt to be killed, or to stay if the job says so."""
        if isinstance(subject, _Attempt) and subject.assignment.keep_background_processes:
            self._kept.add((b"%d" % subject.name[0], b"%d" % subject.name[1]))
            self._sessions.keep(subject.pid, *subject.name)
            self._leftovers.keep(left)
        else:
            self._leftovers.ended(subject.pid)

    def _began(self, event: spawner_client.ProcessStarted) -> None:
        subject = self._started[event.key]
        subject.pid = event.pid
        if isinstance(subject, _Attempt):
            subject.begun = event.at
            self._monitor.began(event.key, event.pid, event.at, self.place.clock())
            _LOG.debug("job %d, attempt %d started: pid %d", *subject.name, event.pid)
        self._sessions.add(event.pid)
        self._leftovers.began(event.pid)

    def _failed(self, subject: _Attempt | ActionRun, number: int, why: str) -> None:
        if isinstance(subject, ActionRun):
            subject.not_started(why)
            self._go_on(subject)
            return
        self.attempts.pop(subject.assignment.job_id, None)
        self._monitor.forget(subject.key)
        self._launcher.dropped(subject.key)
        if number == spawner.WITHDRAWN:
            self._handle(Withdrawn(subject.assignment.job_id))
        else:
            self._not_started(subject, number, why)

    def _not_started(self, attempt: _Attempt, number: int, why: str) -> None:
        job_id = attempt.assignment.job_id
        _LOG.warning("cannot start job %d, attempt %d: %s", *attempt.name, why)
        if number in _NO_ROOM:
            self._handle(NoRoom(job_id, f"cannot start: {why}"))
        else:
            self._handle(NotLaunched(job_id, self.place.clock(), f"cannot start: {why}"))

    def _kill(self, job_id: int, for_good: bool) -> None:
        attempt = self.attempts.get(job_id)
        if self._deferred.drops(job_id):
            self._handle(NoRoom(job_id, "it was stopped while waiting for its files"))
        elif attempt is not None:
            _LOG.info("stopping job %d, attempt %d with %s", *attempt.name, "SIGKILL" if for_good else "SIGTERM")
            self._launcher.stop(self.spawners, attempt.key, for_good=for_good)

    def _take_begun(self, ended: _Attempt | None = None) -> None:
        """Handle attempts that started running after their process did; `ended` may be among them."""
        for key in self._launcher.begun():
            subject = ended if ended is not None and key == ended.key else self._started.get(key)
            if isinstance(subject, _Attempt):
                self._handle(Launched(subject.assignment.job_id, self.place.clock()))

    def _ended(
        self, subject: _Attempt | ActionRun, event: spawner_client.ProcessEnded, *, is_orphan: bool = False
    ) -> None:
        if isinstance(subject, ActionRun):
            subject.ended(event.return_code)
            self._go_on(subject, is_orphan=is_orphan)
        else:
            del self.attempts[subject.assignment.job_id]
            ending = self._launcher.ending(subject.key, subject.begun, event)
            if is_orphan:
                ending = replace(ending, return_code=ending.return_code or event.return_code)
            self._take_begun(subject)
            level = logging.INFO if ending.return_code else logging.DEBUG
            _LOG.log(level, "job %d, attempt %d ended: return code %d", *subject.name, ending.return_code)
            exited = self._exited(subject, ending, event.at)
            if ending.node_failed and not self.state.is_stopping:
                _LOG.warning("its node failed: Slurm ends the whole allocation, so this runner is leaving")
                self._handle(Stop(at_once=True))
            if ending.not_started_reason is not None:
                self._not_started(
                    subject, errno.EAGAIN if ending.is_transient else spawner.NO_ERRNO, ending.not_started_reason
                )
            elif self._deferred.keeps(exited, time.monotonic(), is_stopping=self.state.is_stopping):
                self._handle(AttemptOver(exited.job_id))
            else:
                self._handle(replace(exited, is_doubtful=True) if is_orphan else exited)

    def _exited(self, attempt: _Attempt, ending: AttemptEnding, ended: float) -> Exited:
        assignment, return_code = attempt.assignment, ending.return_code
        lost: tuple[str, ...] = ()
        old: tuple[str, ...] = ()
        if return_code == 0 and assignment.outputs:
            again = self.place.visibility_delay_seconds > 0
            lost, old = not_written(assignment.outputs, attempt.before, look_again=again)
        at = self.place.clock()
        if attempt.pid:
            usage, killed = self._monitor.ended(attempt.key, ending.usage, return_code, (ended, at))
        else:  # its spawner died before reporting the start
            self._monitor.forget(attempt.key)
            usage, killed = ending.usage, None
        failed = return_code != 0 or bool(lost or old) or killed is not None or ending.reason is not None
        return Exited(
            assignment.job_id,
            return_code,
            at,
            ending.wall_seconds,
            usage,
            lost,
            spawner_client.tails(attempt.files) if failed else LogTails(),
            bool(failed and assignment.recovery_script) and os.path.exists(spawner_client.recovery_mark(attempt.files)),
            slurm_state=ending.slurm_state,
            reason=ending.reason,
            detail=ending.detail,
            out_of_memory=killed,
            old=old,
            before=attempt.before if old or lost else _NOTHING,
        )

    def _go_on(self, action: ActionRun, *, is_orphan: bool = False) -> None:
        """Start the next command of an action, or report the action's end."""
        command = action.next()
        if command is None:
            self.actions.pop(action.firing_id, None)
            self._handle(ActionExited(action.firing_id, action.return_code, action.detail, is_orphan))
        else:
            action.key = self._new_key()
            self.actions[action.firing_id] = self._started[action.key] = action
            self.spawners.start(action.key, *command, action.environ, place=action.key)

    def _sample(self, now: float) -> None:
        due = self._monitor.due()
        if due is not None and now >= due:
            for over in self._monitor.look(now):
                self._handle(MemoryExceeded(over.job_id, over.memory_bytes))
        if now >= self._next_sweep:
            self._next_sweep = now + _LEFTOVERS_SECONDS
            self._sweep()
            self._sessions.shorten(list(self._pids()))

    def _pids(self) -> set[int]:
        return {subject.pid for subject in self._started.values() if subject.pid}

    def _sweep(self) -> None:
        """Reap leftover processes that may stay, and kill what a dead spawner left.

        Both become children of this process, next to its spawners, whose children the jobs are.
        """
        pids = self.spawners.pids | self._monitor.pids
        if self._leftovers.number() <= len(pids):
            return
        names = {(b"%d" % job_id, b"%d" % at.assignment.attempt) for job_id, at in self.attempts.items()}
        if self._leftovers.sweep(pids | self._pids(), names | self._kept):
            self._next_sweep = time.monotonic() + _AGAIN_SECONDS  # reap what was killed, and find its children

    def _abandon(self) -> None:
        """Leave nothing running, however the loop ended."""
        pids = self._pids()
        self.attempts.clear()
        self.actions.clear()
        self._started.clear()
        if self._spawners is not None:
            self._spawners.close()
        for pid in pids:
            self._leftovers.ended(pid)
        deadline = time.monotonic() + _LEFTOVERS_SECONDS
        while self._leftovers.sweep((), self._kept) and time.monotonic() < deadline:
            select.select([], [], [], _AGAIN_SECONDS)
        self._monitor.close()
        self._launcher.close()
        self._leftovers.close()
        self._sessions.close()
        self.journal.close()
        self._epoll.close()
        self._exchanges.close()

    def _take_replies(self) -> None:
        for answer in self._exchanges.answers():
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, Replied) and answer.is_gone:
                self._keep_unreported()
            if isinstance(answer, Replied):
                self._end_given_up(answer.reply.given_up)
            is_all = not (self.state.finished or self.state.actions_finished)  # everything was in the request
            self._handle(answer)
            if isinstance(answer, Replied) and not answer.is_gone and is_all:
                self.journal.delivered()

    def _keep_unreported(self) -> None:
        """Leave unreported results to the next run."""
        sent, state = self.state.in_flight, self.state
        finished = [*(sent.finished if sent else ()), *state.finished]
        self._perform(keep(finished, [*(sent.actions_finished if sent else ()), *state.actions_finished]))

    def _end_given_up(self, runners: Sequence[GivenUp]) -> None:
        """Kill what other runners here may still run of the work now assigned to this one, before it starts. Raises Conflict.

        A runner that was stopped or could not reach the store has lost its lease but lives on without knowing it.
        """
        for each in runners:
            if each.runner_id not in self._given_up:
                self._given_up.add(each.runner_id)
                output_dir = Path(self.place.output_dir)
                dead_runners.end_given_up(each, self.settings.workflow_id, output_dir)

    # -- signals ------------------------------------------------------------------------------------------------

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number == signals.WARNING:
            self._is_warned = True
        else:
            self.signals += 1

    def _take_signals(self) -> None:
        if self._is_warned:
            self._is_warned = False
            self._handle(Warned(time.monotonic() + self.place.warning_seconds))
        while self._signals_taken < self.signals:
            self._signals_taken += 1
            self._handle(Stop(at_once=self._signals_taken > 1))
