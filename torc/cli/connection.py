"""The Torc that a command asks, and the workflow that it is about."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from torc.api.base import Torc
from torc.cli.session import SESSION, trusted
from torc.errors import Conflict, NotFound
from torc.units import whole_number

#: variables that say how a server is reached
_SHOWN = ("TORC_API_URL", "TORC_TOKEN", "TORC_TOKEN_FILE", "TORC_SERVER_FILE", "XDG_CONFIG_HOME", "HOME")


@contextmanager
def torc(*, create: bool = True) -> Iterator[Torc]:
    """Open the Torc that the options, the settings and the directory lead to."""
    with closing_at_end(open_torc(create=create)) as opened:
        yield opened


@contextmanager
def closing_at_end(opened: Torc) -> Iterator[Torc]:
    """Print the notes of an opened Torc, and close it at the end."""
    for note in getattr(opened, "notes", ()):
        print(f"note: {note}", file=sys.stderr)
    try:
        yield opened
    finally:
        opened.close()


def open_torc(actor: str | None = None, *, create: bool = True) -> Torc:
    """Open it without closing it in the end; `actor` is who the log says it was, where that is not the user."""
    from torc.client.connect import connect

    url, db = SESSION.settings.place()
    shown = {name: value for name in _SHOWN if (value := os.environ.get(name))}
    if ca_file := SESSION.settings.text("ca_file"):
        shown["TORC_CA_FILE"] = str(Path(ca_file).expanduser())
    if user := SESSION.settings.text("server_user"):
        shown["TORC_SERVER_USER"] = user
    return connect(url, db, actor=actor, create=create, trusted=trusted(), environ=shown)


class ServerTorc(Torc, Protocol):
    """A Torc that asks a server."""

    url: str
    token: str | None
    token_file: str | None
    server_file: str | None
    ca_file: str | None

    def with_other(self, *, token: str | None = None, password: tuple[str, str] | None = None) -> Torc:
        """Return what asks the same server with another token or password."""


def server_of(opened: Torc) -> ServerTorc | None:
    """Return the Torc if it asks a server; None: it answers from a database."""
    return None if hasattr(opened, "store") else cast(ServerTorc, opened)


def database_of(opened: Torc) -> Any:
    """Return the open database (`torc.store.engine.Store`) that a Torc answers from; None: it asks a server."""
    return getattr(opened, "store", None)


def workflow_id(opened: Torc, named: str | None) -> int:
    """Find the workflow that is meant: by id, by name (the newest), or the only active one. Raises NotFound."""
    from torc.api.workflows import ListWorkflows
    from torc.client.workflow_lookup import find_workflow

    if named is not None:
        found = find_workflow(opened, named)
        if found is None:
            what = f"workflow {named}" if whole_number(named) is not None else f"workflow called `{named}`"
            raise NotFound(f"there is no {what}", hint="`torc workflows list` shows what there is")
        return int(found.id)
    active = opened.send(ListWorkflows(limit=3)).items
    unfinished = [workflow for workflow in active if workflow.state not in {"completed", "canceled"}]
    if len(active) == 1:
        return int(active[0].id)
    if len(unfinished) == 1 and len(active) < 3:
        return int(unfinished[0].id)
    if not active:
        raise NotFound("there is no workflow here", hint="`torc run SPEC` makes and runs one")
    raise Conflict("several workflows are here: say which one", hint="by id or name; `torc workflows list` shows them")
