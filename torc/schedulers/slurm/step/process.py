"""The program that `srun` starts for a single-node job: starts the job inside the step, waits for it and reports its use.

Standard output is the channel to the runner, through `srun` from whichever node: one line when the job has started, one when it
has ended. So the job's own output goes directly to its files, without Slurm's messages. It survives SIGTERM itself: the job gets
the signal too, and keeps its grace period. Multi-node jobs do not use it: `srun` starts them directly.

Arguments: key, stdout, stderr, base folder for the job's TMPDIR or empty, then the program and its arguments. It imports nothing
of Torc except `spawner`, and little else: it uses the step's memory, and every step waits for it.
"""

# as in `spawner`
import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time

if __package__:
    from torc.runner import spawner
else:
    import spawner  # type: ignore[import-not-found, no-redef, unused-ignore]

#: imported as a module, so that it is compiled only once; its folder and that of `spawner` precede its arguments
_FOLDER, _FILE = os.path.split(os.path.abspath(__file__))
FOLDERS = (_FOLDER, os.path.dirname(os.path.abspath(spawner.__file__)))
_NAME = _FILE.removesuffix(".py")
PROGRAM = f"import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; import {_NAME}; {_NAME}.run()"
MARK = "torc-step"
_KEPT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2)
_DEFAULTED = (*_KEPT, signal.SIGPIPE)


def main(arguments: list[str]) -> int:
    """Run a job; return the exit code that a shell would return."""
    key, stdout, stderr, scratch, *argv = arguments
    asked: list[int] = []
    spawner.become_subreaper()  # Slurm may identify processes by their parents alone
    for number in _KEPT:
        signal.signal(number, lambda number, frame: asked.append(number))
    environ = dict(os.environ)
    folder = spawner.make_scratch(scratch) if scratch else ""
    if folder:
        environ["TMPDIR"] = folder
    try:
        began = time.monotonic()
        try:
            pid = _spawn(argv, environ, stdout, stderr)
        except OSError as error:
            _tell(key, "failed", error.errno or 0, (error.strerror or "").replace(" ", "_"))
            return 126
        watched = os.pidfd_open(pid)
        place, step = os.environ.get("SLURMD_NODENAME", "-"), os.environ.get("SLURM_STEP_ID", "-")
        _tell(key, "began", pid, place, step)
        select.select([watched], [], [])
        os.close(watched)
        killed = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if signal.SIGTERM in asked or (killed is not None and killed.si_status == signal.SIGTERM):
            _outwait(pid)
        spawner.signal_group(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        wall = time.monotonic() - began
        spawner.end_children(lambda child: True)
        _tell(
            key, "ended", status, wall, used.ru_utime, used.ru_stime, used.ru_maxrss, used.ru_inblock, used.ru_oublock
        )
    finally:
        if folder:
            _remove(folder)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _spawn(argv: list[str], environ: dict[str, str], stdout: str, stderr: str) -> int:
    outputs = spawner.Outputs()
    out, err = os.fsencode(stdout), os.fsencode(stderr)
    for path in (out, err):
        outputs.clear(path)
    return os.posix_spawn(
        argv[0],
        argv,
        environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, outputs.place(out), spawner.NEW, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, outputs.place(err), spawner.NEW, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULTED,
    )


def _outwait(session: int) -> None:
    """Wait for processes that are saving their work after their leader has ended."""
    while (member := spawner.open_member(session)) is not None:
        select.select([member], [], [])
        os.close(member)


def _remove(folder: str) -> None:
    for root, folders, files in os.walk(folder, topdown=False):
        for name in files + folders:
            _unlink(os.path.join(root, name))
        _unlink(root)


def _unlink(path: str) -> None:
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:
        return


def _tell(*words: object) -> None:
    data = " ".join([MARK, *map(str, words)]).encode() + b"\n"
    try:
        os.write(1, data)
    except OSError:
        return  # `srun` is gone


def run() -> None:
    """Run the program and exit immediately: there is nothing to clean up."""
    code = main(sys.argv[1:])
    os._exit(code)
