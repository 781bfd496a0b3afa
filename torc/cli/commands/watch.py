"""`torc watch`: follow a workflow to its end and, when asked, recover it and go on, in the background too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from torc.api.base import Torc
from torc.api.events import ListEvents
from torc.api.workflows import GetWorkflow
from torc.cli import rendering
from torc.cli.cluster_watch import (
    Automatic,
    AutoSchedule,
    Cooldown,
    StrandedTimeout,
    Threshold,
    hands_on_cluster,
    is_on_cluster,
)
from torc.cli.commands.recover import run_hook, show_left
from torc.cli.commands.run import OutputDir, options_for, output_folder, summarize
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.options.amounts import seconds
from torc.cli.options.groups import grouped
from torc.cli.options.recovery import BudgetOptions, Choice, CorrectionOptions, Hook, Reason, fields_of, given
from torc.cli.session import SESSION
from torc.errors import Conflict, Forbidden, Invalid, NotFound, TorcError, Unavailable

_WAIT_SECONDS = 2.0
#: how long a watch in the background may take to begin, and to end
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
#: tells a watch that it is the one in the background
_DETACHED = "TORC_WATCH_DETACHED"
_STOPPED = 130


@grouped
def watch(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: Which = None,
    recover: Annotated[
        bool,
        typer.Option(
            "--recover", help="Recover from failures and continue, until the workflow is done or the budget is spent."
        ),
    ] = False,
    budget: BudgetOptions = BudgetOptions(),
    corrections: CorrectionOptions = CorrectionOptions(),
    choice: Choice = Choice(),
    recovery_hook: Hook = None,
    reason: Reason = None,
    poll_interval: Annotated[
        str, typer.Option("--poll-interval", help="How often to check if nothing has been reported, such as 30s.")
    ] = "10s",
    auto_schedule: Automatic = False,
    auto_schedule_threshold: Threshold = 5,
    auto_schedule_cooldown: Cooldown = "30m",
    auto_schedule_stranded_timeout: StrandedTimeout = "2h",
    output_dir: OutputDir = None,
    background: Annotated[
        bool, typer.Option("--background", help="Run in the background, even after the terminal is closed.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the watch of this workflow, and stop its running jobs.")
    ] = False,
) -> None:
    """Follow a workflow until it ends, and exit with the same code as `torc run`; with --recover, recover from failures.

    Example: torc watch 3 --recover --max-retries 5 --max-node-hours 20 --background
    """
    folder = output_folder(output_dir)
    pause = max(0.1, seconds(poll_interval, "--poll-interval"))
    if not recover:
        more = {"--background": background, "--auto-schedule": auto_schedule, "--recovery-hook": recovery_hook}
        _refuse_to_look_on([*(name for name, value in more.items() if value), *given(budget, corrections, choice)])
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        if stop:
            _stop(folder, number)
            return
        if not recover:
            raise typer.Exit(_follow(opened, number, folder))
        policy = _policy(reason=reason, **fields_of(choice, corrections, budget))
        added = AutoSchedule(auto_schedule_threshold, auto_schedule_cooldown, auto_schedule_stranded_timeout)
        how = _How(policy, recovery_hook, pause, added if auto_schedule else None)
        if background and not os.environ.pop(_DETACHED, None):
            _detach(folder, number)
            return
        raise typer.Exit(_recover(opened, number, folder, how, is_alone=background))


def _refuse_to_look_on(options: list[str]) -> None:
    if options:
        raise Invalid(
            f"{' and '.join(options)} {'needs' if len(options) == 1 else 'need'} --recover: without it, a watch only looks on",
            hint=f"torc watch ID --recover {options[0]} ...",
        )


# -- following --------------------------------------------------------------------------------------------------


def _follow(opened: Torc, number: int, folder: Path) -> int:
    if is_on_cluster(opened, number):
        from torc.cli.follower import follow

        return follow(opened, number, folder)
    last = opened.send(ListEvents(workflow_id=number, newest_first=True, limit=1)).items
    after = last[0].id if last else 0
    shown = None
    while True:
        found = opened.send(GetWorkflow(workflow_id=number))
        line = _line(found)
        if line != shown:
            print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr)
            shown = line
        if found.state != "running":
            break
        page = opened.send(ListEvents(workflow_id=number, after=after, wait_seconds=_WAIT_SECONDS, limit=10_000))
        after = page.items[-1].id if page.items else after
    return summarize(opened, number, folder)


def _line(workflow: Any) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(workflow.counts.by_state.items()))
    return f"{workflow.name} {workflow.state}: {counts}"


# -- recovering -------------------------------------------------------------------------------------------------


def _policy(**fields: Any) -> Any:
    from torc.api.recovery import RecoverWorkflow
    from torc.automation.executor import NodeLimits
    from torc.automation.policy import RecoveryPolicy
    from torc.cli.named_objects import checked

    policy = RecoveryPolicy(**fields)
    # said now what would be refused in the middle of a night
    checked(RecoverWorkflow, workflow_id=1, **fields)
    policy.request(1, NodeLimits())
    return policy


class _How(NamedTuple):
    """How to recover."""

    policy: Any
    hook: str | None
    seconds: float
    auto_schedule: AutoSchedule | None


def _recover(opened: Torc, number: int, folder: Path, how: _How, *, is_alone: bool) -> int:
    from torc.automation import lock, log_file
    from torc.automation.watch import WorkflowWatch

    quiet = is_alone or SESSION.json
    with lock.held(folder, number), log_file.kept(folder, number, None if quiet else sys.stderr), _stoppable():
        try:
            hands = _hands(opened, number, folder, how.auto_schedule, quiet=quiet)
            watched = WorkflowWatch(
                opened,
                number,
                how.policy,
                hands,
                _hook(how.hook, number, folder),
                how.seconds,
            ).run()
        except KeyboardInterrupt:
            _log("stopped")
            print(f"stopped; continue with: torc watch {number} --recover", file=sys.stderr)
            return _STOPPED
        except TorcError as error:
            _log(f"ends: {error}")
            raise
        code = summarize(opened, number, folder, stopped=watched.ending == "stopped")
        if watched.last is not None and watched.ending == "left" and not SESSION.json:
            print()
            show_left(watched.last, "were left")
        return code


def _hands(opened: Torc, number: int, folder: Path, auto_schedule: AutoSchedule | None, *, quiet: bool) -> Any:
    """Return what gets work going: allocations, where the workflow has or asks for some, else this machine."""
    from torc.automation.local_executor import LocalExecutor
    from torc.cli.live_display import display

    if is_on_cluster(opened, number):
        return hands_on_cluster(opened, number, folder, auto_schedule)
    options = options_for(opened, folder)
    return LocalExecutor(
        opened, options, lambda workflow: display(opened, workflow, quiet=quiet or not sys.stderr.isatty())
    )


def _hook(command: str | None, number: int, folder: Path) -> Any:
    if command is None:
        return lambda proposal: None
    return lambda proposal: run_hook(command, number, folder, proposal)


def _stoppable() -> Any:
    """Have SIGTERM end a watch as Ctrl-C does; a runner takes both itself while it works."""
    from contextlib import contextmanager

    @contextmanager
    def within() -> Any:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    return within()


def _log(line: str) -> None:
    import logging

    logging.getLogger("torc.automation").info("%s", line)


# -- in the background ------------------------------------------------------------------------------------------


def _detach(folder: Path, number: int) -> None:
    """Begin the same watch in a session of its own, and tell where it is. Raises what it ended with, if it does at once."""
    from torc.automation import lock, log_file
    from torc.files import make_folder, open_log

    who = lock.holder(folder, number)
    if who is not None:
        raise Conflict(
            f"workflow {number} is already being watched by process {who.pid} on {who.host}",
            hint=f"stop it with: torc watch {number} --stop",
        )
    path = log_file.path_of(folder, number)
    try:
        make_folder(folder)
        began = path.stat().st_size if path.exists() else 0
        child = _begin(path)
    except OSError as error:
        raise Unavailable(
            f"cannot begin a watch with the output directory {folder}: {error.strerror}",
            hint="choose another one with --output-dir, or free some space",
        ) from None
    end = time.monotonic() + _PATIENCE_SECONDS
    while (who := lock.holder(folder, number)) is None or who.pid != child.pid:
        if child.poll() is not None:
            with open_log(path) as file:
                file.seek(began)
                said = file.read().decode(errors="replace").strip()
            if child.returncode:
                raise Unavailable(f"the watch ended at once with {child.returncode}: {said}", hint=f"its log is {path}")
            break
        if time.monotonic() > end:
            raise Unavailable(f"the watch (process {child.pid}) has not begun yet", hint=f"look into {path}")
        time.sleep(_LOOK_SECONDS)
    told = {"workflow_id": number, "pid": child.pid, "log": str(path)}
    if SESSION.json:
        rendering.show_json(told)
    else:
        print(f"watching workflow {number} in the background: process {child.pid}, log {path}")
        rendering.note(f"end it with: torc watch {number} --stop")


def _begin(log: Path) -> subprocess.Popen[bytes]:
    from torc.files import open_to_append
    from torc.program import own_program

    url, db = SESSION.settings.place()  # what they name may hold a password: not for the list of processes
    place = {"TORC_API_URL": url} if url else {"TORC_DB": db} if db else {}
    with open(open_to_append(log), "ab") as said:
        return subprocess.Popen(
            [*own_program(), *_without_place(sys.argv[1:])],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env={**os.environ, **place, _DETACHED: "1"},
        )


def _without_place(arguments: list[str]) -> list[str]:
    """Leave out --url and --db: they are handed on by the environment."""
    kept: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, _ = argument.partition("=")
        if name not in {"--url", "--db"}:
            kept.append(argument)
        elif not equals:
            next(waiting, None)
    return kept


def _stop(folder: Path, number: int) -> None:
    from socket import gethostname

    from torc.automation import lock

    who = lock.holder(folder, number)
    if who is None:
        raise NotFound(
            f"nobody watches workflow {number} with the output directory {folder}", hint="name it with --output-dir"
        )
    if who.host != gethostname():
        raise Conflict(
            f"workflow {number} is being watched on {who.host}, by process {who.pid}",
            hint=f"end it there: ssh {who.host}",
        )
    try:
        if who.is_alive:
            os.kill(who.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended by itself meanwhile
    except PermissionError:
        raise Forbidden(
            f"the watch of workflow {number} is somebody else's process, {who.pid}", hint="ask them to end it"
        ) from None
    end = time.monotonic() + _PATIENCE_SECONDS
    while (still := lock.holder(folder, number)) is not None and still.pid == who.pid:
        if time.monotonic() > end:
            raise Unavailable(
                f"process {who.pid} has not ended yet", hint="jobs may be saving their work; look again later"
            )
        time.sleep(_LOOK_SECONDS)
    print(f"the watch of workflow {number} (process {who.pid}) has ended")
