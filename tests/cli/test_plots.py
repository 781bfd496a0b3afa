"""`torc plot-resources`: what runs leave behind becomes a page, a drawing and a picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program
from torc.reports.plots import _busy
from torc.runner.time_series import SeriesPoint

SPEC = """
name: sweep
resource_monitor: {granularity: time_series, sample_interval_seconds: 0.1, generate_plots: %s}
resource_requirements: [{name: small, memory: 64m, runtime: PT1M}]
jobs:
  - {name: "first_{i}", command: "sleep 0.3", resource_requirements: small, parameters: {i: "1:2"}}
  - {name: last, command: "exit 3", resource_requirements: small}
"""


def ran(program: Program, *, plots: bool = False) -> None:
    (program.directory / "sweep.yaml").write_text(SPEC % str(plots).lower())
    program("run", "sweep.yaml", code=1)


def test_a_run_is_plotted_as_a_page_a_drawing_and_a_picture(program: Program) -> None:
    ran(program)
    done = program("plot-resources", "1")
    assert "wrote resources_wf1.html: 3 attempts, 3 of them with samples" in done.stderr
    page = (program.directory / "resources_wf1.html").read_text()
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="chart"') == 4
    assert "first_2" in page and "requested 64 MiB" in page and "last: failed" in page
    assert set(re.findall(r"https?://[^\"' )]*", page)) == {"http://www.w3.org/2000/svg"}, (
        "it asks nothing of the network"
    )
    program("plot-resources", "1", "-o", "run.svg", "--dark", "--job", "first_*")
    drawing = (program.directory / "run.svg").read_text()
    ElementTree.fromstring(drawing)
    assert "first_1" in drawing and "last" not in re.sub(r"<style>.*?</style>", "", drawing)
    done = program("-f", "json", "plot-resources", "1", "-o", "run.png")
    assert json.loads(done.stdout) == {"path": "run.png", "num_attempts": 3, "num_series": 3}
    assert (program.directory / "run.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@EMBEDDED
def test_plots_are_made_at_the_end_of_a_run_where_the_spec_wants_them(program: Program) -> None:
    ran(program, plots=True)
    assert (program.directory / "torc_output/resources_wf1.html").is_file()


@EMBEDDED
def test_what_cannot_be_plotted_is_told(program: Program) -> None:
    assert "ends in .html, .svg, .png" in program("plot-resources", "1", "-o", "run.pdf", code=2).stderr
    ran(program)
    assert "no job named `none` has run in run 1" in program("plot-resources", "1", "--job", "none", code=3).stderr
    assert "nothing has ended yet in run 7" in program("plot-resources", "1", "--run", "7", code=3).stderr
    for path in (program.directory / "torc_output").glob("resource_metrics_*.db"):
        path.write_bytes(b"no database, whatever its name says" * 100)
    assert "cannot read" in program("plot-resources", "1", code=5).stderr


@EMBEDDED
def test_a_run_without_samples_is_plotted_from_what_the_store_knows(program: Program, tmp_path: Path) -> None:
    (program.directory / "plain.yaml").write_text("name: plain\njobs: [{name: a, command: 'true'}]\n")
    program("run", "plain.yaml")
    assert "1 attempt, 0 of them with samples" in program("plot-resources", "1").stderr
    assert "no samples: they are recorded if the spec has" in (program.directory / "resources_wf1.html").read_text()


@EMBEDDED
def test_results_show_what_was_measured(program: Program) -> None:
    ran(program)
    header = program("results", "list", "1").stdout.splitlines()[0]
    assert all(name in header for name in ("cpu", "peak memory", "average memory", "processes"))
    assert "GPU" not in header


def test_the_use_of_cpus_is_taken_over_a_second_at_least() -> None:
    points = [
        SeriesPoint(seconds, cpu, 0, 1, 0, 0) for seconds, cpu in ((0.1, 0.1), (0.2, 0.1), (2.0, 1.0), (4.0, 5.0))
    ]
    assert [round(busy, 3) for busy in _busy(points)] == [1.0, 0.5, 0.5, 2.0]
