"""`torc recover`: diagnose what failed, show what would help, do it, and go on. What `torc watch --recover` shares with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.api.recovery import RecoverWorkflow
from torc.cli import rendering
from torc.cli.commands.run import OutputDir, output_folder, run_stored
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.named_objects import checked
from torc.cli.options.groups import grouped
from torc.cli.options.recovery import BudgetOptions, Choice, CorrectionOptions, Hook, Reason, fields_of
from torc.cli.session import SESSION
from torc.cli.terminal import confirmed
from torc.errors import Conflict
from torc.units import human_duration

_PROPOSALS = [
    ("group", rendering.attribute("key")),
    ("jobs", lambda p: f"{p.num_jobs} + {p.num_behind} behind" if p.num_behind else str(p.num_jobs)),
    ("memory", lambda p: _change(rendering.memory(p.memory_bytes), rendering.memory(p.new_memory_bytes))),
    ("time", lambda p: _change(human_duration(p.runtime_seconds), human_duration(p.new_runtime_seconds))),
    ("node-hours", lambda p: f"{p.cost_node_hours:.3g}"),
    ("because", rendering.attribute("reason")),
]
_LEFT = [
    ("jobs", rendering.attribute("num_jobs")),
    ("why", rendering.attribute("category")),
    ("such as", lambda left: left.job_ids[0]),
    ("left", rendering.attribute("reason")),
]


def _change(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"


@grouped
def recover(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: Which = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, but change nothing.")] = False,
    choice: Choice = Choice(),
    corrections: CorrectionOptions = CorrectionOptions(),
    budget: BudgetOptions = BudgetOptions(),
    recovery_hook: Hook = None,
    reason: Reason = None,
    output_dir: OutputDir = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Reset the jobs, but do not run them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Rerun failed jobs that a retry can help, with more memory or time for those that ran out of it.

    On a terminal, Torc asks about each group.

    Example: torc recover 12 --dry-run
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        request = checked(RecoverWorkflow, workflow_id=number, reason=reason, **fields_of(choice, corrections, budget))
        if not dry_run:
            _find_orphans(opened, number, output_folder(output_dir))
        found = opened.send(request.model_copy(update={"dry_run": True}))
        if dry_run or not found.num_retried:
            _show(found)
            if choice.only and not found.proposals:
                names = ", ".join(choice.only)
                rendering.note(
                    f"--only {names}: no group that could be recovered is named so; without it, all are shown"
                )
            if not found.num_retried and not SESSION.json:
                rendering.note(
                    "there is nothing to recover" if not found.num_left else "nothing is run again: the table says why"
                )
            return
        if not SESSION.json:
            _show(found)
        if not yes and sys.stdin.isatty():
            request = request.model_copy(update={"only": _accepted(found), "skip": []})
        if recovery_hook is not None:
            run_hook(recovery_hook, number, output_folder(output_dir), found)
        done = opened.send(request.model_copy(update={"mark": found.mark}))
        if no_run:
            if SESSION.json:
                rendering.show_json(done)
            rendering.note(f"{done.num_retried} job(s) will run again: torc run {number}")
            return
        raise typer.Exit(run_stored(opened, number, output_dir))


def _accepted(found: Any) -> list[str]:
    """Ask about each group; returns the keys of those that are wanted."""
    keys = []
    for group in found.proposals:
        asked = f"run {group.num_jobs} job(s) of {group.key} again, for about {group.cost_node_hours:.3g} node-hours?"
        if confirmed(asked, default=True):
            keys.append(group.key)
    if not keys:
        raise typer.Abort
    return keys


def _find_orphans(opened: Torc, number: int, folder: Path) -> None:
    """Give up runners of this machine that died, so that what they ran is known to have failed."""
    from torc.runner import dead_runners, hardware

    dead = dead_runners.give_up_dead_runners(opened, number, hardware.identity(), folder)
    if dead:
        rendering.note(f"note: {len(dead)} runner(s) of this machine had died")


def run_hook(command: str, number: int, folder: Path, proposal: Any) -> None:
    """Run what the user wants to be run before, with the proposal as JSON to read. Raises Conflict when it fails."""
    environ = {**os.environ, "TORC_WORKFLOW_ID": str(number), "TORC_OUTPUT_DIR": str(folder.absolute())}
    from torc.runner import shell

    done = subprocess.run(
        [shell.program(), "-c", command],
        env=environ,
        stdout=sys.stderr,
        check=False,
        text=True,
        input=proposal.model_dump_json(),
    )
    if done.returncode != 0:
        raise Conflict(
            f"the recovery hook ended with {done.returncode}", hint="nothing was changed; mend it, or leave it out"
        )


def _show(found: Any) -> None:
    if SESSION.json:
        rendering.show_json(found)
        return
    if found.proposals:
        print(f"{found.num_retried} job(s) would run again, for about {found.cost_node_hours:.3g} node-hours:")
        rendering.show_list(found.proposals, _PROPOSALS, folds=True)
    show_left(found, "would stay as they are")


def show_left(found: Any, how: str) -> None:
    """Print what is left as it is, and why."""
    if found.left:
        print(f"{found.num_left} job(s) {how}:")
        rendering.show_list(found.left, _LEFT, folds=True)
