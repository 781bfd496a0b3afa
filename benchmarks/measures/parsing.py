"""From the text of a spec to a plan, in each format, beside the fastest parser of that format alone."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ckdl
import pyjson5
import yaml

from benchmarks import specs
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes
from torc.spec.compiler import compile_spec, parse_spec
from torc.spec.writer import write_spec


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


PARSERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "json": ("json.loads", json.loads),
    "json5": ("pyjson5", pyjson5.decode),
    "yaml": ("PyYAML CSafeLoader", _yaml),
    "kdl": ("ckdl", ckdl.parse),
}


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Write one spec in the four formats, and time plan and bare parser in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    source, problems = parse_spec(json.dumps(specs.written_out(sizes.parsing_jobs)), format="json")
    if source is None:
        raise ValueError(problems[0].render())
    rows = []
    for format_, (name, parser) in PARSERS.items():
        text = write_spec(source, format_)
        ours, bare = [], []
        for _ in range(sizes.rounds):
            ours.append(_seconds(partial(_plan, text, format_)))
            bare.append(_seconds(partial(parser, text)))
        rows.append(
            Row(
                f"spec to plan, {format_}, {sizes.parsing_jobs:,} jobs written out",
                milliseconds(statistics.median(ours)),
                f"{name} alone {milliseconds(statistics.median(bare))}",
                statistics.median(mine / other for mine, other in zip(ours, bare, strict=True)),
            )
        )
    return rows


def _plan(text: str, format_: Any) -> None:
    plan, problems = compile_spec(text, format=format_, name="benchmark")
    if plan is None:
        raise ValueError(problems[0].render())


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
