"""Keeps where results come from, and tells it: the spec as written, and what runners ran on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from torc.api import provenance as api
from torc.api.workflows import SourceFile
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.spec.formats import Format
from torc.store import provenance
from torc.store import runners as runner_rows
from torc.store.json_columns import loads

#: of a longer spec, the hash is kept
_LONGEST_SPEC = 1 << 20
_HASH_DIGITS = 16


def record_spec(
    tx: Tx, workflow_id: int, spec: str, name: str, format: Format | None, files: Sequence[SourceFile]
) -> None:
    """Keep the text of the spec that a workflow is made from, or was brought to."""
    size, digest = _measured(spec)
    facts = {
        "name": name,
        "format": format,
        "size_bytes": size,
        "sha256": digest,
        "text": spec if size <= _LONGEST_SPEC else None,
        "files": [
            dict(zip(("path", "size_bytes", "sha256"), (file.path, *_measured(file.text)), strict=True))
            for file in files
        ],
    }
    provenance.add(tx.db, workflow_id, "spec", digest[:_HASH_DIGITS], facts)


def record_surroundings(tx: Tx, workflow_id: int, run_id: int, runner_id: int, found: api.Surroundings) -> None:
    """Keep where a runner runs; of environments that are the same, one."""
    environment = found.environment.model_dump_json()
    digest = hashlib.sha256(environment.encode()).hexdigest()[:_HASH_DIGITS]
    if not provenance.is_known(tx.db, workflow_id, "environment", digest):
        provenance.add(tx.db, workflow_id, "environment", digest, json.loads(environment), run_id=run_id)
    facts = found.model_dump(mode="json", exclude={"environment"})
    provenance.add(tx.db, workflow_id, "runner", digest, facts, run_id=run_id, runner_id=runner_id)


def _measured(content: str) -> tuple[int, str]:
    written = content.encode("utf-8", "surrogatepass")
    return len(written), hashlib.sha256(written).hexdigest()


@answers(api.GetProvenance)
def get_provenance(tx: Tx, request: api.GetProvenance) -> api.Provenance:
    """Return where results come from."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    spec = provenance.last_spec(tx.db, workflow_id)
    runners = provenance.last_runners(tx.db, workflow_id, request.limit)
    return api.Provenance(
        workflow_id=workflow_id,
        spec=None if spec is None else api.WrittenSpec.model_validate(spec),
        environments=[
            api.RecordedEnvironment(hash=row["hash"], environment=api.Environment.model_validate(loads(row["facts"])))
            for row in provenance.of_kind(tx.db, workflow_id, "environment")
        ],
        runners=[
            api.RecordedRunner(
                runner_id=row["id"],
                run_id=row["run_id"],
                host=row["host"],
                started_at=row["started_at"],
                environment=row["hash"],
                **loads(row["facts"], {}),
            )
            for row in reversed(runners)
        ],
        num_runners=runner_rows.number(tx.db, workflow_id),
    )
