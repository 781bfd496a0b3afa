"""`torc workflows ...`: list, inspect and change workflows."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from torc.api import workflows as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.diagnosis import diagnose
from torc.cli.commands.export import export, import_
from torc.cli.commands.plan import plan
from torc.cli.commands.run import run
from torc.cli.commands.specs import checked_request, create
from torc.cli.commands.status import Which, status
from torc.cli.commands.submit import submit
from torc.cli.commands.sync_status import sync_status
from torc.cli.commands.utilization import correct_resources
from torc.cli.connection import torc, workflow_id
from torc.cli.options.amounts import seconds
from torc.cli.session import SESSION
from torc.cli.terminal import confirm
from torc.errors import Invalid
from torc.workflow.states import FINISHED, State

app = App("List, inspect and change workflows.")
app.command("create")(create)
app.command("run")(run)
app.command("submit")(submit)
app.command("status")(status)
app.command("execution-plan")(plan)
app.command("correct-resources")(correct_resources)
app.command("diagnose")(diagnose)
app.command("export")(export)
app.command("import")(import_)
app.command("sync-status")(sync_status)

Force = Annotated[bool, typer.Option("--force", help="Even if runners are working on it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, but change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
_LIST = [
    ("id", rendering.attribute("id")),
    ("name", rendering.attribute("name")),
    ("state", rendering.attribute("state")),
    ("jobs", lambda w: w.counts.total),
    ("finished", lambda w: sum(w.counts[state] for state in FINISHED)),
    ("failed", lambda w: w.counts[State.FAILED] + w.counts[State.TERMINATED]),
    ("run", rendering.attribute("run_id")),
    ("user", rendering.attribute("user")),
    ("created", lambda w: rendering.when(w.created_at)),
]


@app.command("list")
def list_(
    name: Annotated[
        str | None, typer.Option("--name", help="Only names that match this pattern, with * and ?.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only workflows of this user.")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Include archived workflows.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 100,
) -> None:
    """List workflows, newest first.

    Example: torc workflows list --name 'sweep*'
    """
    with torc(create=False) as opened:
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                api.ListWorkflows(
                    name=name, user=user, include_archived=archived, limit=min(limit, 10_000), cursor=cursor
                )
            ),
            limit,
        )
    rendering.show_list(items, _LIST, empty="no workflows", more=more)


@app.command()
def get(workflow: Which = None) -> None:
    """Show everything that is stored about the workflow itself.

    Example: torc workflows get 3
    """
    with torc(create=False) as opened:
        found = opened.send(api.GetWorkflow(workflow_id=workflow_id(opened, workflow)))
    fields = [
        *rendering.columns(
            "id", "name", "state", "user", "description", "project", "metadata", "env", "settings", "directory"
        ),
        ("run", rendering.attribute("run_id")),
        ("counts", lambda w: {state.value: count for state, count in w.counts.by_state.items()}),
        ("archived", rendering.attribute("is_archived")),
        *(
            (name, lambda w, key=f"{name}_at": rendering.when(getattr(w, key)))
            for name in ("created", "updated", "started", "ended")
        ),
    ]
    rendering.show_one(found, fields)


@app.command()
def cancel(workflow: Which = None) -> None:
    """Cancel every unfinished job, and the allocations on a cluster. Runners stop their running jobs.

    Example: torc workflows cancel 3
    """
    from torc.cli.allocations import cancel_all

    with torc(create=False) as opened:
        found = opened.send(api.CancelWorkflow(workflow_id=workflow_id(opened, workflow)))
        cancel_all(opened, found.id)
    _say(found, f"canceled workflow {found.id} ({found.name}): {found.counts[State.CANCELED]} jobs canceled")


@app.command()
def delete(workflow: str, force: Force = False, yes: Yes = False) -> None:
    """Delete a workflow and everything stored about it. The files of its jobs are kept.

    Example: torc workflows delete 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        found = opened.send(api.GetWorkflow(workflow_id=number))
        if not yes and sys.stdin.isatty():
            confirm(f"delete workflow {number} ({found.name}) with {found.counts.total} jobs?")
        opened.send(api.DeleteWorkflow(workflow_id=number, force=force))
    _say(found, f"deleted workflow {number} ({found.name})")


@app.command()
def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", help="Delete workflows that have been inactive for this long, such as P30D.")
    ],
    keep: Annotated[
        int, typer.Option("--keep", min=0, help="Keep this many of the newest workflows of each name.")
    ] = 0,
    archived_only: Annotated[bool, typer.Option("--archived-only", help="Only archived workflows.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
    yes: Yes = False,
) -> None:
    """Delete old workflows and everything stored about them. Running and interrupted workflows are kept, and so are the files of jobs.

    Example: torc workflows prune --older-than P30D --keep 3 --dry-run
    """
    age = seconds(older_than, "--older-than")
    request = api.PruneWorkflows(older_than_seconds=age, keep=keep, archived_only=archived_only, dry_run=True)
    with torc(create=False) as opened:
        found = opened.send(request)
        if found and not dry_run:
            if not yes and sys.stdin.isatty():
                confirm(f"delete {len(found)} workflow(s)?")
            shown = [workflow.id for workflow in found]
            found = opened.send(request.model_copy(update={"dry_run": False, "only": shown}))
    columns = [
        *rendering.columns("id", "name", "state"),
        ("last", lambda w: rendering.when(w.ended_at or w.updated_at)),
    ]
    rendering.show_list(found, columns, empty="nothing is that old")
    if found and not SESSION.json:
        rendering.note("nothing was deleted" if dry_run else f"deleted {len(found)} workflow(s)")


@app.command()
def archive(workflow: str, undo: Annotated[bool, typer.Option("--undo", help="Show it again.")] = False) -> None:
    """Hide a workflow from lists and default choices, or show it again.

    Example: torc workflows archive 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        found = opened.send(api.ArchiveWorkflow(workflow_id=number, archived=not undo))
    _say(found, f"{'brought back' if undo else 'archived'} workflow {number} ({found.name})")


@app.command()
def initialize(workflow: Which = None) -> None:
    """Make jobs that were added one by one `blocked` or `ready`.

    Example: torc workflows initialize 3
    """
    with torc(create=False) as opened:
        found = opened.send(api.InitializeWorkflow(workflow_id=workflow_id(opened, workflow)))
    _say(found, f"workflow {found.id}: {found.counts[State.READY]} jobs ready, {found.counts[State.BLOCKED]} blocked")


@app.command("reset-status")
def reset_status(
    workflow: Which = None,
    failed_only: Annotated[
        bool, typer.Option("--failed-only", help="Only unsuccessful jobs, and the jobs that depend on them.")
    ] = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Reset jobs for a new run.

    Example: torc workflows reset-status 3 --failed-only
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        changes = opened.send(
            api.ResetWorkflow(workflow_id=number, failed_only=failed_only, force=force, dry_run=dry_run)
        )
    show_changes(changes, number)


@app.command()
def restart(
    workflow: Which = None,
    failed_only: Annotated[
        bool, typer.Option("--failed-only", help="Only unsuccessful jobs, and the jobs that depend on them.")
    ] = False,
) -> None:
    """Reset jobs, and run the workflow again here.

    Example: torc workflows restart 3 --failed-only
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        opened.send(api.ResetWorkflow(workflow_id=number, failed_only=failed_only))
    run(str(number))


@app.command()
def reinitialize(
    workflow: Which = None,
    spec: Annotated[
        str | None, typer.Option("--spec", help="An edited spec, to which the workflow is changed.")
    ] = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Reset the jobs whose inputs, command, environment or outputs have changed, and everything that depends on them.

    Example: torc workflows reinitialize 3 --dry-run
    """
    from torc.runner.file_status import reinitialize as find_changes

    edited: dict[str, Any] = {}
    if spec is not None:
        made = checked_request(spec)
        edited = {
            "spec": made.spec,
            "format": made.format,
            "name": made.name,
            "spec_files": made.files,
            "directory": made.directory,
            "links": made.links,
        }
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        request = api.ReinitializeWorkflow(workflow_id=number, force=force, dry_run=dry_run, **edited)
        changes = find_changes(opened, request)
    show_changes(changes, number)


def show_changes(changes: Any, number: int) -> None:
    """Print what a reset changed, or would change."""
    if SESSION.json:
        rendering.show_json(changes)
        return
    if not changes.total:
        print(f"workflow {number}: nothing to do")
        return
    rendering.table(
        ["job", "name", "was", "becomes", "why"],
        [
            [str(c.job_id), c.job_name, c.state.value, c.new_state.value if c.new_state else "removed", c.reason]
            for c in changes.changes
        ],
    )
    if changes.total > len(changes.changes):
        print(f"... and {changes.total - len(changes.changes):,} more")
    if not changes.applied:
        print(f"{_jobs(changes.total)} would change; nothing was changed")
    else:
        print(f"{_jobs(changes.total)} changed")
        rendering.note(f"run them with: torc run {number}")


@app.command()
def update(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: str,
    name: Annotated[str | None, typer.Option("--name")] = None,
    description: Annotated[str | None, typer.Option("--description")] = None,
    project: Annotated[str | None, typer.Option("--project")] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", help="A JSON object.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="NAME=VALUE; replaces the whole environment; repeatable.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=JSON, for a workflow field of the spec; repeatable.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Give the workflow to another user; administrators only.")
    ] = None,
) -> None:
    """Change fields of a workflow.

    Example: torc workflows update 3 --description 'second try' --set use_pending_failed=true
    """
    with torc(create=False) as opened:
        found = opened.send(
            api.UpdateWorkflow(
                workflow_id=workflow_id(opened, workflow),
                name=name,
                user=user,
                description=description,
                project=project,
                metadata=json_object(metadata, "--metadata"),
                env=pairs(env, "--env"),
                settings=None
                if setting is None
                else {k: json_value(v, "--set") for k, v in pairs(setting, "--set").items()},  # type: ignore[union-attr]
            )
        )
    _say(found, f"updated workflow {found.id} ({found.name})")


def pairs(items: list[str] | None, option: str) -> dict[str, str] | None:
    """Read NAME=VALUE options. Raises Invalid."""
    if items is None:
        return None
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise Invalid(f"{option}: `{item}` is not NAME=VALUE", hint=f"write {option} NAME=VALUE")
        found[name] = value
    return found


def json_value(text: str, option: str) -> Any:
    """Read JSON; text that is none is taken as a string."""
    try:
        return json.loads(text)
    except ValueError:
        if text[:1] in '{["':
            raise Invalid(f"{option}: this is not JSON: {text[:80]}", hint="quote it for the shell") from None
        return text


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """Read a JSON object. Raises Invalid."""
    if text is None:
        return None
    value = json_value(text, option)
    if not isinstance(value, dict):
        raise Invalid(f"{option}: a JSON object is needed", hint="""write it like '{"key": "value"}'""")
    return value


@app.command("is-complete")
def is_complete(workflow: Which = None) -> None:
    """Check whether a workflow has nothing left to run. Exit code 0 if so, otherwise 1.

    Example: torc workflows is-complete 3
    """
    with torc(create=False) as opened:
        found = opened.send(api.GetWorkflow(workflow_id=workflow_id(opened, workflow)))
    complete = all(state in FINISHED for state in found.counts.by_state)
    if SESSION.json:
        rendering.show_json({"id": found.id, "is_complete": complete, "state": found.state})
    else:
        print("yes" if complete else "no")
    raise typer.Exit(0 if complete else 1)


@app.command()
def check(workflow: Which = None) -> None:
    """Check every invariant of the stored state of a workflow. Exit code 1 if one is violated.

    Example: torc workflows check 3
    """
    with torc(create=False) as opened:
        problems = opened.send(api.CheckWorkflow(workflow_id=workflow_id(opened, workflow)))
    if SESSION.json:
        rendering.show_json(problems)
    elif not problems:
        print("nothing is wrong")
    for problem in () if SESSION.json else problems:
        print(f"broken: {problem.invariant}: {problem.detail}")
    raise typer.Exit(1 if problems else 0)


def _say(value: Any, message: str) -> None:
    if SESSION.json:
        rendering.show_json(value)
    else:
        print(message)


def _jobs(number: int) -> str:
    return f"{number:,} job" + ("" if number == 1 else "s")
