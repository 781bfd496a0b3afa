"""Every measure runs, at a tiny size, as `benchmarks/run` runs it. What it measures is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import MEASURES

pytestmark = pytest.mark.usefixtures("processes")

ROOT = Path(__file__).parents[2]
MISSED_OR_MET = (0, 1)


#: two clusters at once are too much for a small machine
NAMES = [pytest.param(name, marks=pytest.mark.xdist_group("slurm") if name == "slurm" else ()) for name in MEASURES]


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_gives_figures(name: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    argv = [str(ROOT / "benchmarks/run"), "--only", name, "--tiny", "--json", str(figures)]
    done = subprocess.run(
        argv,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in MISSED_OR_MET, done.stderr
    assert "gave no figures" not in done.stdout, done.stderr
    document = json.loads(figures.read_text(encoding="utf-8"))
    assert document["rows"]
    assert document["machine"]["python"]
    for row in document["rows"]:
        assert row["measure"] in done.stdout
        assert row["value"]


def test_every_module_of_measures_is_in_the_table() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks/measures").glob("*.py")} - {"__init__"}
    assert modules == set(MEASURES)
