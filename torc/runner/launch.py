"""Start, signal and reap the processes of attempts. Each runs in a session of its own, its output straight to files.

Not for deciding: `reactor` does. The runner is a subreaper: what a job leaves behind becomes its child and is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torc.api.runs import Assignment, Usage

# no O_CLOEXEC: posix_spawn opens onto the descriptor itself, and the program would lose it at exec
_OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_PR_SET_CHILD_SUBREAPER = 36
_DEFAULTED = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT)
_TAIL_BYTES = 4096
_SHELL = "/bin/sh"
#: runs the recovery script, then the job, in one process: its exit code 213 would be ambiguous, so a file tells
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


def start(assignment: Assignment, files: Files, environ: Mapping[str, str]) -> Child:
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


def spawn(argv: list[str], files: Files, environ: Mapping[str, str]) -> Child:
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


def stop(child: Child, *, for_good: bool) -> None:
    """Signal a process and its group; for good, all of its session."""
    number = signal.SIGKILL if for_good else signal.SIGTERM
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
    for pid in session_members(child.pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap(child: Child) -> tuple[int, Usage]:
    """Take the exit of a process that has ended: its return code (negative: a signal) and what it used."""
    _, status, usage = os.wait4(child.pid, 0)
    os.close(child.pidfd)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # what it left in its process group
    measured = Usage.model_construct(
        user_cpu_seconds=usage.ru_utime,
        system_cpu_seconds=usage.ru_stime,
        peak_memory_bytes=usage.ru_maxrss * 1024,
        read_bytes=usage.ru_inblock * 512,
        written_bytes=usage.ru_oublock * 512,
        average_memory_bytes=None,
        max_processes=None,
    )
    return os.waitstatus_to_exitcode(status), measured


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


# -- what is left behind ----------------------------------------------------------------------------------------


def become_subreaper() -> None:
    """Have orphans of jobs become children of this process (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_leftovers(known: Collection[int], sessions: Collection[int]) -> None:
    """Kill and reap children of this process that belong to no running attempt.

    `known` are pids that somebody waits for; a process whose session or whose TORC_SESSION is among `sessions` stays.
    """
    for pid in _children():
        if pid in known:
            continue
        if session_of(pid) in sessions or _marked_session(pid) in sessions:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    try:
        text = Path("/proc/thread-self/children").read_text(encoding="ascii")
        for task in os.listdir("/proc/self/task"):
            text += " " + Path(f"/proc/self/task/{task}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(pid) for pid in set(text.split())]


def session_of(pid: int) -> int:
    """Give the session of a process; 0 when it is gone."""
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _marked_session(pid: int) -> int:
    """Give the attempt's own process that a descendant was started by, told by its environment."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return 0
    for entry in environ.split(b"\0"):
        if entry.startswith(b"TORC_JOB_ID="):
            return -int(entry.removeprefix(b"TORC_JOB_ID=") or 0)
    return 0


def session_members(session: int) -> list[int]:
    """Give the processes of a session."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and session_of(int(name)) == session]
