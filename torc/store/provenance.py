"""Rows of what results come from: specs as written, environments, and where runners ran."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, text

from torc.store.json_columns import loads
from torc.store.rows import insert

Kind = Literal["spec", "environment", "runner"]
_IS_KNOWN = text("SELECT 1 FROM provenance WHERE workflow_id = :id AND kind = :kind AND hash = :hash LIMIT 1")
_OF_KIND = text("SELECT hash, facts FROM provenance WHERE workflow_id = :id AND kind = :kind ORDER BY id")
_LAST_SPEC = text("SELECT facts FROM provenance WHERE workflow_id = :id AND kind = 'spec' ORDER BY id DESC LIMIT 1")
_RUNNERS = text(
    "SELECT r.id, r.run_id, r.host, r.started_at, p.hash, p.facts FROM runner r "
    "LEFT JOIN provenance p ON p.workflow_id = r.workflow_id AND p.runner_id = r.id "
    "WHERE r.workflow_id = :id ORDER BY r.id DESC LIMIT :n"
)


def add(
    db: Connection,
    workflow_id: int,
    kind: Kind,
    digest: str,
    facts: Mapping[str, Any],
    *,
    run_id: int = 0,
    runner_id: int | None = None,
) -> None:
    """Keep facts."""
    values = {
        "workflow_id": workflow_id,
        "kind": kind,
        "run_id": run_id,
        "runner_id": runner_id,
        "hash": digest,
        "facts": json.dumps(facts, ensure_ascii=False),
    }
    insert(db, "provenance", values)


def is_known(db: Connection, workflow_id: int, kind: Kind, digest: str) -> bool:
    """Return whether facts of a kind with this hash are kept."""
    return db.execute(_IS_KNOWN, {"id": workflow_id, "kind": kind, "hash": digest}).first() is not None


def of_kind(db: Connection, workflow_id: int, kind: Kind) -> Sequence[RowMapping]:
    """Return all facts of a kind (`hash`, `facts`), in the order in which they came."""
    return db.execute(_OF_KIND, {"id": workflow_id, "kind": kind}).mappings().all()


def last_spec(db: Connection, workflow_id: int) -> Mapping[str, Any] | None:
    """Return the facts of the spec that a workflow was last brought to."""
    found: Mapping[str, Any] | None = loads(db.execute(_LAST_SPEC, {"id": workflow_id}).scalar())
    return found


def last_runners(db: Connection, workflow_id: int, limit: int) -> Sequence[RowMapping]:
    """Return the last runners (`id`, `run_id`, `host`, `started_at`) with the `hash` of their environment and `facts`, newest first."""
    return db.execute(_RUNNERS, {"id": workflow_id, "n": limit}).mappings().all()
