"""Text that others wrote is read by our own patterns: however it is made, the time grows as its length does."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable

import pytest

from torc.core.alike import normalised, program_of
from torc.core.diagnosis import clean
from torc.core.redact import cleaned, redact
from torc.spec.nearest import Nearest

READERS: list[Callable[[str], object]] = [redact, cleaned, normalised, program_of, clean]
#: what, repeated, makes a pattern begin again and again and never end
UNITS = [
    "a", " ", "/a", "://a:", "@", "=", "\\", "\\'", "'", '"', "token=", "password ", "--token ", "A_KEY", "sk-a", "eyJa.", "torc_1_bearer ",
    "-----BEGIN PRIVATE KEY-----", "AAAAAAAAAAAAAAAAAAAA\n", "-----END PRIVATE KEY-----", "signature=", "Cookie: a", " -u a", "\x1b[", "\x1b]", "\x9b",
    "\r", "1e", "0x", "&&", "a=b ",
]  # fmt: skip
_LENGTH = 20_000


def seconds(reader: Callable[[str], object], text: str) -> float:
    times = []
    for _ in range(3):
        begun = time.process_time()
        reader(text)
        times.append(time.process_time() - begun)
    return min(times)


@pytest.mark.parametrize("unit", UNITS)
def test_four_times_the_text_takes_no_sixteen_times_as_long(unit: str) -> None:
    for reader in READERS:
        number = _LENGTH // len(unit)
        assert seconds(reader, unit * number * 4) < 10 * seconds(reader, unit * number) + 0.05, reader.__name__


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
