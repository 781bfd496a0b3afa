"""What commands need to reach a cluster for a workflow: how runners on its nodes find the program, the store and their folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from torc.cli.run import output_folder
from torc.errors import Unavailable

#: how `torc` is called on nodes, where that is not as here
_PROGRAM = "TORC_PROGRAM"


def slurm_for(opened: Any, number: int, output_dir: Path | None = None, *, with_token: bool = True) -> Any:
    """Give the Slurm cluster for a workflow. Its runners read the token from a file that only their user can read."""
    from torc.api.workflows import GetWorkflow
    from torc.slurm.slurm import Slurm

    workflow = opened.send(GetWorkflow(workflow_id=number))
    folder = output_folder(output_dir).absolute()
    variables = _place_of(opened)
    if with_token:
        _make(folder)  # Slurm writes into it before any runner is there
    if with_token and (token := _token(opened, number)) is not None:
        variables["TORC_TOKEN_FILE"] = str(_kept(token, folder, number))
    elif "TORC_TOKEN_FILE" in os.environ:
        variables["TORC_TOKEN_FILE"] = os.environ["TORC_TOKEN_FILE"]
    if ca_file := os.environ.get("TORC_CA_FILE"):
        variables["TORC_CA_FILE"] = str(Path(ca_file).absolute())
    return Slurm(
        workflow_id=number, program=program(), directory=workflow.directory, output_dir=str(folder), variables=variables
    )


def program() -> tuple[str, ...]:
    """Give how this program is called on a node: by the same interpreter."""
    named = os.environ.get(_PROGRAM)
    return (named,) if named else (sys.executable, "-m", "torc.cli.main")


def _place_of(opened: Any) -> dict[str, str]:
    store = getattr(opened, "store", None)
    if store is None:
        return {"TORC_API_URL": str(opened.url)}
    if store.path is not None:
        return {"TORC_DB": str(Path(store.path).absolute())}
    if store.engine.url.password:
        raise Unavailable(
            "the database is reached with a password, which cannot be put into a batch script",
            hint="start a server that the nodes can reach (torc server start --host ...), and name it with --url",
        )
    return {"TORC_DB": store.engine.url.render_as_string(hide_password=False)}


def _token(opened: Any, number: int) -> str | None:
    from torc.cli.remote import token_for_workers

    return os.environ.get("TORC_WORKER_TOKEN") or token_for_workers(opened, number)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot make {folder}: {error.strerror}", hint="name another with --output-dir") from None


def _kept(token: str, folder: Path, number: int) -> Path:
    from torc.client.credentials import write_token

    path = folder / f".torc-token-wf{number}"
    write_token(path, token)
    return path
