"""The runner's end of `spawner`: starts and ends the processes of attempts, each in its own session with its output in files.

Decisions are made by `reactor`; what a job leaves behind is handled by `orphan_processes`.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torc.api.runs import Assignment, Usage
from torc.errors import Unavailable
from torc.files import make_folder, open_new
from torc.runner import shell as shells
from torc.runner import spawner
from torc.runner.state import LogTails
from torc.runner.tail import end_of
from torc.workflow.exit_codes import counted

Environ = Mapping[bytes, bytes]
_TAIL_BYTES = 4096
#: lines of a log are counted up to this size, which takes some 50 ms
_MOST_COUNTED_BYTES = 64 << 20
#: runs the recovery script, then the job, in one process; a file marks a failed script, since no exit code could tell
_RECOVER = '"$0" -c "$1" || { code=$?; : > "$3"; exit $code; }; unset TORC_RETURN_CODE; exec "$0" -c "$2"'
#: contains nothing that a shell would expand or interpret
_PLAIN_WORDS = re.compile(r"[A-Za-z0-9_@%+=:,./ \t-]+")
#: shell builtins and keywords: not programs, or programs that behave differently
_OF_SHELLS = frozenset(
    re.findall(
        r"\S+",
        ". : alias bg break builtin case cd command continue declare dirs do done elif else esac eval exec exit export fc fg fi for "
        "function getopts hash if in jobs let local popd pushd read readonly return select set shift shopt source then time times "
        "trap type typeset ulimit umask unalias unset until wait while",
    )
)
_LONGEST_ARGUMENT = 120_000  # one argument may not be longer than 128 KiB (MAX_ARG_STRLEN)
_PATIENCE_SECONDS = 10.0
#: how long to wait for a killed process, and the polling interval
_REAP_SECONDS, _LOOK_SECONDS = 5.0, 0.001
_CHUNK = 1 << 15
_MOST_UNSENT = 1 << 20
#: concurrent spawners; each takes a few MB
_MOST_SPAWNERS = 128
#: while one waits for a new program to be in place, another can start the next
_MADE_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The output files of an attempt."""

    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A process was started. Times are on the monotonic clock, in seconds."""

    key: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A process could not be started. `number` is an errno; 0: the arguments could not even be passed to the kernel."""

    key: int
    number: int
    why: str


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A process has ended: its exit code (`exit_codes`) and its use according to the kernel.

    `left`: pids of leftover processes that are to stay; if there are any, its spawner starts nothing more.
    """

    key: int
    return_code: int
    at: float
    usage: Usage
    left: tuple[int, ...] = ()


class SpawnerGone(Exception):
    """A spawner has exited by itself."""


@dataclass(frozen=True, slots=True)
class SpawnerExited:
    """A spawner has exited by itself: everything it had started has become a child of this process and must be ended."""

    client: SpawnerClient
    how: str


class SpawnerClient:
    """A spawner process and the connection to it."""

    def __init__(self, environ: Environ) -> None:
        here, there = socket.socketpair()
        self._unsent_fd = os.memfd_create("torc-spawner")
        with there:
            there.set_inheritable(True)
            # -I, -S: nothing from the user's environment and no unneeded modules, to keep it small
            command = [sys.executable, "-I", "-S", spawner.__file__, str(there.fileno()), str(self._unsent_fd)]
            try:
                self._process = subprocess.Popen(
                    command,
                    env=dict(environ),
                    pass_fds=[there.fileno(), self._unsent_fd],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                here.close()
                os.close(self._unsent_fd)
                raise Unavailable(
                    f"the process that starts jobs cannot be started: {error.strerror}",
                    hint="this machine may have no room for more processes",
                ) from None
        self._socket = here
        self._read = b""
        self._num_read = 0  # in bytes
        self.pid = self._process.pid
        self._tell((spawner.ENVIRON, dict(environ)))

    def fileno(self) -> int:
        return self._socket.fileno()

    def start(
        self, key: int, argv: list[str], files: OutputFiles, environ: Environ, *, place: int, keeps: bool = False
    ) -> None:
        """Start a program in the directory that was current when this was created; `environ` extends the base environment.

        A place holds one process: while it is taken, the start waits. With `keeps`, processes that it leaves behind stay.
        """
        words = [os.fsencode(word) for word in argv]
        stdout, stderr = os.fsencode(files.stdout), os.fsencode(files.stderr)
        self._tell((spawner.START, key, place, words, environ, stdout, stderr, keeps))

    def stop(self, key: int, *, for_good: bool) -> None:
        """Send SIGTERM or SIGKILL to a process and its whole session; does nothing if it has ended."""
        self._tell((spawner.STOP, key, for_good))
        if for_good:  # a job may have stopped its parent
            self._process.send_signal(signal.SIGCONT)

    def withdraw(self, key: int) -> None:
        """Drop a start that is still waiting."""
        self._tell((spawner.STOP, key, None))

    def events(self) -> list[ProcessStarted | StartFailed | ProcessEnded]:
        """Return what has happened; blocks if nothing has. Raises SpawnerGone when the process is gone."""
        try:
            part = self._socket.recv(_CHUNK)
        except ConnectionError:
            part = b""
        if not part:
            raise SpawnerGone
        self._num_read += len(part)
        return self._events_in(part)

    def _events_in(self, part: bytes) -> list[ProcessStarted | StartFailed | ProcessEnded]:
        data, at = self._read + part, 0
        found: list[ProcessStarted | StartFailed | ProcessEnded] = []
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > len(data):
                break
            found.append(_event(marshal.loads(data[at + 4 : end])))
            at = end
        self._read = data[at:]
        return found

    def close(self) -> None:
        """End the process, and with it everything it started that is still running."""
        self.hang_up()
        self._wait()

    def _wait(self) -> None:
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reap(self) -> tuple[str, list[ProcessStarted | StartFailed | ProcessEnded]]:
        """Reap the process, which is gone; return how it ended and the events that it had not sent.

        Its children have become children of this process (`become_subreaper`).
        """
        self._wait()
        code = self._process.returncode
        found: list[ProcessStarted | StartFailed | ProcessEnded] = []
        with contextlib.suppress(ValueError, EOFError, TypeError, Unavailable):  # killed in the middle of a write
            found = self._events_in(self._not_sent())
        self.hang_up()
        return (f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"), found

    def _not_sent(self) -> bytes:
        """Return the data that the process had queued but not sent."""
        text, width = os.pread(self._unsent_fd, _MOST_UNSENT, 0), spawner.SIZE_BYTES
        num_sent, num_unsent = (int.from_bytes(text[at : at + width], "little") for at in (0, width))
        return text[2 * width :][max(0, self._num_read - num_sent) : num_unsent]

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def hang_up(self) -> None:
        """Close the connection, which ends the process."""
        self._socket.close()
        if self._unsent_fd >= 0:
            os.close(self._unsent_fd)
            self._unsent_fd = -1

    def _tell(self, message: tuple[Any, ...]) -> None:
        data = marshal.dumps(message)
        try:
            self._socket.sendall(len(data).to_bytes(4, "little") + data)
        except ConnectionError:
            return  # reading notices that it is gone, and the caller then asks what it was told


class Spawners:
    """Spawners created on demand, one for each place, so that the leftovers of one job are distinguished from another's.

    Beyond a limit, places share spawners. A dead spawner is reported once and keeps its keys until `reap` is called.
    """

    def __init__(self, environ: Environ, number: int) -> None:
        self._epoll = select.epoll()
        self._environ, self._most = environ, max(1, min(number, _MOST_SPAWNERS))
        self._all: list[SpawnerClient] = []
        self._over: list[SpawnerClient] = []
        self._of_key: dict[int, tuple[SpawnerClient, int]] = {}
        self._keys: dict[int, tuple[SpawnerClient, dict[int, None]]] = {}  # by place, in starting order
        try:
            for _ in range(min(_MADE_AT_ONCE, self._most)):
                self._make()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> set[int]:
        return {each.pid for each in (*self._all, *self._over)}

    def _make(self) -> SpawnerClient:
        made = SpawnerClient(self._environ)
        self._all.append(made)
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return made

    def _free(self) -> SpawnerClient:
        taken = [id(each) for each, _ in self._keys.values()]
        for each in self._all:
            if id(each) not in taken:
                return each
        if len(self._all) < self._most:
            return self._make()
        return min(self._all, key=lambda each: taken.count(id(each)))

    def fileno(self) -> int:
        return self._epoll.fileno()

    def start(
        self, key: int, argv: list[str], files: OutputFiles, environ: Environ, *, place: int, keeps: bool = False
    ) -> None:
        """Start a program; see `SpawnerClient.start`."""
        if place not in self._keys:
            self._keys[place] = (self._free(), {})
        chosen, keys = self._keys[place]
        keys[key] = None
        self._of_key[key] = (chosen, place)
        chosen.start(key, argv, files, environ, place=place, keeps=keeps)

    def stop(self, key: int, *, for_good: bool) -> None:
        """Signal a process and its whole session; see `SpawnerClient.stop`. Does nothing once its spawner is buried."""
        if key in self._of_key:
            self._of_key[key][0].stop(key, for_good=for_good)

    def withdraw(self, key: int) -> None:
        """Drop a start that is still waiting."""
        if key in self._of_key:
            self._of_key[key][0].withdraw(key)

    def events(self) -> tuple[list[ProcessStarted | StartFailed | ProcessEnded], list[SpawnerExited]]:
        """Return what has happened, and which spawners are gone: call `reap` for those."""
        found: list[ProcessStarted | StartFailed | ProcessEnded] = []
        gone: list[SpawnerClient] = []
        ready = {fd for fd, _ in self._epoll.poll(0)}
        for each in self._all:
            if each.fileno() in ready:
                try:
                    found += each.events()
                except SpawnerGone:
                    gone.append(each)
        died = []
        for each in gone:
            self._epoll.unregister(each.fileno())
            self._all.remove(each)
            how, said = each.reap()
            found += said
            died.append(SpawnerExited(each, how))
        for event in found:
            if not isinstance(event, ProcessStarted):
                chosen, place = self._of_key.pop(event.key)
                keys = self._keys[place][1]
                keys.pop(event.key, None)
                if not keys:
                    del self._keys[place]
                if isinstance(event, ProcessEnded) and event.left:
                    self._let_go(chosen)
        return found, died

    def reap(self, died: SpawnerExited) -> list[list[int]]:
        """Forget a spawner; return its keys by place in starting order: the first of each may have started."""
        places = [place for place, (chosen, _) in self._keys.items() if chosen is died.client]
        found = [list(self._keys.pop(place)[1]) for place in places]
        for keys in found:
            for key in keys:
                del self._of_key[key]
        return found

    def _let_go(self, chosen: SpawnerClient) -> None:
        """Stop using a spawner: the leftovers that it keeps become children of this process and stay."""
        if chosen not in self._all:
            return  # it has died meanwhile
        self._epoll.unregister(chosen.fileno())
        self._all.remove(chosen)
        chosen.hang_up()
        self._over = [each for each in (*self._over, chosen) if not each.has_ended()]

    def close(self) -> None:
        """End the processes, and with them everything they started that is still running."""
        self._epoll.close()
        for each in self._all:
            each.hang_up()
        for each in (*self._all, *self._over):
            each.close()


def usage_of(user: float, system: float, peak: int, read: int, written: int) -> Usage:
    """Convert the kernel's accounting of a process: KiB of memory, blocks of 512 bytes."""
    return Usage.model_construct(
        user_cpu_seconds=user,
        system_cpu_seconds=system,
        peak_memory_bytes=peak * 1024,
        read_bytes=read * 512,
        written_bytes=written * 512,
    )


def _event(message: tuple[object, ...]) -> ProcessStarted | StartFailed | ProcessEnded:
    match message:
        case (spawner.BEGAN, int(key), int(pid), float(at)):
            return ProcessStarted(key, pid, at)
        case (spawner.FAILED, int(key), int(number), str(why)):
            return StartFailed(key, number, why)
        case (
            spawner.ENDED,
            int(key),
            int(status),
            float(at),
            float(user),
            float(system),
            int(peak),
            int(read),
            int(written),
            list(left),
        ):
            usage = usage_of(user, system, peak, read, written)
            return ProcessEnded(key, counted(os.waitstatus_to_exitcode(status)), at, usage, tuple(map(int, left)))
    raise Unavailable(f"the process that starts jobs says {message!r:.200}", hint="report this: it is a fault of Torc")


def have_begun(files: OutputFiles) -> bool:
    """Return whether a spawner that died without reporting may have started what writes to these files: it creates them first."""
    return os.path.lexists(files.stderr)


def reap(pid: int) -> Usage:
    """Wait for a child that was killed, up to a time limit; return its use as far as known."""
    deadline = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < deadline:
        try:
            found, _, used = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            break
        if found:
            return usage_of(used.ru_utime, used.ru_stime, used.ru_maxrss, used.ru_inblock, used.ru_oublock)
        time.sleep(_LOOK_SECONDS)
    return Usage()


def files_of(output_dir: str, workflow_id: int, run_id: int, job_id: int, attempt: int) -> OutputFiles:
    """Return the paths of an attempt's output files."""
    stem = f"{output_dir}/job_stdio/job_wf{workflow_id}_j{job_id}_r{run_id}_a{attempt}"
    return OutputFiles(stem + ".o", stem + ".e")


def command_line(assignment: Assignment, files: OutputFiles, path: str | None = None) -> list[str]:
    """Return the command of an attempt. Raises OSError if a file that it needs cannot be written, ValueError for invalid text.

    `path` is the attempt's PATH, given only if bash would read nothing from its environment.
    """
    command = assignment.command
    if assignment.invocation_script:
        command = f"{assignment.invocation_script} {as_arguments(command, files)}"
    if not assignment.recovery_script:
        return shell(command, files, path)
    return recovering(assignment.recovery_script, shell(command, files)[-1], files)


def as_arguments(command: str, files: OutputFiles) -> str:
    """Format a command as the arguments of an invocation script, so that `"$@"` in it runs the whole command.

    Plain words stay as they are, for scripts that look at their arguments. Anything else (several commands, variables,
    redirections, shell builtins) has meaning only to a shell, which the script therefore starts.
    """
    words = command.split()
    if _PLAIN_WORDS.fullmatch(command) and words[0] not in _OF_SHELLS and "=" not in words[0]:
        return command
    return shlex.join(shell(command, files))


def recovering(script: str, command: str, files: OutputFiles) -> list[str]:
    """Return a command that runs a recovery script and, if it succeeds, a shell command. Raises like `command_line`."""
    mark = recovery_mark(files)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)
    script = _short(script, files.stdout.removesuffix(".o") + ".recovery.sh")
    return [shells.program(), "-c", _RECOVER, shells.program(), script, command, mark]


def shell(command: str, files: OutputFiles, path: str | None = None) -> list[str]:
    """Return a command that runs a shell command. Raises OSError and ValueError, like `command_line`."""
    program = shells.program() if path is None else shells.for_command(command, path)
    return [program, "-c", _short(command, files.stdout.removesuffix(".o") + ".sh")]


def _short(command: str, script: str) -> str:
    """Return a command unchanged or, if it is too long for an argument, a command that runs it from a file."""
    if len(command) < _LONGEST_ARGUMENT and len(os.fsencode(command)) < _LONGEST_ARGUMENT:
        return command
    text = os.fsencode(command)
    make_folder(Path(script).parent)  # the log folder may have been removed
    with open(open_new(script), "wb") as file:
        file.write(text)
    return f"exec {shells.program()} {shlex.quote(script)}"


def recovery_mark(files: OutputFiles) -> str:
    """Return the path of the file whose existence marks a failed recovery script."""
    return files.stderr + ".recovery_failed"


def tails(files: OutputFiles) -> LogTails:
    """Return the last lines of an attempt's output."""
    stderr, stderr_line = _tail(files.stderr)
    stdout, stdout_line = (None, None) if files.stdout == files.stderr else _tail(files.stdout)
    return LogTails(stderr, stderr_line, stdout, stdout_line)


def last_line(path: str) -> str | None:
    """Return the last line of a file; None if it is empty."""
    text, _ = _tail(path)
    return text.splitlines()[-1] if text else None


def _tail(path: str) -> tuple[str | None, int | None]:
    end = end_of(path, _TAIL_BYTES, most_counted_bytes=_MOST_COUNTED_BYTES)
    return (end.text.rstrip(), end.first_line) if end else (None, None)
