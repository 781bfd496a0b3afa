"""Jobs as steps of a Slurm allocation: Slurm enforces each job's memory, assigns its CPUs and GPUs, and accounts for it.

`srun --exact`, never with `--overlap` where resources count: Slurm does not count overlapping steps, which would share CPUs and
GPUs. A single-node step runs `process`, which reports the job's use and writes its output itself; `srun` writes to a separate
file that shows how the step ended (`messages`). This module does not query Slurm; callers pass in functions for that.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from torc.api.runs import Usage
from torc.files import make_folder, open_new
from torc.runner import job_environ, spawner, spawner_client
from torc.runner.launcher import AttemptEnding, DirectLauncher, PreparedAttempt
from torc.runner.spawner_client import Environ, OutputFiles, ProcessEnded, Spawners
from torc.runner.state import StartAttempt
from torc.schedulers.slurm.step import messages, process
from torc.units import human_bytes
from torc.workflow.exit_codes import counted

_MIB = 1 << 20
_CHUNK = 1 << 16
_MOST_WORDS = 1 << 16
#: how long to wait for a step whose `srun` was asked to end it
_PATIENCE_SECONDS = 10.0
#: for multi-node steps, each try of which counts as a start
_MOST_REFUSED = 5
_PLACES = "SLURM_NTASKS_PER_NODE"


@dataclass(frozen=True, slots=True)
class StepAllocation:
    """The allocation that contains the steps. `signal_step` sends SIGTERM to a step given its name and, if known, its id."""

    srun: str
    job_id: str
    node: str  # this node
    nodes: tuple[str, ...]
    signal_step: Callable[[str, str | None], None]
    counts_memory: bool = True
    counts_only: bool = False  # resources are only counted: steps then share them
    scratch: str | None = None
    tasks_per_node: int = 1


@dataclass(slots=True)
class _Step:
    name: str
    start: StartAttempt
    words: str  # path of srun's output
    is_wide: bool
    pid: int = 0
    node: str = ""
    number: str | None = None
    ended: tuple[str, ...] | None = None
    failed: tuple[str, ...] | None = None


class StepLauncher(DirectLauncher):
    def __init__(self, allocated: StepAllocation) -> None:
        super().__init__()
        self._of = allocated
        self._folder = tempfile.mkdtemp(prefix="torc-steps-")
        self._fifo = os.path.join(self._folder, "said")
        os.mkfifo(self._fifo, 0o600)
        # also open for writing, so that it never reaches end of file
        self._fd = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._begun: list[int] = []
        self._refused = 0  # consecutive steps that could not be created
        self._steps: dict[int, _Step] = {}
        self._asker = ThreadPoolExecutor(1, "torc-scancel")

    def fileno(self) -> int:
        """Return the descriptor of the pipe that steps write to."""
        return self._fd

    def begun(self) -> list[int]:
        """Handle the steps' messages; return the keys of attempts that have started."""
        self._take()
        found, self._begun = self._begun, []
        return found

    def runs(self, key: int) -> bool:
        """Return whether an attempt counts as running once `srun` has started: a multi-node step sends no messages."""
        return self._steps[key].is_wide

    def _take(self) -> None:
        while True:
            try:
                part = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._note(line.decode("utf-8", errors="replace").split())

    def _note(self, words: list[str]) -> None:
        if len(words) < 3 or words[0] != process.MARK or not words[1].isdigit():
            return  # output of a site's prolog
        step = self._steps.get(int(words[1]))
        match words[2:]:
            case ["began", pid, node, number] if step is not None:
                step.pid, step.node, step.number = int(pid), node, number
                self._begun.append(int(words[1]))
            case ["ended", *figures] if step is not None:
                step.ended = tuple(figures)
            case ["failed", *why] if step is not None:
                step.failed = tuple(why)

    def prepare(
        self, key: int, start: StartAttempt, argv: list[str], files: OutputFiles, environ: Environ
    ) -> PreparedAttempt:
        """Return the process to start for an attempt."""
        assignment, of = start.assignment, self._of
        name = f"torc_j{assignment.job_id}_a{assignment.attempt}"
        words = os.path.join(self._folder, f"{key}.e")
        is_wide = assignment.request.num_nodes > 1
        self._steps[key] = _Step(name, start, words, is_wide)
        srun = [*self._srun(start, name), *self._places(start)]
        if not is_wide:
            program = [sys.executable, "-I", "-S", "-c", process.PROGRAM, *process.FOLDERS]
            argv = [*srun, *program, str(key), files.stdout, files.stderr, of.scratch or "", *argv]
            return PreparedAttempt(argv, OutputFiles(self._fifo, words), environ)
        for path in (files.stdout, files.stderr):
            make_folder(Path(path).parent)
            os.close(open_new(path))  # Slurm would follow a link
        srun += [f"--output={_literal(files.stdout)}", f"--error={_literal(files.stderr)}"]
        srun += [
            "--kill-on-bad-exit=1",
            "--wait=0",
        ]  # a rank may end long before the others, whatever the site's defaults
        environ = job_environ.shared_by_ranks(environ, assignment, self._tasks_per_node(start))
        plain = assignment.model_copy(update={"recovery_script": None})
        argv = [*srun, *spawner_client.command_line(plain, files)]
        if assignment.recovery_script:  # once, not on each node
            argv = spawner_client.recovering(assignment.recovery_script, shlex.join(argv), files)
        return PreparedAttempt(argv, OutputFiles("/dev/null", words), environ)

    def _tasks_per_node(self, start: StartAttempt) -> int:
        """Return the number of ranks on each node."""
        if start.assignment.request.num_nodes == 1:
            return 1
        given = start.assignment.env.get(_PLACES, "")
        return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else self._of.tasks_per_node

    def _srun(self, start: StartAttempt, name: str) -> list[str]:
        request, of = start.assignment.request, self._of
        tasks = self._tasks_per_node(start)
        argv = [
            of.srun,
            f"--jobid={of.job_id}",
            f"--job-name={name}",
            "--exact",
            "--input=none",
            f"--nodes={request.num_nodes}",
            f"--ntasks={tasks * request.num_nodes}",
            f"--ntasks-per-node={tasks}",
            f"--cpus-per-task={max(1, request.num_cpus // tasks)}",
            f"--gres=gpu:{request.num_gpus}" if request.num_gpus else "--gres=none",
        ]
        if of.counts_memory:
            argv.append(f"--mem={-(-request.memory_bytes // _MIB)}")
        if of.counts_only:
            argv.append("--overlap")
        return argv

    def _places(self, start: StartAttempt) -> list[str]:
        of = self._of
        if start.nodes:
            return [f"--nodelist={','.join(of.nodes[at] for at in start.nodes)}"]
        return [f"--nodelist={of.node}"] if len(of.nodes) > 1 else []

    def stop(self, spawners: Spawners, key: int, *, for_good: bool) -> None:
        """End an attempt. SIGTERM to `srun` kills the step without a grace period, so the step itself is signalled.

        Processes on this node are killed directly as well, in case Slurm's daemon is dead.
        """
        self._take()
        step = self._steps.get(key)
        if for_good and step is not None and step.pid and step.node == self._of.node:
            spawner.stop(step.pid, for_good=True)
        if step is None or for_good or not (step.pid or step.is_wide):
            spawners.stop(key, for_good=False)
        elif step.node == self._of.node:
            spawner.stop(step.pid, for_good=False)
        else:
            self._asker.submit(self._of.signal_step, step.name, step.number)

    def orphaned(self, key: int, pid: int) -> None:
        """End an attempt whose spawner has died: `srun` itself makes Slurm end the step, on any node."""
        self._take()
        step = self._steps.get(key)
        if step is not None and step.pid and step.node == self._of.node:
            spawner.stop(step.pid, for_good=True)
        with contextlib.suppress(OSError):
            watched = os.pidfd_open(pid)
            try:
                os.kill(pid, signal.SIGTERM)
                select.select([watched], [], [], _PATIENCE_SECONDS)
            finally:
                os.close(watched)
        super().orphaned(key, pid)

    def ending(self, key: int, began: float, event: ProcessEnded) -> AttemptEnding:
        """Return how an attempt ended, from the step's own report and from srun's output."""
        self._take()
        step = self._steps.pop(key)
        words = self._words(step)
        state = messages.state_of(words)
        plain = AttemptEnding(event.return_code, event.at - began, _UNKNOWN, state)
        if step.failed is not None:
            return replace(plain, not_started_reason=step.failed[-1].replace("_", " "))
        is_begun = step.pid > 0 if not step.is_wide else event.return_code == 0 or not messages.was_not_created(words)
        if not is_begun:
            self._refused += 1
            passing = messages.is_transient(words) and not (step.is_wide and self._refused > _MOST_REFUSED)
            return replace(plain, not_started_reason=messages.gist(words), is_transient=passing)
        self._refused = 0
        if step.ended is None and (state == "NODE_FAIL" or not (step.is_wide or event.return_code)):
            return self._abandoned(step, plain)
        if step.ended is not None:
            plain = _as_told(plain, step.ended)
        elif step.is_wide and event.return_code != 0:
            plain = replace(plain, return_code=messages.exit_code(words) or event.return_code)
        if state == "OUT_OF_MEMORY":
            asked = human_bytes(step.start.assignment.request.memory_bytes)
            code = plain.return_code or event.return_code
            why = f"Slurm ended it: it used more memory than the {asked} that it requested"
            return replace(plain, return_code=code, reason="out_of_memory", detail=why)
        if state is not None and plain.return_code != 0:
            return replace(plain, detail=f"Slurm: {messages.gist(words)}")
        return plain

    def _abandoned(self, step: _Step, plain: AttemptEnding) -> AttemptEnding:
        """Return how a step ended that sent no report: `srun` drops a step whose node failed, and returns 0.

        Processes of the step that are still alive here are killed.
        """
        if step.pid and step.node == self._of.node:
            spawner.stop(step.pid, for_good=True)
        failed = plain.slurm_state == "NODE_FAIL"
        why = "its node failed" if failed else "srun ended without reporting how the job ended"
        return replace(plain, return_code=plain.return_code or counted(-signal.SIGKILL), detail=why, node_failed=failed)

    def _words(self, step: _Step) -> str:
        try:
            with open(step.words, "rb") as file:
                data = file.read(_MOST_WORDS)
        except OSError:
            return ""
        with contextlib.suppress(OSError):
            os.unlink(step.words)
        return data.decode("utf-8", errors="replace")

    def dropped(self, key: int) -> None:
        """Forget an attempt."""
        self._steps.pop(key, None)

    def close(self) -> None:
        """Release everything."""
        super().close()
        self._asker.shutdown(wait=False, cancel_futures=True)
        os.close(self._fd)
        shutil.rmtree(self._folder, ignore_errors=True)


#: of jobs that report nothing: multi-node jobs
_UNKNOWN = Usage()


def _as_told(plain: AttemptEnding, figures: tuple[str, ...]) -> AttemptEnding:
    try:
        status, wall, user, system, peak, read, written = figures
        usage = Usage(
            user_cpu_seconds=float(user),
            system_cpu_seconds=float(system),
            peak_memory_bytes=int(peak) * 1024,
            read_bytes=int(read) * 512,
            written_bytes=int(written) * 512,
        )
        return replace(
            plain, return_code=counted(os.waitstatus_to_exitcode(int(status))), wall_seconds=float(wall), usage=usage
        )
    except ValueError:  # truncated
        return plain


def _literal(path: str) -> str:
    """Escape a path so that `srun` takes it literally."""
    return path.replace("%", "%%")
