"""What an allocation does for its workflow while nobody follows from outside: submits what is due, cancels what is useless.

One thread of the first runner asks the store now and then; each action is carried out once, whoever else follows. On clusters whose
nodes may not submit, nothing happens here and `torc watch` on a login node does it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torc.api.base import Torc
from torc.cli.connection import open_torc

_log = logging.getLogger(__name__)
_SECONDS = 10.0


@contextmanager
def scheduling(number: int, output_dir: Path, *, is_on: bool) -> Iterator[None]:
    """Look after what is due while the block runs, and once more at its end."""
    if not is_on:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_look_after, args=(number, output_dir, ended), name="scheduling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=60.0)


def _look_after(number: int, output_dir: Path, ended: threading.Event) -> None:
    from torc.errors import TorcError

    told = ""
    while True:
        is_last = ended.wait(_SECONDS)
        try:
            opened = open_torc(create=False)
            try:
                _step(opened, number, output_dir, is_last=is_last)
            finally:
                opened.close()
        except TorcError as error:  # the runner goes on: others will do it, or this is tried again
            if error.message != told:
                _log.warning("cannot ask for allocations from here: %s", error.message)
            told = error.message
        if is_last:
            return


def _step(opened: Torc, number: int, output_dir: Path, *, is_last: bool) -> None:
    from torc.api.allocations import ListDueScheduling
    from torc.api.workflows import GetWorkflow
    from torc.cli.cluster_access import scheduler_for
    from torc.schedulers.follow import cancel_useless, carry_out_due, has_work

    if opened.send(ListDueScheduling(workflow_id=number)):
        carry_out_due(opened, number, scheduler_for(opened, number, output_dir, with_token=False))
    if is_last and not has_work(opened.send(GetWorkflow(workflow_id=number))):
        cancel_useless(opened, number, scheduler_for(opened, number, output_dir, with_token=False))
