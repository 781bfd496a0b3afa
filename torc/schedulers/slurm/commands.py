"""The only place that starts Slurm's commands: for a limited time, again while a cluster is too busy, never through a shell.

What an outer job or a user's shell has set for these commands does not reach them (`SLURM_*`, `SBATCH_*`, ...), so that
they answer in the formats that `output_parser` reads, and submissions ask for what they say. Times are printed in UTC.

Three ends: the answer; `Unavailable`, when the cluster could not say (never to be taken for "the job is gone"); and
`Invalid`, when it refused, with its words. Not for what answers mean.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torc.backoff import backoff
from torc.errors import Invalid, Unavailable

_log = logging.getLogger(__name__)
_FOREIGN = ("SLURM", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SACCT", "SINFO_", "SCONTROL_", "SCANCEL_", "SPRIO_")
#: which cluster is meant, and the token that says who one is
_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
#: what these start inherits their environment: it is not ours to set there
_HAND_ON_ENVIRONMENT = {"sbatch", "srun", "salloc"}
#: a second call would do it twice
_ONCE = {"sbatch"}
#: the controller, or what stands between, had no time or was away. Words of slurm_errno.c and of strerror(3)
_NOT_REACHED = re.compile(
    r"connect failure|connection refused|temporarily unable to accept job|standby mode|no route to host"
    r"|network is unreachable|resource temporarily unavailable|rate limit|controller is not responding",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"socket timed out|unable to contact slurm|zero bytes were transmitted|communication (connection|shutdown) failure"
    r"|message (receive|send) failure|(receive|send|shutdown) failure|connection (timed out|reset)|broken pipe"
    r"|transport endpoint|timed out on send/recv|unexpected missing socket|slurm_(receive|send)_msg"
    r"|problem talking to the database|persist_conn|persistinit|munge|protocol authentication error"
    r"|slurm_load_\w+ error: (unexpected message|.*timed? ?out)",
    re.IGNORECASE,
)
_NOT_CONFIGURED = re.compile(
    r"could not establish a configuration source|unable to process configuration|fetch_config", re.IGNORECASE
)
_PREFIX = re.compile(r"^(?:\w+: )?(?:error|fatal): ")
_MOST_WORDS = 600
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
TIMEOUT_SECONDS = 60.0
PATIENCE_SECONDS = 120.0

_issued: Counter[str] = Counter()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a command printed, and what it said beside that (warnings, the words of a site)."""

    output: str
    said: str


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> str:
    """Call a command and give what it prints; see `ask`."""
    return ask(argv, stdin=stdin, timeout=timeout, patience=patience).output


def ask(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> CommandOutput:
    """Call a command, each time for at most `timeout` seconds, and again for `patience` seconds while the cluster is too busy.

    Raises Invalid, when it is refused, and Unavailable. `sbatch` is called again only when it surely was not heard;
    else `details["uncertain"]` is true: look by its name whether the job is there.
    """
    end = time.monotonic() + patience
    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while True:
        try:
            return _call(list(argv), stdin, timeout)
        except Unavailable as error:
            pause = next(pauses)
            if not error.details.get("again") or time.monotonic() + pause > end:
                raise
            _log.info("%s; again in %.1f s", error.message, pause)
        time.sleep(pause)


def issued() -> dict[str, int]:
    """Count the commands that this process has started, by name."""
    with _lock:
        return dict(_issued)


def environment(program: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a command: the caller's, without what is meant for Slurm's commands in other places."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or not name.startswith(_FOREIGN)}
    if not kept.get("SLURM_CONF"):  # an empty one would be taken for a path
        kept.pop("SLURM_CONF", None)
    if program in _HAND_ON_ENVIRONMENT:
        return kept
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _call(argv: list[str], stdin: str | None, timeout: float) -> CommandOutput:
    program = os.path.basename(argv[0])
    with _lock:
        _issued[program] += 1
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(program, os.environ),
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us: a submission is not cut off half-way
        )
    except FileNotFoundError:
        raise Invalid(
            f"`{program}` is not installed on this machine",
            hint="go to a login node of the cluster, or try one here: `torc hpc sandbox start`",
        ) from None
    except OSError as error:  # no memory, no processes
        raise Unavailable(f"cannot start {program}: {error.strerror}", again=True, uncertain=False) from error
    return _judged(program, process, *_waited_for(program, process, stdin, timeout))


def _waited_for(program: str, process: subprocess.Popen[str], stdin: str | None, timeout: float) -> tuple[str, str]:
    try:
        return process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        said = _kill(process)
        once = program in _ONCE
        raise Unavailable(
            f"{program} did not answer within {timeout:.0f} s{f': {words}' if (words := _words(said)) else ''}",
            hint=_LATER,
            again=not once,
            uncertain=once,
        ) from None
    except BaseException:
        if program not in _ONCE:  # a submission that is under way is let go on, to be found by its name
            _kill(process)
        raise


def _judged(program: str, process: subprocess.Popen[str], output: str, said: str) -> CommandOutput:
    if process.returncode == 0:
        if said.strip():
            _log.info("%s said: %s", program, _words(said))
        return CommandOutput(output, said)
    words = _words(said) or _words(output) or f"exit code {process.returncode}"
    if _NOT_CONFIGURED.search(said):
        raise Unavailable(
            f"{program} knows of no cluster here: there is no slurm.conf that it could read",
            hint="go to a login node of the cluster, set SLURM_CONF, or try one here: `torc hpc sandbox start`",
            again=False,
            uncertain=False,
            words=words,
        )
    no_answer = bool(_NO_ANSWER.search(said)) and not _only_not_reached(said)
    if no_answer or _NOT_REACHED.search(said) or process.returncode < 0:
        uncertain = program in _ONCE and (no_answer or process.returncode < 0)
        raise Unavailable(f"{program}: {words}", hint=_LATER, again=not uncertain, uncertain=uncertain)
    raise Invalid(f"{program} refused: {words}", words=words, exit_code=process.returncode)


_LATER = "the cluster's controller is busy or away: nothing is lost; try again later"


def _only_not_reached(said: str) -> bool:
    """Return whether a message that says 'unable to contact' also says that not even a connection came about."""
    lines = [line for line in said.splitlines() if _NO_ANSWER.search(line)]
    return all(_NOT_REACHED.search(line) for line in lines)


def _words(said: str) -> str:
    lines = [_PREFIX.sub("", line.strip()) for line in said.splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys(lines))
    return "".join(c if c.isprintable() else " " for c in text[:_MOST_WORDS])


def _kill(process: subprocess.Popen[str]) -> str:
    """End a command and what it started; returns what it had said."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[1] or ""
