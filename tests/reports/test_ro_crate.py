"""The run as an RO-Crate: valid, whole, with hashes that are right, and nothing that leads out of it."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reports.test_html_report import NOW, run
from tests.support.crates import TERMS, validate
from tests.support.workflows import create, spec
from torc.client.embedded import Embedded
from torc.errors import Invalid, Unavailable
from torc.reports.archive import write_crate
from torc.reports.report_data import ReportData, gather
from torc.reports.ro_crate import About, metadata, orcid_of

#: the id of a workflow in a crate is its file, as Workflow RO-Crate wants it, and has no address; who publishes it is not for us to say
NOT_FOR_US = {
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
    "The author SHOULD have an organizational affiliation.",
    "The author SHOULD have a Contextual Entity which specifies the organizational `affiliation`.",
}
LICENSE = "https://spdx.org/licenses/CC-BY-4.0"


def study(torc: Embedded, directory: Path, *, failing: dict[str, str] | None = None) -> ReportData:
    (directory / "in").mkdir()
    (directory / "in/grid 1.csv").write_text("a,b\n")
    (directory / "large.bin").write_bytes(bytes(5000))
    (directory / "out.csv").write_text("1\n")
    document = spec(
        "a -> b",
        name="study of =coasts",
        env={"OMP_NUM_THREADS": "4", "API_TOKEN": "s3cr3t-value-1"},
        files=[
            {"name": "grid", "path": "in/grid 1.csv"},
            {"name": "large", "path": "large.bin"},
            {"name": "out", "path": "out.csv"},
            {"name": "gone", "path": "../gone.csv"},
        ],
        jobs={"a": {"input_files": ["grid", "large"], "output_files": ["out"]}, "b": {"output_files": ["gone"]}},
    )
    return gather(torc, run(torc, document, directory, failing or {}), NOW, "9.9")


def entities(text: str) -> dict[str, Any]:
    return {entity["@id"]: entity for entity in json.loads(text)["@graph"]}


@pytest.mark.usefixtures("processes")
def test_a_crate_is_valid_and_says_what_there_is(embedded: Embedded, tmp_path: Path) -> None:
    report = study(embedded, tmp_path, failing={"b": "MemoryError\n"})
    crate = tmp_path / "crate"
    write_crate(report, crate, About(LICENSE, "Kim Doe", "https://orcid.org/0000-0002-1825-0097"), 1000)
    told = validate(crate, tmp_path / "cache")
    # files that are not in the crate are named by their hash: nothing to fetch, and so nothing that the validator could look at
    issues = [issue for issue in told if issue["message"] not in NOT_FOR_US and "scheme 'ni'" not in issue["message"]]
    assert not issues, [(issue["message"], issue["violatingEntity"]) for issue in issues]
    found = entities((crate / "ro-crate-metadata.json").read_text())
    files = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()} - {
        "ro-crate-metadata.json"
    }
    assert files == {
        name.replace("%20", " ") for name, entity in found.items() if "File" in entity["@type"] and ":" not in name
    }
    for name in files:
        entity = found[name.replace(" ", "%20")]
        data = (crate / name).read_bytes()
        assert (entity["sha256"], entity["contentSize"]) == (hashlib.sha256(data).hexdigest(), str(len(data)))
    action = found["#run"]
    assert action["actionStatus"].endswith("FailedActionStatus") and "1 out_of_memory" in action["error"]
    large = next(entity for name, entity in found.items() if name.startswith("ni:///sha-256;"))
    assert large["name"] == "large.bin" and large["sha256"] == hashlib.sha256(bytes(5000)).hexdigest()
    assert {"data/in/grid%201.csv", "data/out.csv", "workflow.json", "report.html"} <= set(found)
    used = {name for entity in found.values() for name in entity} | {
        str(e["@type"]) for e in found.values() if isinstance(e["@type"], str)
    }
    assert used - {"@id", "@type", "environment", "sha256"} <= set(TERMS), "the validator was told of every term"


@pytest.mark.parametrize("given", ["0000-0002-1825-0097", "http://orcid.org/0000-0002-1694-233x"])
def test_an_orcid_is_checked_before_it_stands_in_an_archive(given: str) -> None:
    assert orcid_of(given) == f"https://orcid.org/{given[-19:].upper()}"
    for wrong in (given[:-1] + "1", f"{given}0", "Kim Doe", ""):
        with pytest.raises(Invalid, match="not an ORCID"):
            orcid_of(wrong)


def test_a_crate_holds_no_secrets_and_no_way_out(embedded: Embedded, tmp_path: Path) -> None:
    report = study(embedded, tmp_path)
    (tmp_path.parent / "gone.csv").write_text("x\n")
    out = tmp_path / "crate.zip"
    write_crate(report, out, About(), 10_000)
    first = out.read_bytes()
    write_crate(report, out, About(), 10_000)
    assert out.read_bytes() == first, "the same run gives the same bytes"
    with zipfile.ZipFile(out) as archive:
        texts = {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}
    assert not [name for name in texts if name.startswith("/") or ".." in name]
    assert "s3cr3t-value-1" not in "".join(texts.values())
    rows = list(csv.DictReader(texts["attempts.csv"].splitlines()))
    assert [(row["job_name"], row["state"]) for row in rows] == [("a", "completed"), ("b", "completed")]
    assert entities(texts["ro-crate-metadata.json"])["#run"]["actionStatus"].endswith("CompletedActionStatus")
    (tmp_path.parent / "gone.csv").unlink()


def test_a_file_that_changed_since_the_run_is_not_passed_off_as_what_it_read(
    embedded: Embedded, tmp_path: Path
) -> None:
    report = study(embedded, tmp_path)
    (tmp_path / "in/grid 1.csv").write_text("something else\n")
    write_crate(report, tmp_path / "crate", About(), 1000)
    assert not (tmp_path / "crate/data/in").exists()


def test_a_file_that_became_a_link_to_something_elsewhere_is_not_packed(embedded: Embedded, tmp_path: Path) -> None:
    directory = tmp_path / "study"
    directory.mkdir()
    report = study(embedded, directory)
    (tmp_path / "private").write_text("a,b\n")  # the same bytes: no hash could tell
    grid = directory / "in/grid 1.csv"
    grid.unlink()
    grid.symlink_to(tmp_path / "private")
    write_crate(report, tmp_path / "crate", About(), 1000)
    assert not (tmp_path / "crate/data/in").exists()
    grid.unlink()
    (directory / "kept").write_text("a,b\n")
    grid.symlink_to("../kept")
    write_crate(report, tmp_path / "second", About(), 1000)
    assert (tmp_path / "second/data/in/grid 1.csv").read_text() == "a,b\n"


@pytest.mark.parametrize("name", ["crate", "crate.zip"])
@pytest.mark.parametrize(
    ("happens", "told"), [("written", "grid 1.csv changed while"), ("removed", "cannot read .*grid 1")]
)
def test_a_file_that_changes_while_it_is_packed_never_stands_beside_a_digest_of_other_bytes(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, happens: str, told: str
) -> None:
    report = study(embedded, tmp_path)

    def described(*args: Any) -> dict[str, Any]:
        grid = tmp_path / "in/grid 1.csv"
        grid.write_text("c,d\n") if happens == "written" else grid.unlink()
        return metadata(*args)

    monkeypatch.setattr("torc.reports.archive.metadata", described)
    with pytest.raises(Unavailable, match=told):
        write_crate(report, tmp_path / name, About(), 1000)
    assert not [path.name for path in tmp_path.iterdir() if "crate" in path.name]


def test_a_place_that_is_taken_is_left_alone(embedded: Embedded, tmp_path: Path) -> None:
    report = gather(embedded, create(embedded, spec("a"), str(tmp_path)).id, NOW, "9.9")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    with pytest.raises(Invalid, match="already exists"):
        write_crate(report, tmp_path / "full", About(), 0)
    with pytest.raises(Invalid, match="no directory"):
        write_crate(report, tmp_path / "none/crate", About(), 0)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_readme_of_a_crate_shows_what_others_wrote_and_is_nothing_else(embedded: Embedded, tmp_path: Path) -> None:
    report = study(embedded, tmp_path)
    evil = "<script>x</script>\x1b]0;title\x07\u202e [a](javascript:b)"
    changed = report.summary.workflow.model_copy(update={"name": evil, "description": evil})
    summary = report.summary.model_copy(update={"workflow": changed})
    write_crate(replace(report, summary=summary), tmp_path / "crate", About(LICENSE), 1000)
    text = (tmp_path / "crate" / "README.md").read_text()
    shown = r"\<script\>x\</script\> \[a\]\(javascript:b\)"
    assert text.startswith(f"# {shown}: run 1\n\n{shown}\n\n")
    with pytest.raises(Invalid, match="not an ORCID"):
        orcid_of("\u0660\u0660\u0660\u0660-\u0660\u0660\u0660\u0662-\u0661\u0668\u0662\u0665-\u0660\u06697")
