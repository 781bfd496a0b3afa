"""What a job's result depends on beside its files, as short texts that `reinitialization` compares.

They are stored on change, not on success: a completed job without a fingerprint has not changed since it ran, and code that changes
something that results depend on calls `keep_fingerprints` first. So a run costs nothing for this.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torc.operations.dispatch import Tx
from torc.operations.row_mapping import workflow_row
from torc.store import fingerprints
from torc.store.fingerprints import ExecutedJob
from torc.store.json_columns import loads
from torc.workflow.staleness import fingerprint


def keep_fingerprints(
    tx: Tx, workflow_id: int, *, job: int | None = None, reading: Collection[int] | None = None
) -> None:
    """Keep how jobs are, or were, run before that changes: those that have completed or are held by a runner.

    `job`: only this one. `reading`: only those that read some user data.
    """
    found = fingerprints.without(tx.db, tx.dialect, workflow_id, job=job, reading=reading)
    if found:
        fingerprints.keep(tx.db, tx.dialect, _fingerprints(tx, workflow_id, found))


def changed_fingerprints(tx: Tx, workflow_id: int) -> dict[int, tuple[str, str]]:
    """Return (kept, present) fingerprints of jobs that have one kept."""
    found = fingerprints.kept(tx.db, tx.dialect, workflow_id)
    if not found:
        return {}
    present = _fingerprints(tx, workflow_id, found)
    return {job.id: (job.fingerprint, present[job.id]) for job in found if job.fingerprint is not None}


def _fingerprints(tx: Tx, workflow_id: int, jobs: Sequence[ExecutedJob]) -> dict[int, str]:
    shared = loads(workflow_row(tx, workflow_id)["env"], {})
    sets = {job.input_set_id for job in jobs if job.input_set_id is not None}
    data = fingerprints.data_read(tx.db, tx.dialect, sets)
    found = {}
    for job in jobs:
        executed = {**job.executed, "env": {**shared, **job.executed["env"]}}
        read = {} if job.input_set_id is None else data.get(job.input_set_id, {})
        found[job.id] = fingerprint(executed, read)
    return found
