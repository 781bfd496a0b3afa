"""Two workflows that run at the same time must not write the same file."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from sqlalchemy import RowMapping

from torc.errors import Conflict
from torc.operations.dispatch import Tx
from torc.spec.expansion.paths import folder_of, place_of
from torc.store import files, workflows


def refuse_shared_outputs(tx: Tx, workflow: RowMapping) -> None:
    """Raise Conflict if another running workflow writes a file that this one writes, or into the same folder."""
    others = workflows.others_at_work(tx.db, workflow["id"], tx.now)
    ours = dict(_places(tx, workflow)) if others else {}
    for other in others if ours else ():
        theirs = dict(_places(tx, other))
        shared = _first_within(ours, theirs) or _first_within(theirs, ours)
        if shared is not None:
            path = ours.get(shared) or theirs[shared]
            number = other["id"]
            raise Conflict(
                f"workflow {number}{_named(tx, other)} runs and writes {path}, which workflow {workflow['id']} "
                f"({workflow['name']}) would write too",
                hint=f"wait until it has ended (torc watch {number}), cancel it (torc workflows cancel {number}), or let one "
                f"of them write elsewhere; where its runner is dead: torc workflows sync-status {number}",
                running=number,
                path=path,
            )


def _named(tx: Tx, other: RowMapping) -> str:
    if tx.rights is None or tx.rights.sees_all or tx.rights.user == other["user"]:
        return f" ({other['name']})"
    return " of another user"


def _places(tx: Tx, workflow: RowMapping) -> Iterator[tuple[str, str]]:
    """Return (place, path as written) of what a workflow writes."""
    directory = workflow["directory"]
    for path in files.written_paths(tx.db, tx.dialect, workflow["id"]):
        yield place_of(posixpath.join(directory, path)), path


def _first_within(places: dict[str, str], others: dict[str, str]) -> str | None:
    """Return the first place that is one of the others, or lies in one of them."""
    known: dict[str | None, bool] = {None: False}

    def is_inside(folder: str | None) -> bool:
        passed = []
        while folder not in known:
            passed.append(folder)
            if folder in others:
                known[folder] = True
                break
            folder = folder_of(folder or "")
        found = known[folder]
        known.update(dict.fromkeys(passed, found))
        return found

    return next((place for place in places if place in others or is_inside(folder_of(place))), None)
