"""Files are compared by path: two names for one path are one file, and what lies in a folder belongs to its writer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from torc.runner.symbolic_links import links_of
from torc.spec.compiler import compile_spec
from torc.spec.diagnostics import Diagnostic
from torc.spec.expansion.paths import Place, place_of, placing
from torc.spec.plan import Plan


def compiled(
    jobs: dict[str, tuple[list[str], list[str]]], place: Place = place_of, **more: list[str]
) -> tuple[Plan | None, list[Diagnostic]]:
    """Compile jobs that read and write paths. `more`: what jobs depend on."""
    paths = list(dict.fromkeys(path for reads, writes in jobs.values() for path in (*reads, *writes)))
    document: dict[str, Any] = {
        "name": "w",
        "files": [{"name": f"f{n}", "path": path} for n, path in enumerate(paths)],
        "jobs": [
            {
                "name": name,
                "command": "true",
                "depends_on": more.get(name, []),
                "input_files": [f"f{paths.index(p)}" for p in reads],
                "output_files": [f"f{paths.index(p)}" for p in writes],
            }
            for name, (reads, writes) in jobs.items()
        ],
    }
    return compile_spec(json.dumps(document), format="json", place=place)


def waits(plan: Plan | None) -> dict[str, set[str]]:
    assert plan is not None
    names = [job.name for job in plan.jobs]
    return {
        job.name: {names[at] for at in plan.gates[job.gate]} if job.gate is not None else set() for job in plan.jobs
    }


SAME = [
    ("res.txt", "./res.txt"),
    ("res.txt", "sub/../res.txt"),
    ("a/b", "a//b"),
    ("a/b", "a/./b"),
    ("out", "out/"),
    ("/x/y", "//x/y"),
    ("/x/y", "/x/z/../y"),
    ("../x", "./../x"),
    ("res.txt", "/work/here/res.txt"),
    ("/work/x", "../x"),
    ("a", "../here/a"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_names_for_one_path_make_a_dependency_and_cannot_both_be_written(one: str, other: str) -> None:
    place = placing("/work/here")
    plan, found = compiled({"reader": ([other], []), "writer": ([], [one])}, place)
    assert waits(plan) == {"reader": {"writer"}, "writer": set()}, found
    assert plan is not None and [file.producer for file in plan.files] == [1, 1], "neither has to be there before"
    plan, found = compiled({"w1": ([], [one]), "w2": ([], [other])}, place)
    assert plan is None
    assert [problem.code for problem in found] == ["two_producers"]
    assert "two jobs write the same file: `w1` and `w2`" in found[0].message


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("a", "A"), ("a", "../a"), ("a", "/a"), ("ab", "a/b"), ("a", "a b")]
)
def test_different_paths_have_nothing_to_do_with_each_other(one: str, other: str) -> None:
    plan, _ = compiled({"reader": ([other], []), "writer": ([], [one])}, placing("/work/here"))
    assert waits(plan) == {"reader": set(), "writer": set()}
    plan, _ = compiled({"w1": ([], [one]), "w2": ([], [other])}, placing("/work/here"))
    assert plan is not None


def test_a_file_in_an_output_folder_belongs_to_the_job_that_writes_the_folder() -> None:
    plan, _ = compiled({"reader": (["out/deep/x.txt"], []), "writer": ([], ["./out/"])})
    assert waits(plan) == {"reader": {"writer"}, "writer": set()}
    assert plan is not None and [file.producer for file in plan.files] == [1, 1]


def test_the_job_that_names_a_file_wins_over_the_one_that_writes_the_folder() -> None:
    plan, _ = compiled({"make": ([], ["out"]), "fill": ([], ["out/x"]), "read": (["out/x"], [])}, fill=["make"])
    assert waits(plan) == {"make": set(), "fill": {"make"}, "read": {"fill"}}


def test_who_reads_a_folder_waits_for_all_that_write_into_it() -> None:
    plan, _ = compiled({"read": (["out"], []), "a": ([], ["out/a"]), "b": ([], ["out/deep/b"]), "c": ([], ["other/c"])})
    assert waits(plan) == {"read": {"a", "b"}, "a": set(), "b": set(), "c": set()}
    assert plan is not None and plan.files[0].producer is not None, "the folder need not be there before"


def test_who_writes_into_the_folder_that_it_reads_waits_for_nobody_by_it() -> None:
    plan, _ = compiled({"a": (["data"], ["data/a"]), "b": (["data"], ["data/b"]), "sum": (["data"], ["sum"])})
    assert waits(plan) == {"a": set(), "b": set(), "sum": {"a", "b"}}


def test_a_job_may_read_in_the_folder_that_it_writes() -> None:
    plan, found = compiled({"a": (["data/config"], ["data"]), "b": (["data/config"], [])})
    assert waits(plan) == {"a": set(), "b": {"a"}}, found


@pytest.mark.parametrize("order", [{}, {"fill": ["make"]}, {"make": ["fill"]}], ids=["none", "after", "before"])
def test_a_folder_and_a_file_in_it_may_have_two_writers_only_in_an_order(order: dict[str, list[str]]) -> None:
    plan, found = compiled({"make": ([], ["out"]), "fill": ([], ["out/x"])}, **order)
    assert (plan is not None) == bool(order)
    if not order:
        assert [problem.code for problem in found] == ["two_producers"]
        assert "out/x of `fill` is in out, which `make` writes" in found[0].message


def test_an_order_by_way_of_other_jobs_counts() -> None:
    jobs = {"make": ([], ["out"]), "middle": (["out"], ["m"]), "fill": (["m"], ["out/x"])}
    plan, found = compiled(jobs)  # type: ignore[arg-type]
    assert plan is not None, found


def test_many_jobs_that_read_a_folder_share_one_gate() -> None:
    jobs: dict[str, Any] = {f"w{n}": ([], [f"out/{n}"]) for n in range(50)}
    jobs |= {f"r{n}": (["out"], []) for n in range(50)}
    plan, _ = compiled(jobs)
    assert plan is not None
    assert [len(gate) for gate in plan.gates] == [50]


def test_symbolic_links_are_followed_by_whoever_sees_them(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").symlink_to("real/x")
    (tmp_path / "outside").symlink_to("/usr")
    paths = ["real/x", "link/x", "file", "link/../y", "outside/z", "plain", str(tmp_path / "link" / "x")]
    links = links_of(paths, str(tmp_path))
    assert links == {
        "link/x": "real/x",
        "file": "real/x",
        "outside/z": "/usr/z",
        str(tmp_path / "link" / "x"): "real/x",
    }
    place = placing(str(tmp_path), links)
    plan, _ = compiled({"reader": (["link/x"], []), "writer": ([], ["real/x"])}, place)
    assert waits(plan)["reader"] == {"writer"}
    assert compiled({"w1": ([], ["link/x"]), "w2": ([], ["file"])}, place)[0] is None


SEGMENTS = st.lists(st.sampled_from(["a", "b", ".", "..", "", "c d"]), min_size=1, max_size=6)


@settings(max_examples=examples(200), deadline=None)
@given(segments=SEGMENTS, absolute=st.booleans())
def test_a_place_is_what_the_system_makes_of_a_path_without_links(segments: list[str], absolute: bool) -> None:
    path = ("/nowhere/here/" if absolute else "") + "/".join(segments)
    directory = "/nowhere/here"
    if not path:
        return
    place = place_of(path, directory)
    assert os.path.join(directory, place).rstrip("/.").rstrip("/") == os.path.normpath(
        os.path.join(directory, path)
    ).replace("//", "/").rstrip("/")
    assert place_of(place, directory) == place
    assert not place.startswith("/nowhere/here/")


PATHS = st.lists(st.sampled_from(["a", "b", "a/x", "a/y", "./a", "b/../a/x", "a/x/z", "b/"]), max_size=2, unique=True)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(PATHS, PATHS), min_size=1, max_size=5))
def test_every_reader_waits_for_every_writer_of_the_same_place(jobs: list[tuple[list[str], list[str]]]) -> None:
    plan, found = compiled({f"j{n}": job for n, job in enumerate(jobs)})
    if plan is None:
        assert {problem.code for problem in found} <= {"two_producers", "cycle"}
        return
    behind = waits(plan)
    for reader, (reads, _) in enumerate(jobs):
        for writer, (_, writes) in enumerate(jobs):
            if {place_of(path) for path in reads} & {place_of(path) for path in writes}:
                assert f"j{writer}" in behind[f"j{reader}"]
    writers = [place_of(path) for _, writes in jobs for path in {place_of(p) for p in writes}]
    assert len(writers) == len(set(writers))
