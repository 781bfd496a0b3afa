"""Charts: well-formed whatever jobs are called, all that ran is in them, and they stay small for many jobs."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from torc.reports.charts.distributions import spreads
from torc.reports.charts.efficiency import efficiency
from torc.reports.charts.page import SCRIPT, STYLE, Section, picture
from torc.reports.charts.profiles import profiles, totals
from torc.reports.charts.records import ChartedAttempt, Series
from torc.reports.charts.timeline import MOST_ROWS, STATES, running, timeline
from torc.reports.plots import page
from torc.workflow.resources import Capacity, ResourceRequest

GIB = 1 << 30
REQUEST = ResourceRequest(2, 0, 1, 4 * GIB, 600)
SVG = "{http://www.w3.org/2000/svg}"


def attempt(
    job_id: int, start: float, end: float, *, name: str = "", state: str = "completed", group: str = "small"
) -> ChartedAttempt:
    return ChartedAttempt(job_id, 1, name or f"job_{job_id}", group, state, start, end, REQUEST, end - start, GIB)


def series(
    job_id: int, start: float, *, group: str = "small", memory: int = GIB, gpus: tuple[float, ...] = ()
) -> Series:
    times = (1.0, 2.0, 3.0)
    gpu_memory = tuple(GIB for _ in gpus)
    return Series(
        job_id, 1, f"job_{job_id}", group, start, REQUEST, times, (0.5, 1.5, 1.0), (memory,) * 3, gpus, gpu_memory
    )


def elements(text: str, tag: str, look: str = "") -> list[ElementTree.Element]:
    root = ElementTree.fromstring(text)
    return [each for each in root.iter(SVG + tag) if look in each.get("class", "")]


@settings(max_examples=examples(30))
@given(
    st.lists(
        st.tuples(
            st.text(max_size=60), st.sampled_from(STATES), st.text(max_size=8), st.floats(0, 1e7), st.floats(0, 1e7)
        ),
        max_size=60,
    )
)
def test_charts_are_well_formed_whatever_jobs_and_classes_are_called(
    rows: list[tuple[str, str, str, float, float]],
) -> None:
    attempts = [
        attempt(number, start, start + length, name=name, state=state, group=group)
        for number, (name, state, group, start, length) in enumerate(rows)
    ]
    for chart in (
        timeline(attempts),
        spreads(attempts),
        picture("<&>\x00", efficiency(attempts), [Section("t", "w", timeline(attempts))]),
    ):
        ElementTree.fromstring(chart)


def test_a_small_run_is_drawn_job_by_job_with_attempts_of_one_job_in_one_row() -> None:
    first = attempt(1, 0, 10, state="failed")
    drawn = timeline([first, attempt(1, 12, 20), attempt(2, 0, 20)])
    assert len(elements(drawn, "g", "item")) == 2
    assert [bar.get("class") for bar in elements(drawn, "rect", "fill") if bar.find(SVG + "title") is not None] == [
        "fill failed",
        "fill completed",
        "fill completed",
    ]
    assert "job_1: failed after 10s" in drawn and "memory 1 GiB of 4 GiB, CPU 1.00 of 2" in drawn


def test_ten_thousand_jobs_are_summed_up_and_the_chart_stays_small() -> None:
    attempts = [attempt(n, n, n + 5, state="failed" if n % 50 == 0 else "completed") for n in range(10_000)]
    samples = [series(n, n) for n in range(10_000)]
    drawn = timeline(attempts)
    assert len(elements(drawn, "g", "item")) == 1 and "job_* (10,000)" in drawn
    assert "200 failed" in drawn and "9,800 completed" in drawn
    assert sum(map(len, (drawn, spreads(attempts), profiles(samples), totals(samples)))) < 300_000


def test_unlike_names_never_make_more_rows_than_can_be_read() -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    names = [first + second for first in alphabet for second in alphabet]
    drawn = timeline([attempt(n, 0, 1, name=name) for n, name in enumerate(names)])
    assert len(elements(drawn, "g", "item")) == MOST_ROWS + 1 and "others" in drawn


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=30), st.integers(1, 50))
def test_how_many_run_at_once_is_the_mean_over_each_part_of_the_time(ends: list[tuple[int, int]], bins: int) -> None:
    intervals = [(float(min(pair)), float(max(pair))) for pair in ends]
    width = 100 / bins
    exact = [
        sum(max(0.0, min(end, (n + 1) * width) - max(start, n * width)) for start, end in intervals) / width
        for n in range(bins)
    ]
    assert running(intervals, 100.0, bins) == pytest.approx(exact, abs=1e-6)


def test_the_request_is_drawn_where_it_is_near_and_named_where_it_is_far() -> None:
    near, far = profiles([series(1, 0, memory=3 * GIB)]), profiles([series(1, 0, memory=GIB >> 4)])
    assert len(elements(near, "line", "stroke asked")) == len(elements(far, "line", "stroke asked")) + 1
    assert "requested 4 GiB" in near and "requested 4 GiB ↑" in far and "requested 4 GiB ↑" not in near


def test_gpus_have_panels_of_their_own_where_there_were_any() -> None:
    assert "GPUs busy" in profiles([series(1, 0, gpus=(0.5, 0.9, 1.0))]) and "GPU memory" not in profiles(
        [series(1, 0)]
    )


def test_many_jobs_of_a_class_become_bands() -> None:
    drawn = profiles([series(n, 0, memory=n * GIB // 100) for n in range(1, 101)])
    assert not elements(drawn, "g", "item")
    assert len(elements(drawn, "path", "fill band")) == len(elements(drawn, "path", "stroke middle")) == 2


def test_the_most_of_very_many_jobs_is_that_of_the_largest() -> None:
    def highest(samples: list[Series]) -> str:
        line = elements(profiles(samples), "path", "stroke most")[1]
        return (line.get("d") or "").split(" ")[1].split("L")[0]

    many = [series(n, 0, memory=3 * GIB if n == 1 else GIB) for n in range(4000)]
    few = [series(n, 0, memory=3 * GIB if n == 1 else GIB) for n in range(100)]
    assert highest(many) == highest(few)


def test_what_all_jobs_use_is_set_against_what_was_asked_and_what_there_is() -> None:
    drawn = totals([series(1, 0), series(2, 0), series(3, 3)], Capacity(4, 16 * GIB))
    assert "1.5 used of 3 requested on average, available: 4" in drawn


def test_a_class_that_asked_for_no_memory_is_not_held_against_its_default() -> None:
    silent = ChartedAttempt(1, 1, "a", "default", "completed", 0, 1, ResourceRequest(), 1.0, 14 << 20)
    assert "14 MiB, at most 14 MiB; none requested" in spreads([silent])


def test_the_figures_of_a_run() -> None:
    found = {each.name: each.value for each in efficiency([attempt(1, 0, 10), attempt(2, 0, 20, state="failed")])}
    assert found == {
        "wall time": "20s",
        "attempts": "2",
        "at once": "1.5",
        "CPU used": "50%",
        "memory used": "25%",
        "unsuccessful": "67%",
    }
    assert efficiency([]) == []


def test_a_page_asks_nothing_of_the_network_and_knows_light_and_dark() -> None:
    made = page(
        "a <run>",
        "words",
        efficiency([attempt(1, 0, 10)]),
        [Section("Timeline", "what ran", timeline([attempt(1, 0, 10)]))],
    )
    assert not re.search(r"(?:src|href|url\(|@import|fetch\()", made)
    assert set(re.findall(r"https?://[^\"' )]*", made)) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme:dark" in STYLE and SCRIPT in made and "a &lt;run&gt;" in made


def test_a_picture_has_colours_of_its_own() -> None:
    sections = [Section("Timeline", "what ran", timeline([attempt(1, 0, 10)]))]
    light, dark = picture("run", [], sections), picture("run", [], sections, dark=True)
    assert "var(" not in light and "$" not in light and light != dark
