"""Text that others wrote is read by our own patterns: however it is made, the time grows as its length does."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable

import pytest

from torc import display_text
from torc.failures.diagnosis import clean
from torc.failures.fingerprint import normalised, program_of
from torc.redaction import cleaned, redact
from torc.spec.compiler import compile_spec
from torc.spec.suggestions import Nearest
from torc.workflow import executable_content
from torc.workflow.executable_content import ExecutableContent, ShownJob, document_of, without_secrets


def shown_to_agree(text: str) -> object:
    jobs = [ShownJob("a", (("command", f"{text} 1"),)), ShownJob("b", (("command", f"{text} 2"),))]
    return document_of("run", ExecutableContent(jobs, (), ()), {"a": "t", "b": "t"}).text


def beside_other_letters(text: str) -> object:
    return executable_content.visible(f"{text} \u00e9")


def before_secrets_are_hidden(text: str) -> object:
    return without_secrets(text, redact)


def as_values_of_a_parameter(text: str) -> object:
    job = {"name": "j", "command": "true {i}", "parameters": {"i": text}}
    return compile_spec(json.dumps({"name": "n", "jobs": [job]}), format="json")


def as_kdl(text: str) -> object:
    return compile_spec(f'name "n"\n{text}', format="kdl")


READERS: list[Callable[[str], object]] = [
    redact,
    cleaned,
    normalised,
    program_of,
    clean,
    display_text.visible,
    display_text.visible_line,
    executable_content.visible,
    beside_other_letters,
    shown_to_agree,
    before_secrets_are_hidden,
    as_values_of_a_parameter,
]
#: what, repeated, makes a pattern begin again and again and never end
UNITS = [
    "a",
    " ",
    "/a",
    "://a:",
    "@",
    "=",
    "\\",
    "\\'",
    "'",
    '"',
    "token=",
    "password ",
    "--token ",
    "A_KEY",
    "sk-a",
    "eyJa.",
    "torc_1_bearer ",
    "-----BEGIN PRIVATE KEY-----",
    "AAAAAAAAAAAAAAAAAAAA\n",
    "-----END PRIVATE KEY-----",
    "signature=",
    "Cookie: a",
    " -u a",
    "\x1b[",
    "\x1b]",
    "\x9b",
    "\r",
    "1e",
    "0x",
    "&&",
    "a=b ",
    "1",
    "\t",
    "\u0430",
    "\u00e9",
    "a\u0430",
    "1\u0430",
    "1:",
    "[",
    "1.",
]
_LENGTH = 20_000


def seconds(reader: Callable[[str], object], text: str) -> float:
    times = []
    for _ in range(3):
        begun = time.process_time()
        reader(text)
        times.append(time.process_time() - begun)
    return min(times)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("unit", UNITS)
def test_four_times_the_text_takes_no_sixteen_times_as_long(unit: str) -> None:
    for reader in READERS:
        number = _LENGTH // len(unit)
        assert seconds(reader, unit * number * 4) < 10 * seconds(reader, unit * number) + 0.05, reader.__name__


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("unit", ["(", "(a", "(a)", "{", "/*", '"', "r#", "a ", "\\", "\\\n", "/-", "=", "1", "-"])
def test_four_times_a_kdl_text_takes_no_sixteen_times_as_long(unit: str) -> None:
    number = 6_000 // len(unit)
    assert seconds(as_kdl, unit * number * 4) < 10 * seconds(as_kdl, unit * number) + 0.05


@pytest.mark.usefixtures("large")
def test_names_that_are_all_alike_are_not_compared_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    ratio = difflib.SequenceMatcher.ratio
    monkeypatch.setattr(
        difflib.SequenceMatcher, "ratio", lambda self: compared.append(len(self.a) * len(self.b)) or ratio(self)
    )
    nearest = Nearest()
    known = ["a" * 190 + f"{number:09d}" for number in range(3000)]
    for number in range(50):
        nearest.of("a" * 190 + f"b{number}", known)
    assert 0 < sum(compared) <= 10_000_000
