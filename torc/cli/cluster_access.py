"""What commands need to reach a cluster for a workflow: how runners on its nodes find the program, the store and their folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.commands.run import output_folder, server_variables
from torc.cli.connection import database_of, server_of
from torc.errors import TorcError, Unavailable
from torc.files import make_folder
from torc.schedulers.base import Scheduler
from torc.schedulers.registry import scheduler, type_of_workflow

#: how `torc` is called on nodes, where that is not as here
_PROGRAM = "TORC_PROGRAM"
#: tokens of runners hold a month; a file that is older than this gets a new one
_RENEWED_SECONDS = 15 * 86_400


def scheduler_for(
    opened: Torc, number: int, output_dir: Path | None = None, *, name: str | None = None, with_token: bool = True
) -> Scheduler:
    """Return the scheduler of a workflow, or the one named. Its runners read the token from a file that only their user can read."""
    from torc.api.workflows import GetWorkflow

    workflow = opened.send(GetWorkflow(workflow_id=number))
    folder = output_folder(output_dir).absolute()
    variables = _place_of(opened)
    if with_token:
        _make(folder)  # the cluster writes into it before any runner is there
    if with_token and (kept := _token_file(opened, number, folder)) is not None:
        variables["TORC_TOKEN_FILE"] = str(kept)
    elif "TORC_TOKEN_FILE" in os.environ:
        variables["TORC_TOKEN_FILE"] = os.environ["TORC_TOKEN_FILE"]
    if ca_file := os.environ.get("TORC_CA_FILE"):
        variables["TORC_CA_FILE"] = str(Path(ca_file).absolute())
    return scheduler(
        name or type_of_workflow(opened, number),
        workflow_id=number,
        program=program(),
        directory=workflow.directory,
        output_dir=str(folder),
        variables=variables,
    )


def take_in_left(opened: Torc, number: int, folder: Path) -> None:
    """Take in what runners could not report and have left in their folder, before they are given up."""
    from torc.runner import dead_runners, hardware

    counted = dead_runners.deliver_left(opened, number, hardware.identity(), folder.absolute())
    if counted:
        rendering.note(f"stored {counted} result(s) that runners could not report earlier")


def program() -> tuple[str, ...]:
    """Return how this program is called on a node: by the same interpreter."""
    from torc.program import own_program

    named = os.environ.get(_PROGRAM)
    return (named,) if named else tuple(own_program())


def _place_of(opened: Torc) -> dict[str, str]:
    server, store = server_of(opened), database_of(opened)
    if server is not None:
        return server_variables(server)
    if store.path is not None:
        return {"TORC_DB": str(Path(store.path).absolute())}
    url = store.engine.url
    if url.password or any("password" in name for name in url.query):
        raise Unavailable(
            "the database is reached with a password, which cannot be put into a batch script",
            hint="start a server that the nodes can reach (torc server start --host ...), and name it with --url",
        )
    return {"TORC_DB": url.render_as_string(hide_password=False)}


def _token_file(opened: Torc, number: int, folder: Path) -> Path | None:
    """Return the file with the token of a workflow's runners; made, unless there is one that still opens the server."""
    from torc.cli.commands.remote import shares_token, token_for_workers
    from torc.client.credentials import write_token

    path = folder / f".torc-token-wf{number}"
    given = os.environ.get("TORC_WORKER_TOKEN")
    if given is None and _is_good(opened, number, path):
        return path
    server = server_of(opened)
    if given is None and server is not None and server.token_file and shares_token(opened):
        return Path(server.token_file).absolute()  # read again when the server restarts
    token = given or token_for_workers(opened, number)
    if token is None:
        return None
    write_token(path, token)
    return path


def _is_good(opened: Torc, number: int, path: Path) -> bool:
    """Return whether a file holds a token that this server knows for this workflow, and that is good for days yet."""
    from torc.api.users import GetMe
    from torc.client.credentials import read_token

    server = server_of(opened)
    if server is None or server.token is None or not path.exists():
        return False
    if time.time() - path.stat().st_mtime > _RENEWED_SECONDS:
        return False
    try:
        remote = server.with_other(token=read_token(str(path)))
        try:
            return remote.send(GetMe()).workflow_id == number
        finally:
            remote.close()
    except TorcError:
        return False


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise Unavailable(f"cannot make {folder}: {error.strerror}", hint="name another with --output-dir") from None
