"""The page of a run: what stands on it, that nothing breaks out of it, that it needs nothing else, and that it stays small."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.workflows import claim, create, ended, exchange, runner, spec
from torc.api.allocations import NewAllocation, RecordAllocations
from torc.api.runs import EndRunner, Usage
from torc.client.embedded import Embedded
from torc.reports.html_report import page
from torc.reports.report_data import ReportLimits, gather

EVIL = "<script>alert('x')</script>\x1b[31m&\"'\u202e"
NOW = 1_800_000_000.0
VOID = {"meta", "input", "br", "line", "rect", "path", "circle", "use", "polyline", "polygon", "ellipse", "stop"}


class Checked(HTMLParser):
    """Reads a page and holds what is in it; elements must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.scripts = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def run(torc: Embedded, document: dict[str, Any], directory: Path, failing: dict[str, str]) -> int:
    """Run a workflow; the named jobs fail with the given text on standard error."""
    workflow = create(torc, document, str(directory)).id
    number = runner(torc, workflow)
    given = claim(torc, workflow, number)
    while given:
        usage = Usage(user_cpu_seconds=0.5, peak_memory_bytes=300 << 20)
        exchange(
            torc,
            workflow,
            number,
            finished=[
                ended(item, "failed", 1, stderr_tail=failing[name], stderr_line=7)
                if name in failing
                else ended(item, usage=usage)
                for name, item in given.items()
            ],
        )
        given = claim(torc, workflow, number)
    torc.send(EndRunner(workflow_id=workflow, runner_id=number))
    return workflow


def test_a_page_tells_everything_and_nothing_breaks_out_of_it(embedded: Embedded, tmp_path: Path) -> None:
    (tmp_path / "grid.csv").write_text("a,b\n")
    document = spec(
        "a b -> c",
        name=f"study {EVIL[:27]}",
        description=f"for the paper {EVIL}",
        env={"API_TOKEN": "s3cr3t-value-1"},
        resource_requirements=[{"name": "large", "memory": "64g", "num_cpus": 4}],
        files=[{"name": "grid", "path": "grid.csv"}, {"name": "out", "path": "out.csv"}],
        jobs={
            "a": {"input_files": ["grid"], "output_files": ["out"], "resource_requirements": "large"},
            "c": {"command": f"echo {EVIL[:27]}"},
        },
    )
    workflow = run(
        embedded,
        document,
        tmp_path,
        {"b": f"ModuleNotFoundError: No module named 'x{EVIL}' s3cr3t-value-1 token=abcd1234efgh\n"},
    )
    text = page(gather(embedded, workflow, NOW, "9.9"), with_attempts=True)
    assert page(gather(embedded, workflow, NOW, "9.9"), with_attempts=True) == text, "the same run gives the same page"
    found = Checked(text)
    words = " ".join(found.words)
    assert found.scripts == 1 and "\x1b" not in text and "\u202e" not in text
    assert "<script>alert" in words, "escaped, it is shown as it is"
    for wanted in (
        "Outcome",
        "Timeline",
        "Failures",
        "1 x missing module",
        "stderr:7: ModuleNotFoundError",
        "Efficiency",
        "requests 64 GiB",
        "Attempts",
        "grid.csv",
        hashlib.sha256(b"a,b\n").hexdigest(),
        "Provenance",
        "The spec as written",
        "The spec as resolved",
        "2027-01-15T08:00:00Z",
        "Torc 9.9",
    ):
        assert wanted in words, wanted
    assert "s3cr3t-value-1" not in text and "abcd1234efgh" not in text
    links = {value for _, name, value in found.attributes if name in {"src", "href", "action", "data"} and value}
    ids = {f"#{value}" for _, name, value in found.attributes if name == "id"}
    assert links <= ids, "nothing is loaded from anywhere, and links lead somewhere"
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]


def test_a_run_that_has_not_begun_has_a_page_too(embedded: Embedded, tmp_path: Path) -> None:
    workflow = create(embedded, spec("a -> b"), str(tmp_path)).id
    words = " ".join(Checked(page(gather(embedded, workflow, NOW, "9.9"), with_attempts=True)).words)
    assert "nothing has run yet" in words and "No job has failed" in words


@pytest.mark.usefixtures("processes")
def test_ten_thousand_jobs_make_a_page_of_a_few_megabytes(embedded: Embedded, tmp_path: Path) -> None:
    names = [f"train_model_with_a_long_name_{number:05}" for number in range(10_000)]
    document = spec(" ".join(names), resource_requirements=[{"name": "small", "memory": "1g"}])
    failing = {name: f"MemoryError in {name}\n" for name in names[::10]}
    workflow = run(embedded, document, tmp_path, failing)
    report = gather(embedded, workflow, NOW, "9.9")
    assert len(page(report).encode()) < 1_000_000
    text = page(report, with_attempts=True)
    assert len(text.encode()) < 5_000_000 and text.count("<tr>") > 10_000
    assert "1,000 x out of memory" in text and len(report.diagnoses.groups) == 1
    cut = page(gather(embedded, workflow, NOW, "9.9", ReportLimits(attempts=500)), with_attempts=True)
    assert "the first 500" in cut and cut.count("<tr>") < 600


def test_what_runs_still_is_drawn_and_allocations_are_told(embedded: Embedded, tmp_path: Path) -> None:
    workflow = create(embedded, spec("a b"), str(tmp_path)).id
    number = runner(embedded, workflow)
    claim(embedded, workflow, number)
    asked = NewAllocation(name="x", num_nodes=2, walltime_seconds=3600, partition="gpu<1>")
    embedded.send(RecordAllocations(workflow_id=workflow, allocations=[asked]))
    words = " ".join(Checked(page(gather(embedded, workflow, 3.0, "9.9"), with_attempts=True)).words)
    assert "2 running" in words and "running" in words.partition("Attempts")[2]
    assert "Allocations of this run" in words and "gpu<1>" in words
