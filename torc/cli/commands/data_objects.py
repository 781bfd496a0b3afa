"""`torc files`, `user-data` and `resource-requirements`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc.api import data as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import json_value
from torc.cli.options.amounts import memory_bytes, seconds
from torc.cli.session import SESSION, torc, workflow_id
from torc.units import human_duration

files = App("Files that jobs read and write.")
user_data = App("JSON that jobs pass on.")
requirements = App("Classes of resources that jobs ask for.")

Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Id or name of the workflow.")]
Name = Annotated[str, typer.Option("--name", help="Unique within the workflow.")]
OnlyName = Annotated[str | None, typer.Option("--name", help="Only these; * and ? stand for anything.")]
Limit = Annotated[int, typer.Option("--limit", min=1)]
_FILES = rendering.columns("id", "name", "path", "producer")
_DATA = rendering.columns("id", "name", "data", "is_ephemeral", "producer")
_REQUIREMENTS = [
    *rendering.columns("id", "name", "num_cpus", "num_gpus", "num_nodes"),
    ("memory", lambda r: rendering.memory(r.memory_bytes)),
    ("runtime", lambda r: human_duration(r.runtime_seconds)),
]


def listed(make: Any, workflow: str | None, limit: int, columns: Any) -> None:
    """Ask page by page and print. `make` takes the workflow's id, a limit and a cursor."""
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items, more = rendering.all_pages(lambda cursor: opened.send(make(number, min(limit, 10_000), cursor)), limit)
    rendering.show_list(items, columns, more=more)


def asked(request: Any, columns: Any) -> None:
    """Ask for one thing and print it."""
    with torc(create=False) as opened:
        rendering.show_one(opened.send(request), columns)


def created(make: Any, workflow: str, columns: Any) -> None:
    """Make one thing and print it. `make` takes the workflow's id."""
    with torc(create=False) as opened:
        rendering.show_one(opened.send(make(workflow_id(opened, workflow))), columns)


def deleted(request: Any, what: str) -> None:
    """Delete one thing and say so."""
    with torc(create=False) as opened:
        opened.send(request)
    rendering.show_json({"deleted": what}) if SESSION.json else print(f"deleted {what}")


@files.command("list")
def list_files(workflow: Which = None, name: OnlyName = None, limit: Limit = 1000) -> None:
    """List the files of a workflow.

    Example: torc files list 3
    """
    listed(lambda w, n, c: api.ListFiles(workflow_id=w, name=name, limit=n, cursor=c), workflow, limit, _FILES)


@files.command("list-required-existing")
def list_required_existing(workflow: Which = None, limit: Limit = 1000) -> None:
    """List files that must be there before the workflow starts: read by jobs, and written by none.

    Example: torc files list-required-existing 3
    """
    listed(
        lambda w, n, c: api.ListFiles(workflow_id=w, required_existing=True, limit=n, cursor=c), workflow, limit, _FILES
    )


@files.command("get")
def get_file(file_id: int) -> None:
    """Show one file.

    Example: torc files get 5
    """
    asked(api.GetFile(file_id=file_id), [*_FILES, *rendering.columns("num_consumers")])


@files.command("create")
def create_file(workflow: Workflow, name: Name, path: Annotated[str, typer.Option("--path")]) -> None:
    """Add a file.

    Example: torc files create 3 --name table --path out/table.csv
    """
    created(lambda w: api.CreateFile(workflow_id=w, name=name, path=path), workflow, _FILES)


@files.command("update")
def update_file(file_id: int, path: Annotated[str, typer.Option("--path")]) -> None:
    """Change a file's path.

    Example: torc files update 5 --path out/table.tsv
    """
    asked(api.UpdateFile(file_id=file_id, path=path), _FILES)


@files.command("delete")
def delete_file(file_id: int) -> None:
    """Delete a file that no job reads or writes; the file on disk stays.

    Example: torc files delete 5
    """
    deleted(api.DeleteFile(file_id=file_id), f"file {file_id}")


@user_data.command("list")
def list_user_data(workflow: Which = None, name: OnlyName = None, limit: Limit = 1000) -> None:
    """List the user data of a workflow.

    Example: torc user-data list 3
    """
    listed(lambda w, n, c: api.ListUserData(workflow_id=w, name=name, limit=n, cursor=c), workflow, limit, _DATA)


@user_data.command("get")
def get_user_data(user_data_id: int) -> None:
    """Show one piece of user data.

    Example: torc user-data get 4 -f json
    """
    asked(api.GetUserData(user_data_id=user_data_id), _DATA)


@user_data.command("create")
def create_user_data(
    workflow: Workflow,
    name: Name,
    data: Annotated[str, typer.Option("--data", help="JSON.")] = "null",
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Forget it when the workflow is reset.")] = False,
) -> None:
    """Add user data.

    Example: torc user-data create 3 --name limits --data '{"low": 1}'
    """
    value = json_value(data, "--data")
    created(lambda w: api.CreateUserData(workflow_id=w, name=name, data=value, is_ephemeral=ephemeral), workflow, _DATA)


@user_data.command("update")
def update_user_data(user_data_id: int, data: Annotated[str, typer.Option("--data", help="JSON.")]) -> None:
    """Write user data. Jobs do this to pass something on.

    Example: torc user-data update 4 --data '{"best": 0.1}'
    """
    asked(api.SetUserData(user_data_id=user_data_id, data=json_value(data, "--data")), _DATA)


@user_data.command("delete")
def delete_user_data(user_data_id: int) -> None:
    """Delete user data that no job reads or writes.

    Example: torc user-data delete 4
    """
    deleted(api.DeleteUserData(user_data_id=user_data_id), f"user data {user_data_id}")


@requirements.command("list")
def list_requirements(workflow: Which = None, name: OnlyName = None, limit: Limit = 1000) -> None:
    """List the requirement classes of a workflow.

    Example: torc resource-requirements list 3
    """
    listed(
        lambda w, n, c: api.ListRequirements(workflow_id=w, name=name, limit=n, cursor=c),
        workflow,
        limit,
        _REQUIREMENTS,
    )


@requirements.command("get")
def get_requirement(requirement_id: int) -> None:
    """Show one requirement class.

    Example: torc resource-requirements get 2
    """
    asked(api.GetRequirement(requirement_id=requirement_id), [*_REQUIREMENTS, *rendering.columns("num_jobs")])


@requirements.command("create")
def create_requirement(
    workflow: Workflow,
    name: Name,
    num_cpus: Annotated[int, typer.Option("--num-cpus", min=1)] = 1,
    num_gpus: Annotated[int, typer.Option("--num-gpus", min=0)] = 0,
    num_nodes: Annotated[int, typer.Option("--num-nodes", min=1)] = 1,
    memory: Annotated[str, typer.Option("--memory")] = "1m",
    runtime: Annotated[str, typer.Option("--runtime")] = "PT1H",
) -> None:
    """Add a requirement class.

    Example: torc resource-requirements create 3 --name large --num-cpus 8 --memory 32g
    """
    created(
        lambda w: api.CreateRequirement(
            workflow_id=w,
            name=name,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            num_nodes=num_nodes,
            memory_bytes=memory_bytes(memory, "--memory") or 1,
            runtime_seconds=seconds(runtime, "--runtime") or 1,
        ),
        workflow,
        _REQUIREMENTS,
    )


@requirements.command("update")
def update_requirement(
    requirement_id: int,
    num_cpus: Annotated[int | None, typer.Option("--num-cpus", min=1)] = None,
    num_gpus: Annotated[int | None, typer.Option("--num-gpus", min=0)] = None,
    num_nodes: Annotated[int | None, typer.Option("--num-nodes", min=1)] = None,
    memory: Annotated[str | None, typer.Option("--memory")] = None,
    runtime: Annotated[str | None, typer.Option("--runtime")] = None,
) -> None:
    """Change a requirement class for all jobs that use it.

    Example: torc resource-requirements update 2 --memory 4g
    """
    request = api.UpdateRequirement(
        requirement_id=requirement_id,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        num_nodes=num_nodes,
        memory_bytes=memory_bytes(memory, "--memory"),
        runtime_seconds=seconds(runtime, "--runtime"),
    )
    asked(request, _REQUIREMENTS)


@requirements.command("delete")
def delete_requirement(requirement_id: int) -> None:
    """Delete a requirement class that no job uses.

    Example: torc resource-requirements delete 2
    """
    deleted(api.DeleteRequirement(requirement_id=requirement_id), f"resource requirement {requirement_id}")
