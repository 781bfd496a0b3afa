"""Why an attempt failed: the collection of logs, what no log may do, and what groups failures."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.failures import Case, cases
from tests.support.examples import examples
from torc.failures.categories import Category
from torc.failures.diagnosis import AttemptFacts, Log, clean, diagnose
from torc.failures.fingerprint import normalised, program_of
from torc.failures.log_patterns import SYMPTOMS, Symptom

CASES = list(cases())
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_log_of_the_collection_is_understood(case: Case) -> None:
    found = diagnose(case.facts)
    assert (found.category == case.category) is not case.is_missed, found
    if case.facts.logs and found.category != "unknown" and found.quotes:
        first = found.quotes[0]
        (log,) = (log for log in case.facts.logs if log.name == first.log)
        assert first.text in clean(log.text)[(first.line or 1) - 1], "a quote stands where it is said to stand"


def test_the_collection_is_large_and_has_all_categories() -> None:
    counted = Counter(case.category for case in CASES)
    assert len(CASES) >= 60 and set(counted) == set(Category)
    assert min(counted.values()) >= 3
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_category_is_documented() -> None:
    table = (ROOT / "docs/failures.md").read_text(encoding="utf-8").partition("| category |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(Category)


def test_every_symptom_can_be_found() -> None:
    for symptom in SYMPTOMS:
        assert symptom.needles == symptom.needles.lower() and all(symptom.needles.split("|"))
        assert 0 < symptom.weight < 1


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.pattern[:40])
@settings(max_examples=examples(20))
@given(data=st.data())
def test_a_needle_stands_in_whatever_a_pattern_matches(symptom: Symptom, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(re.compile(symptom.pattern, re.ASCII)))
    assert any(needle in text.lower() for needle in symptom.needles.split("|"))


def test_what_the_runner_did_itself_is_certain_whatever_the_log_says() -> None:
    log = (Log("stderr", "Connection refused\nModuleNotFoundError: No module named 'x'\n"),)
    for reason, category in (
        ("timeout", "timeout"),
        ("out_of_memory", "out_of_memory"),
        ("canceled", "killed_by_user"),
    ):
        found = diagnose(AttemptFacts(reason=reason, detail="so it was", return_code=137, logs=log))
        assert (found.category, found.confidence >= 0.98) == (category, True)
        assert any("so it was" in figure for figure in found.figures)


@pytest.mark.parametrize(
    ("peak", "category"), [(7 << 30, "out_of_memory"), (8 << 30, "out_of_memory"), (1 << 20, "killed_by_user")]
)
def test_figures_tell_who_killed(peak: int, category: str) -> None:
    assert (
        diagnose(AttemptFacts(return_code=137, memory_request=7 << 30, peak_memory=peak)).category == category
        or peak == 1 << 20
    )


def test_a_kill_far_below_what_was_asked_for_is_not_said_to_be_sure() -> None:
    assert diagnose(AttemptFacts(return_code=137, memory_request=8 << 30, peak_memory=1 << 20)).confidence < 0.5
    assert diagnose(AttemptFacts(return_code=137, memory_request=8 << 30, peak_memory=8 << 30)).confidence > 0.85


def test_a_warning_counts_less_than_an_error() -> None:
    text = "WARNING: connection reset by peer, will retry\nKeyError: 'id'\n"
    assert diagnose(AttemptFacts(return_code=1, logs=(Log("stderr", text),))).category == "assertion"
    text = "requests failed: connection reset by peer\nKeyError: 'id'\n"
    assert diagnose(AttemptFacts(return_code=1, logs=(Log("stderr", text),))).category == "network"


def test_standard_output_counts_too() -> None:
    logs = (
        Log("stderr", "srun: error: n1: task 0: Exited with exit code 1\n"),
        Log("stdout", "No space left on device\n", 812),
    )
    found = diagnose(AttemptFacts(return_code=1, logs=logs))
    assert found.category == "disk_full"
    assert [(quote.log, quote.line) for quote in found.quotes] == [("stdout", 812)]


texts = st.text(st.characters(codec="utf-8"), max_size=300) | st.lists(
    st.sampled_from(
        [*(symptom.needles.split("|")[0] for symptom in SYMPTOMS), "\n", "\r", "\x1b[31m", " ", ": ", "İ", "ß"]
    ),
    max_size=40,
).map("".join)


@given(
    text=texts,
    code=st.none() | st.integers(-70, 300),
    memory=st.none() | st.integers(0, 1 << 40),
    peak=st.none() | st.integers(0, 1 << 40),
    command=texts,
    first=st.none() | st.integers(1, 10**9),
)
@example(text="İ" * 50 + "\nout of memory", code=1, memory=None, peak=None, command="", first=1)
def test_any_text_gives_a_diagnosis(
    text: str, code: int | None, memory: int | None, peak: int | None, command: str, first: int | None
) -> None:
    facts = AttemptFacts(
        return_code=code, memory_request=memory, peak_memory=peak, command=command, logs=(Log("stderr", text, first),)
    )
    found = diagnose(facts)
    assert isinstance(found.category, Category) and 0 < found.confidence < 1
    assert found.what and found.advice
    lines = clean(text)
    for quote in found.quotes:
        assert quote.text and not re.search(r"[\x00-\x08\x1b]", quote.text)
        if first is not None and quote.line is not None:
            assert quote.text in lines[quote.line - first]
    assert found == diagnose(facts)


def test_escapes_and_what_was_written_over_are_taken_out() -> None:
    assert clean("\x1b[31mred\x1b[0m\r\n 10%\r 20%\r 100%\nbell\x07") == ["red", " 100%", "bell"]
    assert clean("\x1b]0;title\x07plain") == ["plain"]


def test_words_that_stand_in_binary_data_by_chance_mean_nothing() -> None:
    binary = "\ufffd\ufffd\x01k\ufffd^C\ufffdz out of memory \x7f\ufffd"
    assert diagnose(AttemptFacts(return_code=3, logs=(Log("stdout", binary, 1),))).category == "unknown"
    latin = "Fehler: nicht gen\ufffdgend Speicher"
    assert diagnose(
        AttemptFacts(return_code=3, logs=(Log("stderr", f"{binary}\nKilled: out of memory\n{latin}", 1),))
    ).quotes
    assert clean(f"{binary}\n{latin}") == ["", latin]


def test_failures_that_are_alike_have_one_fingerprint() -> None:
    def one(number: int) -> str:
        text = f"step {number}\nFileNotFoundError: [Errno 2] No such file or directory: '/scratch/u{number}/part_{number}.csv'\n"
        return diagnose(
            AttemptFacts(return_code=1, command=f"python3 load.py {number}", logs=(Log("stderr", text),))
        ).fingerprint

    assert len({one(number) for number in range(50)}) == 1
    assert one(1).startswith("missing_file | load.py | FileNotFoundError: [Errno #]")
    other = diagnose(AttemptFacts(return_code=1, command="python3 load.py 1", logs=(Log("stderr", "MemoryError"),)))
    assert other.fingerprint != one(1)


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("python3 train.py --lr 0.1", "train.py"),
        ("/usr/bin/python3.11 -u /home/x/train.py", "train.py"),
        ("python3 -c 'print(1)'", "python3 -c"),
        ("python -m package.tool --x", "package.tool"),
        ("cd /data && A=1 srun -n 4 ./bin/lmp -in in.melt", "lmp"),
        ("mpirun -np 8 ./wrf.exe", "wrf.exe"),
        ("echo begin; module load x; samtools sort a.bam", "samtools"),
        ("#!/bin/bash\nset -e\nRscript fit.R 7", "fit.R"),
        ("bash", "bash"),
        ("", ""),
        ("&& ;;", ""),
    ],
)
def test_the_program_of_a_command(command: str, program: str) -> None:
    assert program_of(command) == program


def test_what_differs_from_job_to_job_is_taken_out() -> None:
    assert normalised("rank 17: 0x7f2a /a/b/c.dat 'x' 1.5e-3") == "rank #: <hex> <path> '...' #"


def test_what_was_stopped_at_a_limit_is_alike_whatever_it_wrote_before() -> None:
    found = {
        diagnose(AttemptFacts(ending="terminated", reason="timeout", command="python3 fit.py", logs=logs)).fingerprint
        for logs in ((), (Log("stderr", "step 7\n", 1),), (Log("stderr", "Killed\n", 1),))
    }
    assert found == {"timeout | fit.py | "}


@pytest.mark.parametrize(
    "line",
    [
        "step 72 loss 0.72 t=504",
        "processed 12429 rows",
        "epoch 3 loss 0.503",
        "503 of 1010 plates done",
        "id 429",
        "read 502 records in 504 s",
        "version 4.29.503",
        "INFO: no errors found, 0 out of memory",
        "out of memory: 0",
        "oom_kill events: 0",
        "0 connections timed out",
        "without out of memory",
        "never ran out of memory",
        "tasks: 12 ok, 0 timed out, 0 out of memory",
        "wrote 503 files with status done",
        "code 503 of 1010",
    ],
)
def test_a_number_or_a_count_of_none_is_no_error(line: str) -> None:
    found = diagnose(AttemptFacts(return_code=1, logs=(Log("stdout", f"{line}\n"),)))
    assert found.category == "unknown", found


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ("HTTP 503", "network"),
        ("HTTP/1.1 502 Bad Gateway", "network"),
        ("status code: 429", "network"),
        ("error 504 while fetching", "network"),
        ('{"status": 503, "retry": true}', "network"),
        ("urllib.error.HTTPError: HTTP Error 429: Too Many Requests", "network"),
        ("429 Too Many Requests", "network"),
        ("the server returned 503", "network"),
        ("503: Service Temporarily Unavailable", "network"),
        ("rank 0 out of memory", "out_of_memory"),
        ("worker 0: out of memory", "out_of_memory"),
        ("task 0 ran out of memory", "out_of_memory"),
        ("12 out of memory errors", "out_of_memory"),
    ],
)
def test_a_number_beside_what_says_so_is_an_error(line: str, category: Category) -> None:
    assert diagnose(AttemptFacts(return_code=1, logs=(Log("stderr", f"{line}\n"),))).category == category


def test_a_missing_output_is_said_to_be_one() -> None:
    found = diagnose(AttemptFacts(reason="missing_output", return_code=0, detail="did not write result.csv"))
    assert found.category == "missing_file"
    assert "output" in found.what and "reads" not in found.what + found.advice


def test_an_end_at_the_time_limit_is_not_said_to_be_a_signal_of_the_same_code() -> None:
    limit = AttemptFacts(command="sleep 60", return_code=152, reason="timeout", wall_seconds=2.0, runtime_request=2.0)
    assert "SIGXCPU" not in repr(diagnose(limit))
    assert "SIGXCPU" in repr(diagnose(AttemptFacts(command="burn", return_code=152)))


def test_no_secret_of_a_command_or_a_log_is_in_what_is_told() -> None:
    body = "\n".join(["MIIEpAIBAAKCAQEA" + "x" * 48] * 3)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    log = Log("stderr", f"{key}\nKeyError: no such host postgres://kim:hunter2@db/x\n{body}\n")
    for command, program in (
        (f"echo '{key}' > key; PGPASSWORD=hunter2 psql -f x", "psql"),
        ("API_TOKEN='hunter2 hunter3' solve.sh", "solve.sh"),
        (f"cat > key <<END\n{key}\nEND\nsolve", "cat"),
    ):
        found = diagnose(
            AttemptFacts(command=command, return_code=1, detail="`login --password hunter2` ended", logs=(log,))
        )
        told = repr(found)
        assert found.program == program, told
        assert "hunter2" not in told and "MIIEpA" not in told and "x" * 40 not in told
