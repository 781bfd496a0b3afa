"""`torc recover`: diagnose what failed, show what would help, do it, and go on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated, Any

import typer

from torc.api.recovery import RecoverWorkflow
from torc.cli import render
from torc.cli.run import output_folder, run_stored
from torc.cli.session import SESSION, torc, workflow_id
from torc.cli.status import Which
from torc.cli.users import checked
from torc.core.quantities import human_duration
from torc.errors import Conflict

_PROPOSALS = [
    ("jobs", render.attribute("num_jobs")),
    ("why", render.attribute("category")),
    ("class", render.attribute("requirement")),
    ("memory", lambda p: _change(render.memory(p.memory_bytes), render.memory(p.new_memory_bytes))),
    ("time", lambda p: _change(human_duration(p.runtime_seconds), human_duration(p.new_runtime_seconds))),
    ("because", render.attribute("reason")),
]
_LEFT = [
    ("jobs", render.attribute("num_jobs")),
    ("why", render.attribute("category")),
    ("such as", lambda left: left.job_ids[0]),
    ("left", render.attribute("reason")),
]


def _change(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"


def recover(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: Which = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    memory_multiplier: Annotated[
        float, typer.Option("--memory-multiplier", min=1.0, help="Times what was used, or asked for.")
    ] = 1.5,
    runtime_multiplier: Annotated[
        float, typer.Option("--runtime-multiplier", min=1.0, help="Likewise, of time.")
    ] = 1.4,
    retry_unknown: Annotated[
        bool, typer.Option("--retry-unknown", help="Also jobs of which nothing says why they failed.")
    ] = False,
    retry: Annotated[
        list[str] | None, typer.Option("--retry", metavar="CATEGORY", help="Also those of this category; repeat.")
    ] = None,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", min=1, help="Leave jobs that were tried so often.")
    ] = 10,
    recovery_hook: Annotated[
        str | None, typer.Option("--recovery-hook", help="A command to run before: its failure stops the recovery.")
    ] = None,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Make them due again, and leave running them to others.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Give jobs that ran out of memory or time more of it, and run them again with those that a retry helps.

    Example: torc recover 12 --dry-run
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        fields = {
            "workflow_id": number, "memory_multiplier": memory_multiplier, "runtime_multiplier": runtime_multiplier,
            "retry_unknown": retry_unknown, "retry": retry or [], "max_attempts": max_attempts,
        }  # fmt: skip
        request = checked(RecoverWorkflow, **fields)
        if not dry_run:
            _find_orphans(opened, number)
        found = opened.send(request.model_copy(update={"dry_run": True}))
        if dry_run or not found.num_retried:
            _show(found)
            if not dry_run and not SESSION.json:
                render.note(
                    "there is nothing to recover"
                    if not found.num_left
                    else "nothing of this would be helped by a retry"
                )
            return
        if not SESSION.json:
            _show(found)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"run {found.num_retried} job(s) again?", abort=True, err=True)
        if recovery_hook is not None:
            _run_hook(recovery_hook, number)
        done = opened.send(request.model_copy(update={"mark": found.mark}))
        if no_run:
            if SESSION.json:
                render.show_json(done)
            render.note(f"{done.num_retried} job(s) are due again: torc run {number}")
            return
        raise typer.Exit(run_stored(opened, number))


def _find_orphans(opened: Any, number: int) -> None:
    """Give up runners of this machine that died, so that what they ran is known to have failed."""
    from torc.runner import hardware, orphans

    dead = orphans.give_up_dead_runners(opened, number, hardware.identity(), output_folder())
    if dead:
        render.note(f"note: {len(dead)} runner(s) of this machine had died")


def _run_hook(command: str, number: int) -> None:
    """Run what the user wants to be run before. Raises Conflict when it fails."""
    environ = {**os.environ, "TORC_WORKFLOW_ID": str(number)}
    code = subprocess.run(["/bin/sh", "-c", command], env=environ, stdout=sys.stderr, check=False).returncode
    if code != 0:
        raise Conflict(f"the recovery hook ended with {code}", hint="nothing was changed; mend it, or leave it out")


def _show(found: Any) -> None:
    if SESSION.json:
        render.show_json(found)
        return
    if found.proposals:
        print(f"{found.num_retried} job(s) would run again:")
        render.show_list(found.proposals, _PROPOSALS)
    if found.left:
        print(f"{found.num_left} job(s) would stay as they are:")
        render.show_list(found.left, _LEFT)
