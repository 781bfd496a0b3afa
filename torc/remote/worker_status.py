"""What is told of a worker on another machine, and what each trouble there means."""

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
    "ready",  # could begin
    "running",
    "ended",  # by itself, or stopped
    "died",  # killed, or its machine went down
    "never_started",
    "unknown",  # the machine cannot be asked, or does not do what it is asked
]
#: exit codes of `torc worker` that are no fault of its own: done, jobs failed, stopped, stopped when it was about to end
_ORDERLY = {0, 1, 130, 143}
_VERSION = re.compile(r"torc (\d+(?:\.\d+)+[A-Za-z0-9.+-]*)", re.ASCII)


class WorkerStatus(Value):
    """How a worker is, or what became of what was asked of it. `is_ok` tells whether that was done."""

    host: str
    state: State
    is_ok: bool = True
    message: str | None = Field(None, description="what happened, for people")
    hint: str | None = Field(None, description="what to do")
    kind: str | None = Field(None, description="of a failure: refused, permission_denied, no_torc, other_version ...")
    pid: int | None = None
    start: str | None = Field(
        None, description="names this start of the worker, and is the runner's label `remote_start`"
    )
    exit_code: int | None = None
    program: str | None = None
    version: str | None = None
    directory: str | None = None
    output_dir: str | None = None
    runner_id: int | None = None
    runner_is_active: bool | None = Field(None, description="what the store says of the runner")
    num_completed: int | None = None
    num_failed: int | None = None


def of_error(worker: RemoteWorker, error: TorcError) -> WorkerStatus:
    """Tell of a worker that something failed."""
    return WorkerStatus(
        host=worker.host, state="unknown", is_ok=False, message=error.message, hint=error.hint, kind=kind_of(error)
    )


def of_answer(worker: RemoteWorker, answer: ScriptReply) -> WorkerStatus:
    """Return how a worker is from what was described over there."""
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
    """Tell that a worker could begin, or runs already."""
    is_running = answer.get("alive") == "yes"
    return WorkerStatus(
        host=worker.host,
        state="running" if is_running else "ready",
        version=check_version(worker, answer),
        program=_shown(answer, "program"),
        directory=_shown(answer, "directory"),
        start=_shown(answer, "start"),
        message="it runs already" if is_running else None,
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
    """Return the answer of a script that did what it should. Raises the error that its trouble means."""
    trouble = answer.get("trouble")
    if trouble is not None:
        raise _trouble(worker, trouble, ssh_errors.printable(answer.get("about") or "")[:500])
    if ran.code != 0:
        last = ssh_errors.last_line(ran.said) or f"exit code {ran.code}"
        raise Unavailable(
            f"{worker.host}: a script failed there: {last}",
            hint="Torc needs a POSIX sh and GNU tools on Linux there",
            kind="script_failed",
        )
    return answer


def _trouble(worker: RemoteWorker, kind: str, about: str) -> TorcError:
    host = worker.host
    known: dict[str, tuple[type[TorcError], str, str]] = {
        "no_torc": (NotFound, f"there is no {about} there", "install Torc there, or name the program: --torc PATH"),
        "broken_torc": (Unavailable, f"its torc does not run: {about}", "mend the installation there"),
        "no_tool": (NotFound, f"there is no `{about}` there", "install util-linux and coreutils there"),
        "no_directory": (NotFound, f"there is no directory {about} there", "make it, or name another: --directory DIR"),
        "no_output": (Forbidden, f"cannot write logs to {about}", "name another folder: --output-dir DIR"),
        "no_state": (
            Forbidden,
            f"cannot write to {about}",
            "make room in the home directory there, or set XDG_STATE_HOME",
        ),
        "busy": (Conflict, "another start is under way there", "look with `torc remote status`"),
        "no_start": (Unavailable, f"the worker did not begin: {about}", "look at the machine: is its disk full?"),
        "not_yours": (Forbidden, f"process {about} there may not be ended", "ask who runs that machine"),
    }
    error, means, hint = known.get(kind, (Unavailable, f"{kind} {about}", "look at the machine"))
    return error(f"{host}: {means}", hint=hint, kind=kind)


def check_version(worker: RemoteWorker, answer: ScriptReply) -> str:
    """Return the version of the Torc over there. Raises Conflict where it is not that of this one."""
    said = answer.get("version") or ""
    found = _VERSION.fullmatch(said.strip())
    if found is None:
        raise NotFound(
            f"{worker.host}: {_shown(answer, 'program')} is no Torc: it says `{ssh_errors.printable(said)[:200]}`",
            hint="name the program: --torc PATH",
            kind="no_torc",
        )
    if found[1].split(".")[:2] != __version__.split(".")[:2]:
        raise Conflict(
            f"{worker.host}: Torc has version {found[1]} there and {__version__} here",
            hint="install the same version, or name another program: --torc PATH",
            kind="other_version",
        )
    return found[1]


def check_same_workflow(worker: RemoteWorker, answer: ScriptReply, workflow: Workflow, store: StoreAddress) -> None:
    """See whether the Torc over there finds this very workflow. Raises Unavailable or Invalid."""
    text = answer.rest.decode(errors="replace")
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        found = {}
    if found.get("id") == workflow.id:
        if found.get("created_at") == workflow.created_at and found.get("name") == workflow.name:
            return
        raise Invalid(
            f"{worker.host}: {store.name} leads to another store from there: its workflow {workflow.id} is not this one",
            hint="name the server as that machine reaches it: torc remote run --server-url URL",
            kind="other_store",
        )
    error = found.get("error") if isinstance(found.get("error"), dict) else {}
    said = str(error.get("message") or ssh_errors.last_line(text) or "nothing")
    for secret in store.variables.values():
        said = said.replace(secret, store.name)
    raise Unavailable(
        f"{worker.host}: {store.name} does not answer from there: {ssh_errors.printable(said)[:500]}",
        hint="name the server as that machine reaches it: --server-url URL; one on 127.0.0.1 is reached from its machine only",
        kind="no_store",
    )
