"""How often the diagnosis of a failed job is right, and how long it takes for many."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path

from benchmarks import specs
from benchmarks.failures import Case, cases
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes
from benchmarks.store import Conversation
from torc.failures.diagnosis import diagnose

TARGET_SECONDS = 5.0
_ENDINGS = 40


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Diagnose the collection, and group the failed jobs of a workflow."""
    known = list(cases())
    times, told = [], []
    for case in known:
        began = time.perf_counter()
        told.append(diagnose(case.facts).category)
        times.append(time.perf_counter() - began)
    rows = [
        Row(
            f"diagnoses of {len(known)} logs that are right",
            f"{sum(case.category == found for case, found in zip(known, told, strict=True)) / len(known):.0%}",
        ),
        Row(
            "time of one diagnosis",
            f"median {milliseconds(statistics.median(times))}, longest {milliseconds(max(times))}",
        ),
        *_by_category(known, told),
    ]
    return [*rows, _many(known, sizes.failed_jobs, folder)]


def _by_category(known: list[Case], told: list[str]) -> list[Row]:
    wanted, found = Counter(case.category for case in known), Counter(told)
    right = Counter(case.category for case, category in zip(known, told, strict=True) if case.category == category)
    return [
        Row(
            f"  {category}: {number} logs",
            f"precision {right[category] / found[category] if found[category] else 0:.0%}, recall {right[category] / number:.0%}",
        )
        for category, number in sorted(wanted.items())
    ]


def _many(known: list[Case], number: int, folder: Path) -> Row:
    """Fail jobs with the ends of these logs, each a little other than the others, and group them."""
    folder.mkdir(parents=True)
    texts = [case.facts.logs[0].text for case in known if case.facts.logs][:_ENDINGS]
    talk = Conversation(folder / "failed.db", specs.sweep(number), folder)
    talk.fail_all(lambda at: f"job {at} begins at step {at * 7}\n{texts[at % len(texts)]}")
    began = time.perf_counter()
    groups = talk.diagnose()
    seconds = time.perf_counter() - began
    return Row(
        f"group {number:,} failed jobs ({groups} groups)",
        milliseconds(seconds),
        target=f"<= {TARGET_SECONDS:g} s for 10,000",
        met=seconds <= TARGET_SECONDS,
    )
