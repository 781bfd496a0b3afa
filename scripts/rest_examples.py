"""An example of every operation of the REST interface: what was asked of a real store, and what it answered.

Times, tokens and whatever else differs from call to call are put in place of what was answered.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from tests.support.requests import example_requests, furnish
from torc.api.registry import REQUESTS
from torc.client.embedded import Embedded
from torc.errors import Conflict
from torc.operations.dispatch import DryRun, Tx, answer
from torc.store.engine import open_store
from torc.workflow.access import Caller

_NOW = 1795453209.6
_RECENT = 1e9  # seconds since the epoch: whatever is later is a time
_LONGEST = 200


class _Undo(Exception):
    """Ends a transaction without keeping it."""


def examples() -> str:
    """Return a JSON object: operation -> {"request": ..., "reply": ...}; what stands in the path is in the request, too."""
    with tempfile.TemporaryDirectory() as folder:
        torc = Embedded(open_store(Path(folder) / "torc.db"), "user:root")
        people = furnish(torc)
        admin = people.caller("root", "admin")
        found = {}
        for name, fields in example_requests(people).items():
            found[name] = {"request": _plain(fields), "reply": _plain(_reply(torc, admin, name, fields))}
        torc.close()
    if missing := sorted(set(REQUESTS) - set(found)):
        raise SystemExit(f"example_requests in tests/support/requests.py lacks {', '.join(missing)}")
    return json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False) + "\n"


def _reply(torc: Embedded, caller: Caller, name: str, fields: dict[str, Any]) -> Any:
    kind = REQUESTS[name]
    request = kind.model_validate(fields)
    told: list[Any] = []

    def work(tx: Tx) -> None:
        try:
            told.append(answer(tx, request))
        except DryRun as dry:
            told.append(dry.reply)
        raise _Undo

    try:
        torc.transact(work, caller, writes=True, prepared=torc.prepare(request, None))
    except _Undo:
        return kind.reply().dump_python(told[0], mode="json")
    except Conflict:
        if kind.reply_type not in {None, type(None)}:  # else there is nothing to show of success
            raise
    return None


def _plain(value: Any) -> Any:
    """Return a value without what differs from call to call."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value > _RECENT:
        return _NOW
    if isinstance(value, float) and value % 1:  # a measured duration
        return 1.5
    if isinstance(value, str):
        value = re.sub(r"torc_(\d+)_[A-Za-z0-9_-]{43}", r"torc_\1_" + "A" * 43, value)
        value = re.sub(r"-al(\d+)-[0-9a-f]{8}$", r"-al\1-5f6a7b8c", value)
        value = re.sub(r"plan_[A-Za-z0-9_-]{16}", "plan_" + "A" * 16, value)
        value = re.sub(r"^H4sI.*", "H4sIAAAAAAAA...", value)
        value = re.sub(r"\b1[0-9]{9}\.[0-9]+", str(_NOW), value)
        return value if len(value) <= _LONGEST else value[:_LONGEST] + "..."
    return value
