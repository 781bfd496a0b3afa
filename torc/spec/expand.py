"""One object of a spec with parameters into many without: multiply and gather.

A parameter in the object's name multiplies it; the others are gathered: the items of its lists that mention them
become one item for each combination. Strings are compiled once into templates, so that an expanded string costs one
formatting operation.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from torc.spec.parameters import Value

_PLACE = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}")
_CLOSE = 0.75

Combination = tuple[int, ...]  # the index of a value for each parameter


class Unfit(ValueError):
    """A template that cannot be filled; the message says why."""


@dataclass(frozen=True, slots=True)
class Space:
    """The values of an object's parameters and the combinations that they make."""

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    zipped: bool = False

    def __len__(self) -> int:
        if not self.names:
            return 1
        return len(self.values[0]) if self.zipped else prod(len(values) for values in self.values)

    def combinations(self, chosen: Sequence[int]) -> Iterator[Combination]:
        """Give the distinct combinations of the chosen parameters, the last fastest; the others are at 0."""
        if self.zipped:  # all of them or none
            yield from ((row,) * len(self.names) for row in range(len(self) if chosen else 1))
            return
        yield from product(*(range(len(v)) if at in chosen else (0,) for at, v in enumerate(self.values)))

    def within(self, base: Combination, fixed: Sequence[int], free: Sequence[int]) -> Iterator[Combination]:
        """Give the combinations of the free parameters that go with the fixed ones of `base`."""
        if self.zipped:
            yield from ((row,) * len(self.names) for row in (range(len(self)) if free else base[:1]))
            return
        yield from product(*(range(len(v)) if at in free else (base[at],) for at, v in enumerate(self.values)))


@dataclass(frozen=True, slots=True)
class Template:
    """A string with places for parameters. `slots` gives for each place its parameter and the formatted values."""

    pattern: str
    slots: tuple[tuple[int, tuple[str, ...]], ...]

    def fill(self, combination: Combination) -> str:
        """Give the string for a combination."""
        if not self.slots:
            return self.pattern
        return self.pattern % tuple([texts[combination[at]] for at, texts in self.slots])

    @property
    def parameters(self) -> frozenset[int]:
        """The parameters that it mentions."""
        return frozenset(at for at, _ in self.slots)


class Templates:
    """Compiles strings over one space; formatted values are shared."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.index = {name: at for at, name in enumerate(space.names)}
        self._texts: dict[tuple[int, str], tuple[str, ...]] = {}

    def compile(self, text: str) -> Template:
        """Compile a string. Raises Unfit for a format specification that does not fit a value."""
        if not self.index or "{" not in text:
            return Template(text, ())
        parts: list[str] = []
        slots: list[tuple[int, tuple[str, ...]]] = []
        end = 0
        for match in _PLACE.finditer(text):
            at = self.index.get(match[1])
            if at is None:
                continue
            parts += [text[end : match.start()].replace("%", "%%"), "%s"]
            slots.append((at, self._formatted(at, match[2] or "")))
            end = match.end()
        if not slots:
            return Template(text, ())
        parts.append(text[end:].replace("%", "%%"))
        return Template("".join(parts), tuple(slots))

    def _formatted(self, at: int, specification: str) -> tuple[str, ...]:
        key = (at, specification)
        if key not in self._texts:
            self._texts[key] = tuple(self._one(at, value, specification) for value in self.space.values[at])
        return self._texts[key]

    def _one(self, at: int, value: Value, specification: str) -> str:
        name = self.space.names[at]
        if re.search(r"\d{4,}", specification):
            raise Unfit(f"the width in `{{{name}:{specification}}}` is too large")
        if isinstance(value, bool):
            value = str(value).lower()
        try:
            return format(value, specification)
        except ValueError as error:
            raise Unfit(f"`{{{name}:{specification}}}` does not fit the value {value!r}: {error}") from None

    def near_misses(self, text: str) -> list[tuple[str, str]]:
        """Give placeholders that look like misspelt parameters, each with the name that was probably meant."""
        found = []
        for match in _PLACE.finditer(text):
            if match[1] not in self.index:
                near = difflib.get_close_matches(match[1], self.index, 1, _CLOSE)
                found += [(match[0], name) for name in near]
        return found


def gathered_items(
    items: Sequence[Template], space: Space, base: Combination, multiplied: Sequence[int], gathered: Sequence[int]
) -> tuple[str, ...]:
    """Give the items of a list for one object: those that mention gathered parameters become many."""
    result: dict[str, None] = {}
    for item in items:
        mentioned = [at for at in gathered if at in item.parameters]
        if mentioned:
            result.update(dict.fromkeys(item.fill(c) for c in space.within(base, multiplied, mentioned)))
        else:
            result[item.fill(base)] = None
    return tuple(result)


def check_zip(names: Sequence[str], values: Mapping[str, Sequence[Value]]) -> None:
    """Raise Unfit when zipped parameters differ in length."""
    lengths = {name: len(values[name]) for name in names}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise Unfit(f"zipped parameters must have equally many values: {listed}")
