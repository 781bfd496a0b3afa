"""`torc submit`: from a workflow to allocations on a Slurm cluster, in one command; and `torc slurm regenerate`, for what is left."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.cli import rendering
from torc.cli.commands.run import OutputDir
from torc.cli.connection import torc, workflow_id
from torc.cli.options.allocation_plans import Account, Planning
from torc.cli.options.groups import grouped
from torc.cli.session import SESSION
from torc.cli.spec_files import looks_like_spec
from torc.schedulers.base import Scheduler

Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="Server for the nodes; default: the one that runs for this directory."
    ),
]
StartServer = Annotated[
    bool, typer.Option("--start-server", help="Start a server that the nodes can reach, if none runs.")
]
NoServer = Annotated[
    bool,
    typer.Option(
        "--no-server", help="Let the nodes open the database file directly; it must be on a shared file system."
    ),
]
Estimate = Annotated[
    bool,
    typer.Option(
        "--estimate/--no-estimate", help="Ask Slurm (sbatch --test-only) whether and when the allocations would start."
    ),
]
NoWatch = Annotated[
    bool, typer.Option("--no-watch", help="Submit and return at once, instead of following the workflow.")
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Submit even if allocations of the workflow are still queued or running.")
]


@grouped
def submit(  # noqa: PLR0913, PLR0917 - options of a command
    spec: Annotated[str, typer.Argument(metavar="SPEC_OR_ID", help="A spec, or the id or name of a stored workflow.")],
    account: Account = None,
    planning: Planning = Planning(),
    server: Server = None,
    start_server: StartServer = False,
    no_server: NoServer = False,
    output_dir: OutputDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the batch scripts, and submit nothing.")
    ] = False,
    estimate: Estimate = True,
    no_watch: NoWatch = False,
    anyway: Anyway = False,
) -> None:
    """Plan allocations for a workflow, submit them to Slurm, and follow the workflow. Exit code 1 if jobs failed.

    A spec with its own schedule_nodes actions is used as it is. Ctrl-C stops following, but not the allocations.

    Example: torc submit sweep.yaml --account climate --dry-run
    """
    from torc.cli.submission import WorkflowSubmission

    given = planning.given(account)
    work = WorkflowSubmission(planning, given, output_dir, with_estimate=estimate, server=server)
    request = None
    if looks_like_spec(spec):
        request = work.look_at_spec(spec, quiet=dry_run)
        if dry_run:
            work.dry_run_spec()
            return
    said = None if dry_run else _server(work.scheduler, server, start_server, no_server)
    with torc(create=request is not None) as opened:
        if request is None:
            number = workflow_id(opened, spec)
            work.look_at_stored(opened, number, anyway=anyway or dry_run)
            if dry_run:
                work.dry_run_stored(opened, number)
                return
            said = said or ""
        else:
            number = opened.send(request).id
        if said and not SESSION.json:
            print(said)
        made = work.submit(opened, number)
        raise typer.Exit(work.follow(opened, number, made, wait=not no_watch))


def _server(scheduler: Scheduler, server: str | None, start: bool, without: bool) -> str:
    from torc.cli.server_for_nodes import choose_server

    return choose_server(server, start, scheduler, without=without)


@grouped
def regenerate(  # noqa: PLR0913, PLR0917
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Id or name of a stored workflow.")],
    account: Account = None,
    planning: Planning = Planning(),
    server: Server = None,
    start_server: StartServer = False,
    no_server: NoServer = False,
    output_dir: OutputDir = None,
    submit_them: Annotated[bool, typer.Option("--submit", help="Submit the allocations, and return.")] = False,
    estimate: Estimate = True,
    anyway: Anyway = False,
) -> None:
    """Plan allocations for the remaining jobs of a workflow, after a recovery or if the time was too short.

    Without --submit, only shows the plan. It replaces the earlier plan; schedulers of the spec stay. `torc submit ID`
    does the same, and follows the workflow.

    Example: torc slurm regenerate 12 --account climate --submit
    """
    from torc.cli.submission import WorkflowSubmission

    given = planning.given(account)
    work = WorkflowSubmission(planning, given, output_dir, with_estimate=estimate, server=server)
    if submit_them:
        rendering.note(_server(work.scheduler, server, start_server, no_server))
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        work.look_at_stored(opened, number, anyway=anyway or not submit_them, replan=True)
        if not submit_them:
            if SESSION.json:  # else it was shown when it was made
                work.show()
            rendering.note(f"nothing was submitted: torc slurm regenerate {number} --submit does")
            return
        made = work.submit(opened, number)
        raise typer.Exit(work.follow(opened, number, made, wait=False))


COMMANDS = {"regenerate": regenerate}
