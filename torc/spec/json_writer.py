"""Write the data of a spec as JSON, which is also JSON5."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torc.spec.formats import SCHEMA_FILE


def write_json(data: Mapping[str, Any]) -> str:
    return json.dumps({"$schema": SCHEMA_FILE, **data}, indent=2, ensure_ascii=False) + "\n"
