"""`torc files`: the files that jobs read and write."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api import data as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.named_objects import Limit, Name, OnlyName, Workflow, asked, created, deleted, listed

files = App("Files that jobs read and write.")
_COLUMNS = rendering.columns("id", "name", "path", "producer")


@files.command("list")
def list_files(workflow: Which = None, name: OnlyName = None, limit: Limit = 1000) -> None:
    """List the files of a workflow.

    Example: torc files list 3
    """
    listed(lambda w, n, c: api.ListFiles(workflow_id=w, name=name, limit=n, cursor=c), workflow, limit, _COLUMNS)


@files.command("list-required-existing")
def list_required_existing(workflow: Which = None, limit: Limit = 1000) -> None:
    """List the files that must exist before the workflow starts: those that jobs read and no job writes.

    Example: torc files list-required-existing 3
    """
    listed(
        lambda w, n, c: api.ListFiles(workflow_id=w, required_existing=True, limit=n, cursor=c),
        workflow,
        limit,
        _COLUMNS,
    )


@files.command("get")
def get_file(file_id: int) -> None:
    """Show one file.

    Example: torc files get 5
    """
    asked(api.GetFile(file_id=file_id), [*_COLUMNS, *rendering.columns("num_consumers")])


@files.command("create")
def create_file(workflow: Workflow, name: Name, path: Annotated[str, typer.Option("--path")]) -> None:
    """Add a file.

    Example: torc files create 3 --name table --path out/table.csv
    """
    created(lambda w: api.CreateFile(workflow_id=w, name=name, path=path), workflow, _COLUMNS)


@files.command("update")
def update_file(file_id: int, path: Annotated[str, typer.Option("--path")]) -> None:
    """Change a file's path.

    Example: torc files update 5 --path out/table.tsv
    """
    asked(api.UpdateFile(file_id=file_id, path=path), _COLUMNS)


@files.command("delete")
def delete_file(file_id: int) -> None:
    """Delete a file that no job reads or writes. The file on disk is kept.

    Example: torc files delete 5
    """
    deleted(api.DeleteFile(file_id=file_id), f"file {file_id}")
