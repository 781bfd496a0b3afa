"""What a job's result depends on beside its files, as short texts that `reinitialization` compares.

They are kept on change, not on success: a completed job without a fingerprint is as it was when it ran, and whoever is
about to change something that results depend on calls `keep_fingerprints` before. So a run costs nothing for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from torc.operations.dispatch import Tx
from torc.operations.row_mapping import workflow_row
from torc.store.json_columns import loads
from torc.workflow.staleness import fingerprint

_COLUMNS = "id, command, invocation_script, env, input_set_id"


def keep_fingerprints(tx: Tx, workflow_id: int, which: str = "1 = 1", **values: Any) -> None:
    """Keep how jobs are, or were, run before that changes: those that have completed or are held by a runner.

    `which` is a condition on jobs, with its parameters in `values`.
    """
    rows = tx.dialect.fetch(
        tx.db,
        f"SELECT {_COLUMNS} FROM job WHERE workflow_id = :workflow_id AND fingerprint IS NULL "
        f"AND state IN ('completed', 'pending', 'running') AND ({which})",
        {"workflow_id": workflow_id, **values},
    )
    if rows:
        tx.dialect.run_many(
            tx.db,
            "UPDATE job SET fingerprint = :print WHERE id = :id",
            [{"id": job, "print": value} for job, value in _fingerprints(tx, workflow_id, rows).items()],
        )


def changed_fingerprints(tx: Tx, workflow_id: int) -> dict[int, tuple[str, str]]:
    """Return (kept, present) fingerprints of jobs that have one kept."""
    query = f"SELECT {_COLUMNS}, fingerprint FROM job WHERE workflow_id = :id AND fingerprint IS NOT NULL"
    rows = tx.dialect.fetch(tx.db, query, {"id": workflow_id})
    if not rows:
        return {}
    kept = {row[0]: row[5] for row in rows}
    return {job: (kept[job], present) for job, present in _fingerprints(tx, workflow_id, rows).items()}


def _fingerprints(tx: Tx, workflow_id: int, rows: Sequence[Any]) -> dict[int, str]:
    shared = loads(workflow_row(tx, workflow_id)["env"], {})
    data = _user_data(tx, {row[4] for row in rows if row[4] is not None})
    return {row[0]: fingerprint(row[1], row[2], {**shared, **loads(row[3], {})}, data.get(row[4], {})) for row in rows}


def _user_data(tx: Tx, input_sets: set[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    if input_sets:
        read = text(
            "SELECT i.input_set_id, u.name, u.data FROM input_user_data i "
            f"JOIN user_data u ON u.id = i.user_data_id WHERE i.input_set_id IN {tx.dialect.id_list}"
        )
        for input_set, name, value in tx.db.execute(read, {"ids": tx.dialect.ids(input_sets)}):
            found[input_set][name] = loads(value)
    return found
