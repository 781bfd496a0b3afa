"""What a job's result depends on beside its files, as short texts: recorded after success, compared by `reinitialize`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import text

from torc.core.changes import fingerprint
from torc.operations.dispatch import Tx
from torc.operations.rows import loads, workflow_row

_JOBS = "SELECT id, command, invocation_script, env, input_set_id FROM job WHERE workflow_id = :id"


def fingerprints(tx: Tx, workflow_id: int, where: str = "") -> dict[int, str]:
    """Give the fingerprints that jobs have now, by id."""
    shared = loads(workflow_row(tx, workflow_id)["env"], {})
    data: dict[int, dict[str, Any]] = defaultdict(dict)
    read = text(
        "SELECT i.input_set_id, u.name, u.data FROM input_user_data i JOIN user_data u ON u.id = i.user_data_id "
        "WHERE u.workflow_id = :id"
    )
    for input_set, name, value in tx.db.execute(read, {"id": workflow_id}):
        data[input_set][name] = loads(value)
    return {
        row[0]: fingerprint(row[1], row[2], {**shared, **loads(row[3], {})}, data.get(row[4], {}))
        for row in tx.db.execute(text(_JOBS + where), {"id": workflow_id})
    }


def record_fingerprints(tx: Tx, workflow_id: int) -> None:
    """Record the fingerprints of completed jobs that have none yet."""
    found = fingerprints(tx, workflow_id, " AND state = 'completed' AND fingerprint IS NULL")
    if found:
        tx.db.execute(
            text("UPDATE job SET fingerprint = :print WHERE id = :id"),
            [{"id": job, "print": value} for job, value in found.items()],
        )
