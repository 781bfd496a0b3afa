"""`torc jobs ...`: list, inspect and change jobs; read their logs."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api import jobs as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.diagnosis import explain
from torc.cli.commands.job_logs import logs
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import DryRun, pairs, show_changes
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.spec.plan import JOB_FIELDS
from torc.workflow.states import State

app = App("List, inspect and change jobs; read their logs.")
Ids = Annotated[list[int], typer.Argument(metavar="JOB_ID...", help="Ids of jobs of one workflow.")]
_LIST = [
    *rendering.columns("id", "name", "state", "attempt"),
    ("code", rendering.attribute("return_code")),
    ("class", rendering.attribute("requirement_name")),
    ("started", lambda job: rendering.when(job.started_at)),
    ("why", lambda job: f"retry waits until {rendering.when(job.due_at)}" if job.due_at else job.reason),
    ("command", lambda job: job.command.strip().splitlines()[0] if job.command.strip() else ""),
]
_FIELDS = ("requirement_name", "failure_handler", "scheduler", *(field.name for field in JOB_FIELDS))
app.command("explain")(explain)
app.command("logs")(logs)


@app.command("list")
def list_(
    workflow: Which = None,
    state: Annotated[State | None, typer.Option("--status", "--state", "-s", help="Only jobs in this state.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Only names that match this pattern, with * and ?.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 1000,
) -> None:
    """List the jobs of a workflow.

    Example: torc jobs list 3 --status failed
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                api.ListJobs(workflow_id=number, state=state, name=name, limit=min(limit, 10_000), cursor=cursor)
            ),
            limit,
        )
    rendering.show_list(items, _LIST, empty="no jobs", more=more)


@app.command()
def get(job_id: int) -> None:
    """Show a job with its dependencies and its input and output files.

    Example: torc jobs get 12
    """
    with torc(create=False) as opened:
        job = opened.send(api.GetJob(job_id=job_id))
    fields = [
        *rendering.columns(
            "id",
            "workflow_id",
            "name",
            "state",
            "reason",
            "attempt",
            "return_code",
            *_FIELDS,
            "depends_on",
            "input_files",
            "output_files",
            "input_user_data",
            "output_user_data",
        ),
        ("started", lambda job: rendering.when(job.started_at)),
    ]
    rendering.show_one(job, fields)


@app.command()
def create(  # noqa: PLR0913, PLR0917
    workflow: Annotated[str, typer.Argument(help="Id or name of the workflow.")],
    name: Annotated[str, typer.Option("--name")],
    command: Annotated[str, typer.Option("--command", "-c")],
    depends_on: Annotated[
        list[str] | None, typer.Option("--depends-on", help="Name of a job to wait for; repeatable.")
    ] = None,
    input_file: Annotated[list[str] | None, typer.Option("--input-file", help="Name of a file; repeatable.")] = None,
    output_file: Annotated[list[str] | None, typer.Option("--output-file", help="Name of a file; repeatable.")] = None,
    requirement: Annotated[
        str | None, typer.Option("--resource-requirements", help="Name of a requirement class.")
    ] = None,
    priority: Annotated[int, typer.Option("--priority", min=0)] = 0,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; repeatable.")] = None,
) -> None:
    """Add a job to a stored workflow.

    Example: torc jobs create 3 --name plot --command 'python3 plot.py' --depends-on train
    """
    with torc(create=False) as opened:
        job = opened.send(
            api.CreateJob(
                workflow_id=workflow_id(opened, workflow),
                name=name,
                command=command,
                depends_on=depends_on or [],
                input_files=input_file or [],
                output_files=output_file or [],
                requirement=requirement,
                priority=priority,
                env=pairs(env, "--env") or {},
            )
        )
    rendering.show_json(job) if SESSION.json else print(f"created job {job.id} ({job.name}): {job.state}")


@app.command()
def update(
    job_id: int,
    command: Annotated[str | None, typer.Option("--command", "-c")] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=0)] = None,
    requirement: Annotated[
        str | None, typer.Option("--resource-requirements", help="Name of a requirement class.")
    ] = None,
    failure_handler: Annotated[str | None, typer.Option("--failure-handler")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="NAME=VALUE; replaces the job's whole environment; repeatable.")
    ] = None,
) -> None:
    """Change a job that is not running. `torc workflows reinitialize` finds the jobs that must run again.

    Example: torc jobs update 12 --command 'python3 train.py --fast'
    """
    with torc(create=False) as opened:
        job = opened.send(
            api.UpdateJob(
                job_id=job_id,
                command=command,
                priority=priority,
                requirement=requirement,
                failure_handler=failure_handler,
                env=pairs(env, "--env"),
            )
        )
    rendering.show_json(job) if SESSION.json else print(f"updated job {job.id} ({job.name})")


def _act(action: api.JobAction, ids: list[int], dry_run: bool) -> None:
    with torc(create=False) as opened:
        number = opened.send(api.GetJob(job_id=ids[0])).workflow_id
        changes = opened.send(api.ActOnJobs(workflow_id=number, job_ids=ids, action=action, dry_run=dry_run))
    show_changes(changes, number)


@app.command()
def cancel(job_ids: Ids, dry_run: DryRun = False) -> None:
    """Cancel jobs, and with them the jobs that depend on them.

    Example: torc jobs cancel 12 13
    """
    _act("cancel", job_ids, dry_run)


@app.command()
def reset(job_ids: Ids, dry_run: DryRun = False) -> None:
    """Run finished jobs again, but not the jobs that depend on them.

    Example: torc jobs reset 12
    """
    _act("reset", job_ids, dry_run)


@app.command("run-again")
def run_again(job_ids: Ids, dry_run: DryRun = False) -> None:
    """Run jobs again, with everything that depends on them.

    Example: torc jobs run-again 12
    """
    _act("run-again", job_ids, dry_run)


@app.command()
def disable(job_ids: Ids, dry_run: DryRun = False) -> None:
    """Disable jobs. Jobs that depend on them run as if they had completed.

    Example: torc jobs disable 12
    """
    _act("disable", job_ids, dry_run)


@app.command()
def enable(job_ids: Ids, dry_run: DryRun = False) -> None:
    """Enable disabled jobs again.

    Example: torc jobs enable 12
    """
    _act("enable", job_ids, dry_run)
