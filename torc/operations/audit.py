"""The record of who did what, and from where: one row per change made over the network, in the same transaction.

It names what was changed, but not the values, which may be secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torc.api.base import Request
from torc.api.runs import DeliverResults, EndRunner, Exchange
from torc.api.workflows import RecordFiles, Workflow
from torc.operations.transaction import Tx
from torc.store import audit as audit_rows

#: what runners say all the time; what came of it stands in the events
_UNRECORDED = (Exchange, DeliverResults, RecordFiles, EndRunner)
#: texts that name something, or choose
_TOLD = {"name", "user", "users", "scope", "permission", "host", "action"}
_LONGEST = 200


def record_answer(tx: Tx, request: Request[Any], reply: Any) -> None:
    """Record that a request was answered."""
    if isinstance(request, _UNRECORDED) or getattr(request, "dry_run", False):
        return
    workflow_id = getattr(request, "workflow_id", None) or getattr(reply, "workflow_id", None)
    if workflow_id is None and isinstance(reply, Workflow):
        workflow_id = reply.id
    given = {name: getattr(request, name) for name in sorted(request.model_fields_set)}
    fields = {name: value for name, value in given.items() if value is not None}
    told = {name: value for name, value in fields.items() if _is_told(name, value)}
    record(tx, type(request).__name__, {**told, "fields": sorted(fields)}, workflow_id)


def record(tx: Tx, action: str, data: Mapping[str, Any], workflow_id: int | None = None) -> None:
    """Add a row."""
    assert tx.caller is not None
    values = {
        "time": tx.now,
        "actor": tx.actor,
        "address": tx.caller.address,
        "token_id": tx.caller.token_id,
        "action": action,
        "workflow_id": workflow_id,
        "data": data,
    }
    audit_rows.add(tx.db, values)


def _is_told(name: str, value: Any) -> bool:
    if isinstance(value, bool | int):
        return True
    return name in _TOLD and len(str(value)) <= _LONGEST
