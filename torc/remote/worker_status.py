"""The status of a worker on another machine, and the meaning of problems there."""

from __future__ import annotations

import json
import re
from typing import Literal

from pydantic import Field

from torc import __version__
from torc.api.base import Value
from torc.api.remote_workers import RemoteWorker
from torc.api.workflows import Workflow
from torc.errors import Conflict, Forbidden, Invalid, NotFound, TorcError, Unavailable
from torc.remote import ssh_errors
from torc.remote.scripts import ScriptReply, StoreAddress
from torc.remote.ssh import ScriptResult, kind_of
from torc.workflow.exit_codes import signal_of

State = Literal[
    "ready",  # could start
    "running",
    "ended",  # by itself, or stopped
    "died",  # killed, or its machine went down
    "never_started",
    "unknown",  # the machine cannot be reached or does not respond as expected
]
#: exit codes of `torc worker` that are not its own fault: done, jobs failed, stopped, stopped while exiting
_ORDERLY = {0, 1, 130, 143}
_VERSION = re.compile(r"torc (\d+(?:\.\d+)+[A-Za-z0-9.+-]*)", re.ASCII)


class WorkerStatus(Value):
    """The status of a worker, or the result of an operation on it; `is_ok` says whether that succeeded."""

    host: str
    state: State
    is_ok: bool = True
    message: str | None = Field(None, description="what happened")
    hint: str | None = Field(None, description="what to do")
    kind: str | None = Field(
        None, description="kind of failure: refused, permission_denied, no_torc, other_version ..."
    )
    pid: int | None = None
    start: str | None = Field(
        None, description="identifies this start of the worker; it is the runner's label `remote_start`"
    )
    exit_code: int | None = None
    program: str | None = None
    version: str | None = None
    directory: str | None = None
    output_dir: str | None = None
    runner_id: int | None = None
    runner_is_active: bool | None = Field(None, description="whether the runner is active according to the store")
    num_completed: int | None = None
    num_failed: int | None = None


def of_error(worker: RemoteWorker, error: TorcError) -> WorkerStatus:
    """Return the status of a worker for which something failed."""
    return WorkerStatus(
        host=worker.host, state="unknown", is_ok=False, message=error.message, hint=error.hint, kind=kind_of(error)
    )


def of_answer(worker: RemoteWorker, answer: ScriptReply) -> WorkerStatus:
    """Return the status of a worker from the output of a script."""
    alive, code = answer.get("alive"), _whole(answer.get("code"))
    if alive == "never":
        return WorkerStatus(
            host=worker.host, state="never_started", message="no worker of this workflow was started there"
        )
    is_running = alive == "yes"
    report = WorkerStatus(
        host=worker.host,
        state="running" if is_running else "ended" if code in _ORDERLY else "died",
        pid=_whole(answer.get("pid")),
        start=_shown(answer, "start"),
        exit_code=None if is_running else code,
        output_dir=_shown(answer, "output"),
    )
    if is_running:
        return report
    said = ssh_errors.last_line(answer.rest.decode(errors="replace"))
    return report.model_copy(update={"message": _ended(code, said)})


def of_check(worker: RemoteWorker, answer: ScriptReply) -> WorkerStatus:
    """Return the status of a worker that could start or is already running."""
    is_running = answer.get("alive") == "yes"
    return WorkerStatus(
        host=worker.host,
        state="running" if is_running else "ready",
        version=check_version(worker, answer),
        program=_shown(answer, "program"),
        directory=_shown(answer, "directory"),
        start=_shown(answer, "start"),
        message="it is already running" if is_running else None,
    )


def _shown(answer: ScriptReply, name: str) -> str | None:
    value = answer.get(name)
    return None if value is None else ssh_errors.printable(value)


def _ended(code: int | None, said: str) -> str:
    if code is None:
        return "it was killed, or its machine went down"
    number = signal_of(code)
    if number is not None and code not in _ORDERLY:
        return f"killed by signal {number}"
    if code in _ORDERLY:
        return f"ended with exit code {code}"
    return f"ended with exit code {code}" + (f": {said}" if said else "")


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,10}", text) else None


def checked(worker: RemoteWorker, ran: ScriptResult, answer: ScriptReply) -> ScriptReply:
    """Return the output of a script that succeeded. Raises the error for the problem that it reported."""
    trouble = answer.get("trouble")
    if trouble is not None:
        raise _trouble(worker, trouble, ssh_errors.printable(answer.get("about") or "")[:500])
    if ran.code != 0:
        last = ssh_errors.last_line(ran.said) or f"exit code {ran.code}"
        raise Unavailable(
            f"{worker.host}: a script failed there: {last}",
            hint="Torc requires a POSIX sh and GNU tools on Linux there",
            kind="script_failed",
        )
    return answer


def _trouble(worker: RemoteWorker, kind: str, about: str) -> TorcError:
    host = worker.host
    known: dict[str, tuple[type[TorcError], str, str]] = {
        "no_torc": (NotFound, f"there is no {about} there", "install Torc there, or give its path: --torc PATH"),
        "broken_torc": (Unavailable, f"its torc does not work: {about}", "repair the installation there"),
        "no_tool": (NotFound, f"there is no `{about}` there", "install util-linux and coreutils there"),
        "no_directory": (
            NotFound,
            f"there is no directory {about} there",
            "create it, or choose another one: --directory DIR",
        ),
        "no_output": (Forbidden, f"cannot write logs to {about}", "choose another folder: --output-dir DIR"),
        "no_state": (
            Forbidden,
            f"cannot write to {about}",
            "free some space in the home directory there, or set XDG_STATE_HOME",
        ),
        "busy": (Conflict, "another start is in progress there", "see `torc remote status`"),
        "no_start": (Unavailable, f"the worker did not start: {about}", "check the machine: is its disk full?"),
        "not_yours": (Forbidden, f"you may not stop process {about} there", "ask the administrator of that machine"),
    }
    error, means, hint = known.get(kind, (Unavailable, f"{kind} {about}", "check the machine"))
    return error(f"{host}: {means}", hint=hint, kind=kind)


def check_version(worker: RemoteWorker, answer: ScriptReply) -> str:
    """Return the version of the remote Torc. Raises Conflict if it differs from this one."""
    said = answer.get("version") or ""
    found = _VERSION.fullmatch(said.strip())
    if found is None:
        raise NotFound(
            f"{worker.host}: {_shown(answer, 'program')} is not Torc: it printed `{ssh_errors.printable(said)[:200]}`",
            hint="give the path of the program: --torc PATH",
            kind="no_torc",
        )
    if found[1].split(".")[:2] != __version__.split(".")[:2]:
        raise Conflict(
            f"{worker.host}: Torc has version {found[1]} there and {__version__} here",
            hint="install the same version, or give the path of another one: --torc PATH",
            kind="other_version",
        )
    return found[1]


def check_same_workflow(worker: RemoteWorker, answer: ScriptReply, workflow: Workflow, store: StoreAddress) -> None:
    """Check that the remote Torc finds the same workflow. Raises Unavailable or Invalid."""
    text = answer.rest.decode(errors="replace")
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        found = {}
    if found.get("id") == workflow.id:
        if found.get("created_at") == workflow.created_at and found.get("name") == workflow.name:
            return
        raise Invalid(
            f"{worker.host}: {store.name} is another store when used from there: its workflow {workflow.id} is not this one",
            hint="give the server's URL as seen from that machine: torc remote run --server-url URL",
            kind="other_store",
        )
    error = found.get("error") if isinstance(found.get("error"), dict) else {}
    said = str(error.get("message") or ssh_errors.last_line(text) or "nothing")
    for secret in store.variables.values():
        said = said.replace(secret, store.name)
    raise Unavailable(
        f"{worker.host}: {store.name} does not answer from there: {ssh_errors.printable(said)[:500]}",
        hint="give the server's URL as seen from there: --server-url URL; 127.0.0.1 can only be reached from its own machine",
        kind="no_store",
    )
