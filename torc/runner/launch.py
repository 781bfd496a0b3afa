"""Start, signal and reap the processes of attempts. Each runs in a session of its own, its output straight to files.

Not for deciding: `reactor` does; nor for what a job leaves behind: `leftovers` ends that.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torc.api.runs import Assignment, Usage
from torc.runner.hardware import start_ticks

# no O_CLOEXEC: posix_spawn opens onto the descriptor itself, and the program would lose it at exec
_OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_DEFAULTED = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT)
#: bytes spare posix_spawn the encoding of some hundred strings a process
Environ = Mapping[bytes, bytes]
_TAIL_BYTES = 4096
_SHELL = "/bin/sh"
#: runs the recovery script, then the job, in one process; no exit code could tell which one failed, so a file does
_RECOVER = 'sh -c "$1" || { code=$?; : > "$3"; exit $code; }; unset TORC_RETURN_CODE; exec sh -c "$2"'


@dataclass(frozen=True, slots=True)
class Files:
    """Where the output of an attempt goes."""

    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started."""

    pid: int
    pidfd: int
    files: Files


def files_of(output_dir: str, workflow_id: int, run_id: int, job_id: int, attempt: int) -> Files:
    """Name the output files of an attempt."""
    stem = f"{output_dir}/job_stdio/job_wf{workflow_id}_j{job_id}_r{run_id}_a{attempt}"
    return Files(stem + ".o", stem + ".e")


def start(assignment: Assignment, files: Files, environ: Environ) -> Child:
    """Start an attempt in the present working directory. Raises OSError."""
    command = assignment.command
    if assignment.invocation_script:
        command = f"{assignment.invocation_script} {command}"
    if assignment.recovery_script:
        mark = recovery_mark(files)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mark)
        argv = [_SHELL, "-c", _RECOVER, "sh", assignment.recovery_script, command, mark]
    else:
        argv = [_SHELL, "-c", command]
    return spawn(argv, files, environ)


def recovery_mark(files: Files) -> str:
    """Name the file that is there when a recovery script failed."""
    return files.stderr + ".recovery_failed"


def spawn(argv: list[str], files: Files, environ: Environ) -> Child:
    """Start a program with its output in files. Raises OSError."""
    if sum(map(len, argv)) > 120_000:  # one argument may not be longer than 128 KiB (MAX_ARG_STRLEN)
        script = files.stdout.removesuffix(".o") + ".sh"
        Path(script).write_text(argv[-1], encoding="utf-8")
        argv = [_SHELL, script]
    pid = os.posix_spawn(
        argv[0],
        argv,
        environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, files.stdout, _OUTPUT_FLAGS, 0o666),
            (os.POSIX_SPAWN_OPEN, 2, files.stderr, _OUTPUT_FLAGS, 0o666),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULTED,
    )
    return Child(pid, os.pidfd_open(pid), files)


def stop(pid: int, *, for_good: bool) -> None:
    """Signal a process, its group and all of its session; a stopped one is woken, so that it can react."""
    number = signal.SIGKILL if for_good else signal.SIGTERM
    _signal_group(pid, number)
    for member in session_members(pid):
        if member != pid:
            _signal(member, number)
    if not for_good:
        _signal_group(pid, signal.SIGCONT)


def reap(child: Child) -> tuple[int, Usage]:
    """Take the exit of a process that has ended: its return code (negative: a signal) and what it used.

    What it left in its process group is killed before, while the group cannot have become another's.
    """
    _signal_group(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    os.close(child.pidfd)
    measured = Usage(
        user_cpu_seconds=usage.ru_utime,
        system_cpu_seconds=usage.ru_stime,
        peak_memory_bytes=usage.ru_maxrss * 1024,
        read_bytes=usage.ru_inblock * 512,
        written_bytes=usage.ru_oublock * 512,
    )
    return os.waitstatus_to_exitcode(status), measured


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def tail(path: str) -> str | None:
    """Give the last lines of a file, at most 4 KiB; None when there is nothing in it."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
    except OSError:
        return None
    text = data.decode("utf-8", errors="replace").replace("\x00", "")
    if size > _TAIL_BYTES:
        text = text.partition("\n")[2] or text
    return text.rstrip() or None


def open_member(session: int) -> int | None:
    """Give a pidfd of a live process of a session beside its leader, which has ended; None when there is none."""
    for pid in session_members(session):
        if pid != session and start_ticks(pid) is not None:
            try:
                return os.pidfd_open(pid)
            except ProcessLookupError:
                continue
    return None


def session_members(session: int) -> list[int]:
    """Give the processes of a session."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _session_of(int(name)) == session]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
