"""Have a runner that starts while its store is away wait for it: its allocation may have been in the queue for hours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from torc.api.base import Torc
from torc.cli.connection import closing_at_end, open_torc, workflow_id
from torc.cli.options.amounts import seconds
from torc.cli.session import SESSION
from torc.errors import TorcError
from torc.runner.store_wait import StoreWait

ServerWait = Annotated[
    str | None,
    typer.Option(
        "--server-wait",
        metavar="TIME",
        help="How long to wait at startup for a server or database that does not answer, such as 30m; 0s: do not "
        "wait. Default: 10m for runners that Torc starts, 0s for those started by hand.",
    ),
]
#: a server that is restarted by hand is back within minutes
DEFAULT_SECONDS = 600.0


def wait_seconds(named: str | None, *, default: float) -> float:
    """Return how long to wait at the start: as the option says, else as set. Raises Invalid."""
    found = seconds(named or SESSION.settings.text("run.server_wait"), "--server-wait")
    return default if found is None else float(found)


@contextmanager
def torc_when_it_answers(workflow: str, limit_seconds: float) -> Iterator[tuple[Torc, int]]:
    """Open the store as soon as it answers, and find a workflow in it. Raises Unavailable when the time is over.

    Everything is read again for each try: the server may have restarted at another address, with another token.
    """
    wait = StoreWait(limit_seconds)
    while True:
        opened: Torc | None = None
        try:
            opened = open_torc(create=False)
            number = workflow_id(opened, workflow)
        except TorcError as error:
            if opened is not None:
                opened.close()
            wait.after(error)
            continue
        break
    wait.tell_end()
    with closing_at_end(opened):
        yield opened, number
