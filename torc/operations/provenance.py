"""Keeps where results come from, and tells it: the spec as written, and what runners ran on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text

from torc.api import provenance as api
from torc.api.workflows import SourceFile, SpecFormat
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.store.json_columns import loads

#: of a longer spec, the hash is kept
_LONGEST_SPEC = 1 << 20
_HASH_DIGITS = 16
_RECORD = text(
    "INSERT INTO provenance (workflow_id, kind, run_id, runner_id, hash, facts) "
    "VALUES (:workflow_id, :kind, :run_id, :runner_id, :hash, :facts)"
)
_KNOWN = text("SELECT 1 FROM provenance WHERE workflow_id = :id AND kind = 'environment' AND hash = :hash LIMIT 1")
_OF_KIND = text("SELECT hash, facts FROM provenance WHERE workflow_id = :id AND kind = :kind ORDER BY id")
_RUNNERS = text(
    "SELECT r.id, r.run_id, r.host, r.started_at, p.hash, p.facts FROM runner r "
    "LEFT JOIN provenance p ON p.workflow_id = r.workflow_id AND p.runner_id = r.id "
    "WHERE r.workflow_id = :id ORDER BY r.id DESC LIMIT :n"
)
_NUM_RUNNERS = text("SELECT count(*) FROM runner WHERE workflow_id = :id")


def record_spec(
    tx: Tx, workflow_id: int, spec: str, name: str, format: SpecFormat | None, files: Sequence[SourceFile]
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
    _record(tx, workflow_id, "spec", digest[:_HASH_DIGITS], facts)


def record_surroundings(tx: Tx, workflow_id: int, run_id: int, runner_id: int, found: api.Surroundings) -> None:
    """Keep where a runner runs; of environments that are the same, one."""
    environment = found.environment.model_dump_json()
    digest = hashlib.sha256(environment.encode()).hexdigest()[:_HASH_DIGITS]
    if tx.db.execute(_KNOWN, {"id": workflow_id, "hash": digest}).first() is None:
        _record(tx, workflow_id, "environment", digest, json.loads(environment), run_id=run_id)
    facts = found.model_dump(mode="json", exclude={"environment"})
    _record(tx, workflow_id, "runner", digest, facts, run_id=run_id, runner_id=runner_id)


def _record(
    tx: Tx,
    workflow_id: int,
    kind: str,
    digest: str,
    facts: Mapping[str, Any],
    *,
    run_id: int = 0,
    runner_id: int | None = None,
) -> None:
    values = {"workflow_id": workflow_id, "kind": kind, "run_id": run_id, "runner_id": runner_id}
    tx.db.execute(_RECORD, {**values, "hash": digest, "facts": json.dumps(facts, ensure_ascii=False)})


def _measured(content: str) -> tuple[int, str]:
    written = content.encode("utf-8", "surrogatepass")
    return len(written), hashlib.sha256(written).hexdigest()


@answers(api.GetProvenance)
def get_provenance(tx: Tx, request: api.GetProvenance) -> api.Provenance:
    """Return where results come from."""
    key = {"id": workflow_row(tx, request.workflow_id)["id"]}
    specs = tx.db.execute(_OF_KIND, {**key, "kind": "spec"}).all()
    environments = tx.db.execute(_OF_KIND, {**key, "kind": "environment"}).all()
    runners = tx.db.execute(_RUNNERS, {**key, "n": request.limit}).all()
    return api.Provenance(
        workflow_id=key["id"],
        spec=api.WrittenSpec.model_validate(loads(specs[-1][1])) if specs else None,
        environments=[
            api.RecordedEnvironment(hash=row[0], environment=api.Environment.model_validate(loads(row[1])))
            for row in environments
        ],
        runners=[
            api.RecordedRunner(
                runner_id=row[0], run_id=row[1], host=row[2], started_at=row[3], environment=row[4], **loads(row[5], {})
            )
            for row in reversed(runners)
        ],
        num_runners=tx.db.execute(_NUM_RUNNERS, key).scalar_one(),
    )
