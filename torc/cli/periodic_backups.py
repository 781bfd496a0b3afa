"""Copies of the database at intervals, as options and settings want them, while a server or a run uses it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torc.cli.options.amounts import seconds
from torc.cli.session import SESSION
from torc.errors import Invalid

_KEEP = 5


def interval_of(every: str | None = None) -> int | None:
    """Return the seconds between two copies; None: none are wanted. Raises Invalid."""
    found = seconds(every or SESSION.settings.text("backup.interval"), "--backup-every" if every else "backup.interval")
    if found is not None and found < 1:
        raise Invalid("the backup interval must be at least one second", hint="--backup-every 1h")
    return found


def kept(database: str, every: int | None, keep: int | None = None) -> AbstractContextManager[Any]:
    """Have a database copied while the block runs, where that is wanted."""
    if every is None:
        return nullcontext()
    from torc.client import backup

    folder = SESSION.settings.text("backup.folder")
    number = keep or SESSION.settings.number("backup.keep") or _KEEP
    return backup.kept(database, every, number, None if folder is None else Path(folder).expanduser().absolute())
