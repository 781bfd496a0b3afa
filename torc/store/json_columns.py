"""JSON as databases return it to plain statements: text from SQLite, data from PostgreSQL."""

from __future__ import annotations

import json
from typing import Any


def loads(value: Any, default: Any = None) -> Any:
    """Return the data of a JSON column; `default` for NULL."""
    if value is None:
        return default
    return json.loads(value) if isinstance(value, str) else value


def dumps(value: Any) -> str | None:
    """Return what a JSON column takes; NULL for None."""
    return None if value is None else json.dumps(value)
