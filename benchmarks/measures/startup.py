"""How long commands take to start: beside an empty Python, and beside the imports that they cannot do without."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import processes, specs
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes

#: for those that the design gives a fixed time
TARGET_SECONDS = 0.150
#: for those that open the store, on top of `import sqlmodel`
STORE_TARGET_SECONDS = 0.250


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Start each command in turns, many times over; medians."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = str(specs.save(specs.sweep(3), folder))
    database = str(folder / "startup.db")
    processes.run([*processes.TORC, "--db", database, "create", spec], folder)
    python, torc, store = processes.PYTHON, processes.TORC, [*processes.TORC, "--db", database]
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "import typer": [python, "-c", "import typer"],
        "import sqlmodel": [python, "-c", "import sqlmodel"],
        "torc --version": [*torc, "--version"],
        "torc --help": [*torc, "--help"],
        "torc schema": [*torc, "schema"],
        "torc validate": [*torc, "validate", spec],
        "torc workflows list": [*store, "workflows", "list"],
        "torc jobs list": [*store, "jobs", "list", "1"],
        "torc status": [*store, "status", "1"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(sizes.startups + 1):
        for name, argv in commands.items():
            times[name].append(processes.run(argv, folder).wall_seconds)
    # the first of each filled the caches of bytecode and of the disk
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return [_row(name, medians) for name in commands if name.startswith("torc")]


def _row(name: str, medians: dict[str, float]) -> Row:
    seconds = medians[name]
    opens_store = name in {"torc workflows list", "torc jobs list", "torc status"}
    yardstick = "import sqlmodel" if opens_store else "import typer"
    target, met = "", None
    if opens_store:
        target = f"<= {milliseconds(STORE_TARGET_SECONDS)} over it"
        met = seconds - medians[yardstick] <= STORE_TARGET_SECONDS
    elif name in {"torc --version", "torc --help"}:
        target, met = f"<= {milliseconds(TARGET_SECONDS)}", seconds <= TARGET_SECONDS
    return Row(
        f"start: {name}",
        milliseconds(seconds),
        f"{yardstick} {milliseconds(medians[yardstick])} (python {milliseconds(medians['python -c pass'])})",
        seconds / medians[yardstick],
        target,
        met,
    )
