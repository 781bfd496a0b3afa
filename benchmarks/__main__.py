"""The command behind `benchmarks/run`: each measure in a process of its own, then one table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.rows import Row, table
from benchmarks.sizes import FULL, QUICK, TINY, Sizes

MEASURES = (
    "throughput",
    "creation",
    "barrier",
    "claims",
    "startup",
    "parsing",
    "overhead",
    "sampling",
    "gaps",
    "serving",
    "idle",
    "diagnosis",
    "assistants",
    "slurm",
)
SIZES: dict[str, Sizes] = {"full": FULL, "quick": QUICK, "tiny": TINY}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and give 1 when a target was missed or a measure broke."""
    options = _parser().parse_args(arguments)
    if options.inside:
        return _measure_inside(options.inside, SIZES[options.size], Path(options.folder))
    machine = describe()
    for name, value in machine.items():
        print(f"{name + ':':13} {value}")
    rows: list[Row] = []
    broken: list[str] = []
    # Nothing is deleted before the end: ext4 passes over inodes deleted in the last five seconds one by one, and that
    # made each file that a job of the next measure creates cost a millisecond.
    with tempfile.TemporaryDirectory(prefix="torc-benchmark-") as folder:
        for name in options.only or MEASURES:
            found = _measure_apart(name, options.size, Path(folder) / name)
            rows += found or []
            broken += [name] if found is None else []
    print()
    print(table(rows))
    for name in broken:
        print(f"{name}: gave no figures (see above)")
    if options.json:
        document = {"machine": machine, "size": options.size, "rows": [row.to_dict() for row in rows]}
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if broken or any(row.met is False for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Measure Torc beside yardsticks.")
    parser.add_argument(
        "--only", action="append", choices=MEASURES, metavar="NAME", help=f"one of {', '.join(MEASURES)}"
    )
    parser.add_argument(
        "--quick", dest="size", action="store_const", const="quick", default="full", help="a minute or two"
    )
    parser.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="only to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--inside", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


def _measure_apart(name: str, size: str, folder: Path) -> list[Row] | None:
    # A process of its own: a child's peak memory counts from that of the process which started it, and a store that was
    # opened for one measure must not warm the caches of another.
    argv = [sys.executable, "-m", "benchmarks", "--inside", name, "--folder", str(folder)]
    argv += [] if size == "full" else [f"--{size}"]
    child = subprocess.run(argv, env=_with_bytecode(os.environ), stdout=subprocess.PIPE, text=True, check=False)
    if child.returncode != 0:
        return None
    return [Row(**fields) for fields in json.loads(child.stdout)]


def _with_bytecode(environ: Mapping[str, str]) -> dict[str, str]:
    # an installed program has its bytecode; compiling all modules at each start would be the larger part of a start
    return {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _measure_inside(name: str, sizes: Sizes, folder: Path) -> int:
    module = importlib.import_module(f"benchmarks.measures.{name}")
    print(json.dumps([row.to_dict() for row in module.measure(sizes, folder)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
