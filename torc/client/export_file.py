"""Writes a workflow to a portable file, and imports one into a store. The format is in `torc.api.export_format`."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import IO, BinaryIO

from torc.api.base import Torc
from torc.api.export_format import trailer
from torc.api.transfer import ExportWorkflow, ImportWorkflow
from torc.api.workflows import Workflow
from torc.errors import Conflict, Invalid, NotFound, Unavailable
from torc.files import whole_file

_TRIES = 3
_LEVEL = 6
_MOST_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20


def write_export(torc: Torc, workflow_id: int, output: Path | BinaryIO) -> int:
    """Write a workflow to a file that only its owner can read, completely or not at all; return the number of rows.

    Raises Conflict when it changes all the time, Invalid or Unavailable when the file cannot be written.
    """
    if isinstance(output, Path):
        with whole_file(output, 0o600) as file:
            return _write(torc, workflow_id, file)
    try:
        with tempfile.TemporaryFile() as file:
            rows = _write(torc, workflow_id, file)
            file.seek(0)
            shutil.copyfileobj(file, output, _BLOCK_BYTES)
            output.flush()
            return rows
    except BrokenPipeError:  # the reader has seen enough
        raise
    except OSError as error:
        raise Unavailable(f"cannot write standard output: {error.strerror}", hint="check its disk") from None


def _write(torc: Torc, workflow_id: int, file: IO[bytes]) -> int:
    for _ in range(_TRIES):
        file.seek(0)
        file.truncate()
        rows = _write_once(torc, workflow_id, file)
        if rows is not None:
            return rows
    raise Conflict(
        f"workflow {workflow_id} changes while it is being written",
        hint="wait until its runners have ended, or stop them first",
    )


def _write_once(torc: Torc, workflow_id: int, file: IO[bytes]) -> int | None:
    """Write all pages; return None if the workflow changed between two of them."""
    mark, cursor, rows, digest = None, None, 0, hashlib.sha256()
    # no name and no time in the gzip header: exporting the same workflow again differs only in the time of export
    with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
        while True:
            page = torc.send(ExportWorkflow(workflow_id=workflow_id, cursor=cursor))
            if mark not in {None, page.mark}:
                return None
            block = "".join(line + "\n" for line in page.lines).encode()
            packed.write(block)
            digest.update(block)
            mark, cursor, rows = page.mark, page.cursor, rows + page.num_rows
            if cursor is None:
                packed.write((trailer(rows, digest.hexdigest()) + "\n").encode())
                return rows


def send_import(
    torc: Torc, content: bytes, *, name: str | None = None, directory: str | None = None, dry_run: bool = False
) -> Workflow:
    """Import the bytes of a file into a store. Raises Invalid, with the line, if it is damaged."""
    return torc.send(
        ImportWorkflow(content=base64.b64encode(content).decode(), name=name, directory=directory, dry_run=dry_run)
    )


def read_file(path: Path | BinaryIO) -> bytes:
    """Read an exported file. Raises Invalid or NotFound."""
    try:
        with path.open("rb") if isinstance(path, Path) else contextlib.nullcontext(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint="use a file written by `torc workflows export`") from None
    except OSError as error:
        raise Invalid(
            f"cannot read {path}: {error.strerror}", hint="use a file written by `torc workflows export`"
        ) from None
    if len(content) > _MOST_BYTES:
        raise Invalid("the file is larger than any workflow", hint="use a file written by `torc workflows export`")
    return content
