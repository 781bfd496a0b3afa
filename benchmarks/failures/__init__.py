"""A collection of ends of logs of failed jobs, each with the right answer beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from torc.failures.diagnosis import AttemptFacts, Log
from torc.units import parse_memory

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """A failed job. `is_missed`: the diagnosis is known to be wrong about it still."""

    name: str
    category: str
    facts: AttemptFacts
    is_missed: bool = False


def cases() -> Iterator[Case]:
    """Yield all cases, in the order of the files."""
    for path in sorted(HERE.glob("*.yaml")):
        for fields in yaml.safe_load(path.read_text(encoding="utf-8")):
            yield Case(fields["name"], fields["category"], _facts(fields), fields.get("is_missed", False))


def _facts(fields: dict[str, Any]) -> AttemptFacts:
    logs = [Log(name, fields[name], 1) for name in ("stderr", "stdout") if fields.get(name)]
    return AttemptFacts(
        reason=fields.get("reason"),
        detail=fields.get("detail"),
        return_code=fields.get("return_code"),
        command=fields["command"],
        memory_request=_memory(fields.get("memory_request")),
        peak_memory=_memory(fields.get("peak_memory")),
        runtime_request=fields.get("runtime_request_seconds"),
        wall_seconds=fields.get("wall_seconds"),
        slurm_state=fields.get("slurm_state"),
        logs=tuple(logs),
    )


def _memory(text: str | int | None) -> int | None:
    return None if text is None else parse_memory(str(text))
