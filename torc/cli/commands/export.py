"""`torc workflows export` and `import`: a workflow as one file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from torc.api.base import Torc
from torc.api.transfer import ExportSpec
from torc.api.workflows import GetWorkflow
from torc.cli import rendering
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.cli.terminal import BytesOut, print_document
from torc.errors import Conflict, Invalid

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file to write, or - for standard output; default: NAME-ID.torc.gz."),
]


def export(
    workflow: Which = None,
    output: Output = None,
    spec_only: Annotated[
        bool,
        typer.Option(
            "--spec-only", help="Write only a spec that creates the same workflow, without anything that has run."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a workflow, with everything that is stored about it, to one file for `torc workflows import`.

    Example: torc workflows export 12 -o study.torc.gz
    """
    with torc(create=False) as opened:
        found = opened.send(GetWorkflow(workflow_id=workflow_id(opened, workflow)))
        suffix = ".yaml" if spec_only else ".torc.gz"
        path = output or Path(f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', found.name).lstrip('.')[:100]}-{found.id}{suffix}")
        to_stdout = str(path) == "-"
        if not to_stdout and path.exists() and not force:
            raise Conflict(f"{path} already exists", hint="use --force to overwrite it, or name another with -o")
        if to_stdout and not spec_only and sys.stdout.isatty():
            raise Invalid("the file is no text for a terminal", hint="name a file with -o")
        if spec_only:
            rows = _export_spec(opened, found.id, path, to_stdout)
        else:
            from torc.client.export_file import write_export

            rows = write_export(opened, found.id, cast("BinaryIO", BytesOut()) if to_stdout else path)
    if to_stdout:
        return
    if SESSION.json:
        rendering.show_json(
            {"path": str(path), "workflow_id": found.id, "rows": rows, "size_bytes": path.stat().st_size}
        )
    else:
        print(f"wrote workflow {found.id} ({found.name}) to {path}: {rendering.memory(path.stat().st_size)}")


def _export_spec(opened: Torc, number: int, path: Path, to_stdout: bool) -> int:
    from torc.files import write_whole
    from torc.spec.formats import Format, format_to_write

    form = Format.YAML if to_stdout else format_to_write(path)
    found = opened.send(ExportSpec(workflow_id=number, format=form))
    if to_stdout:
        print_document(found.text)
        return 0
    write_whole(path, found.text.encode())
    return 0


def import_(
    file: Annotated[Path, typer.Argument(help="A file from `torc workflows export`, or - for standard input.")],
    name: Annotated[str | None, typer.Option("--name", help="A different name for the workflow.")] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-C", help="The directory in which its jobs run, and to which paths are relative."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, but store nothing.")] = False,
) -> None:
    """Store an exported workflow with its jobs, results and events: all of it, or nothing.

    Before you run it, read what its jobs run, as for any script from somebody else.

    Example: torc workflows import study.torc.gz --directory .
    """
    from torc.client.export_file import read_file, send_import

    content = read_file(sys.stdin.buffer if str(file) == "-" else file)
    where = None if directory is None else str(directory.absolute())
    with torc() as opened:
        made = send_import(opened, content, name=name, directory=where, dry_run=dry_run)
    if SESSION.json:
        rendering.show_json(made)
        return
    if dry_run:
        print(f"the file is whole: workflow {made.name} with {made.counts.total} jobs, {made.state}")
        return
    print(f"imported workflow {made.id} ({made.name}): {made.counts.total} jobs, {made.state}, in {made.directory}")
