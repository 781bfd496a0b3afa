"""Regular expressions written by users. The only place where they are compiled.

RE2 matches in time linear in the text, whatever the pattern, so none can hang a command or a server. What RE2 does not support is
rejected with a suggestion. Fixed patterns of our own use `re`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

LONGEST_PATTERN = 10_000
#: maximum cost of all patterns in one document; a step is a character of a name times an instruction of a pattern
MOST_STEPS = 4_000_000_000
_MEMORY_BYTES = 1 << 20  # per compiled pattern
_STEPS_TO_COMPILE = 20_000
_PREFIX_BYTES = 64  # length of the prefix of names used for the bounds of what can match

_LOOK_AROUND = "a regular expression cannot look around its match: write what matches, or list the names"
_INSTEAD = (
    ("(?=", "look-ahead `(?=...)` is not supported", _LOOK_AROUND),
    ("(?!", "negative look-ahead `(?!...)` is not supported", _LOOK_AROUND),
    ("(?<=", "look-behind `(?<=...)` is not supported", _LOOK_AROUND),
    ("(?<!", "negative look-behind `(?<!...)` is not supported", _LOOK_AROUND),
    ("(?>", "the atomic group `(?>...)` is not supported", "write (?:...)"),
    ("(?P=", "the backreference `(?P=...)` is not supported", "write out the repeated text"),
    ("(?#", "the comment `(?#...)` is not supported", "leave it out"),
    ("(?x", "the flag `x` is not supported", "write the expression without spaces and comments"),
    ("(?(", "the condition `(?(...)...)` is not supported", "write the alternatives with |"),
    (r"\Z", r"`\Z` is not supported", r"leave it out: the whole name is matched; \z matches the end of the text"),
    (r"\u", r"`\u` is not supported", r"write \x{...}"),
    (r"\U", r"`\U` is not supported", r"write \x{...}"),
    (r"\N", r"`\N` is not supported", r"write \x{...}"),
)


class BadPattern(ValueError):
    """Text that is not a supported regular expression. `part` is the offending part."""

    def __init__(self, message: str, part: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.part, self.hint = part, hint


class TooCostly(ValueError):
    """The patterns together would take too long."""


class Pattern:
    """A compiled regular expression, matched against whole texts."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self.size: int = compiled.programsize

    def matches(self, encoded: bytes) -> bool:
        """Return whether it matches the whole of a text, given in UTF-8."""
        return self._compiled.fullmatch(encoded) is not None

    @cached_property
    def bounds(self) -> tuple[bytes, bytes] | None:
        """Return the smallest and largest texts that can match; None: any can."""
        try:
            least, greatest = self._compiled.possiblematchrange(_PREFIX_BYTES)
        except _engine().error:
            return None
        return least, greatest


def _engine() -> Any:
    """Import RE2 with the first pattern: most specs have none."""
    return import_module("re2")


def compile_pattern(text: str) -> Pattern:
    """Compile a regular expression. Raises BadPattern."""
    if len(text) > LONGEST_PATTERN:
        raise BadPattern(
            f"it has {len(text):,} characters (at most {LONGEST_PATTERN:,})", hint="list the names instead"
        )
    re2 = _engine()
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True
    try:
        return Pattern(re2.compile(text, options))
    except UnicodeEncodeError:
        raise BadPattern("it contains half of a surrogate pair, which is not a character") from None
    except re2.error as error:
        raise _explained(text, error) from None


def _explained(text: str, error: Exception) -> BadPattern:
    said = error.args[0] if error.args else ""
    said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    what, _, part = said.partition(": ")
    for start, message, hint in _INSTEAD:
        if part and start.startswith(part) and start in text:
            return BadPattern(message, start, hint)
    if what == "invalid escape sequence" and part[1:].isdigit():
        return BadPattern(f"the backreference `{part}` is not supported", part, "write out the repeated text")
    if what == "bad repetition operator":
        return BadPattern(f"`{part}` is not supported", part, "repeat with one of *, +, ? and {m,n}")
    if what == "invalid repetition size":
        return BadPattern(
            f"`{part}` repeats too often", part, "use at most 1000 repetitions; nested counts are multiplied"
        )
    if "too large" in what:
        return BadPattern("it is too large when its repetitions are expanded", "", "use fewer repetitions")
    return BadPattern(f"{what}: `{part}`" if part else what or "it cannot be read", part)


class MatchBudget:
    """The remaining cost allowed for the patterns of one document."""

    def __init__(self, steps: int = MOST_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Raise TooCostly if that is more than is left."""
        self._left -= steps
        if self._left < 0:
            raise TooCostly(
                "this regular expression, together with those before it, takes too many steps: each is tried on every name "
                "with the same beginning"
            )


class SearchableNames:
    """Names to be searched with patterns. Only those within the bounds of a pattern are tried."""

    def __init__(self, names: Sequence[str], effort: MatchBudget) -> None:
        self._names = [name.encode() for name in names]
        self._effort = effort

    def matching(self, text: str) -> list[int]:
        """Return the indexes of names that a regular expression matches as a whole. Raises BadPattern or TooCostly."""
        self._effort.spend(_STEPS_TO_COMPILE)
        pattern = compile_pattern(text)
        numbers: Sequence[int] = range(len(self._names))
        if pattern.bounds is not None:
            order, ordered = self._ordered
            least, greatest = pattern.bounds
            numbers = sorted(order[bisect_left(ordered, least) : bisect_right(ordered, greatest)])
        names = self._names
        self._effort.spend(pattern.size * sum(len(names[number]) + 1 for number in numbers))
        return [number for number in numbers if pattern.matches(names[number])]

    @cached_property
    def _ordered(self) -> tuple[list[int], list[bytes]]:
        order = sorted(range(len(self._names)), key=self._names.__getitem__)
        return order, [self._names[number] for number in order]
