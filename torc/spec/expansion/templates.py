"""Apply parameters: strings with placeholders, filled for every combination; multiplication and gathering.

A parameter in an object's name multiplies the object; the others are gathered: items that mention them in the object's lists are
expanded to one item per combination. Strings are compiled once into templates and filled for all combinations by iterators that run
in C, so that a million strings take a second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product, repeat
from math import prod
from operator import mod

from torc.spec.expansion.parameters import ParameterColumn, Value, number_of, shown

#: `{p}` and `{p:spec}`, but not the shell's `${p}`
PLACE = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}")

Combination = tuple[int, ...]  # index of the value of each parameter
Chosen = tuple[int, ...]  # indexes of parameters, ascending


class UnfillableTemplate(ValueError):
    """A template that cannot be filled; the message says why."""


@dataclass(frozen=True, slots=True)
class ParameterSpace:
    """The values of an object's parameters and their combinations."""

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    zipped: bool = False

    def size(self, chosen: Collection[int]) -> int:
        """Return the number of combinations of the chosen parameters."""
        if self.zipped:
            return len(self.values[0]) if chosen else 1
        return prod(len(self.values[at]) for at in chosen)

    def combinations(self, chosen: Collection[int]) -> Iterator[Combination]:
        """Yield the distinct combinations of the chosen parameters, the last varying fastest; the others are at 0."""
        return self.within((0,) * len(self.names), chosen)

    def within(self, base: Combination, free: Collection[int]) -> Iterator[Combination]:
        """Yield the combinations of the free parameters; the others are as in `base`."""
        if not free:
            yield base
        elif self.zipped:  # they vary together: one of them means all
            yield from ((row,) * len(self.names) for row in range(len(self.values[0])))
        else:
            yield from product(*(range(len(v)) if at in free else (base[at],) for at, v in enumerate(self.values)))

    def column(self, at: int, texts: Sequence[str], chosen: Chosen) -> Iterator[str]:
        """Yield the text of one parameter for each combination of the chosen ones."""
        if self.zipped:
            return iter(texts)
        inner = prod(len(self.values[other]) for other in chosen if other > at)
        outer = prod(len(self.values[other]) for other in chosen if other < at)
        if inner == 1:
            return chain.from_iterable(repeat(texts, outer))
        return chain.from_iterable(chain.from_iterable(map(repeat, texts, repeat(inner))) for _ in range(outer))


@dataclass(frozen=True, slots=True)
class Template:
    """A string with placeholders. `slots` has, for each placeholder, its parameter and the formatted values."""

    pattern: str
    slots: tuple[tuple[int, tuple[str, ...]], ...] = ()
    parameters: frozenset[int] = frozenset()

    def fill(self, combination: Combination) -> str:
        """Return the string for a combination."""
        if not self.slots:
            return self.pattern
        return self.pattern % tuple([texts[combination[at]] for at, texts in self.slots])

    def fill_all(self, space: ParameterSpace, chosen: Chosen) -> Iterator[str]:
        """Yield the strings for all combinations of the chosen parameters, which must include all that it mentions."""
        if not self.slots:
            return repeat(self.pattern, space.size(chosen))
        columns = [space.column(at, texts, chosen) for at, texts in self.slots]
        return map(partial(mod, self.pattern), zip(*columns, strict=True))

    @property
    def longest(self) -> int:
        """Return the length of the longest string that it can produce."""
        return len(self.pattern) + sum(max(map(len, texts)) for _, texts in self.slots)


class Templates:
    """Compiles strings for one parameter space; formatted values are shared."""

    def __init__(self, space: ParameterSpace) -> None:
        self.space = space
        self.index = {name: at for at, name in enumerate(space.names)}
        self._texts: dict[tuple[int, str, bool], tuple[str, ...]] = {}

    def compile(self, text: str, *, in_regex: bool = False) -> Template:
        """Compile a string; in a regular expression, values match literally. Raises UnfillableTemplate."""
        if not self.index or "{" not in text:
            return Template(text)
        parts: list[str] = []
        slots: list[tuple[int, tuple[str, ...]]] = []
        end = 0
        for match in PLACE.finditer(text):
            at = self.index.get(match[1])
            if at is None:
                continue
            parts += [text[end : match.start()].replace("%", "%%"), "%s"]
            slots.append((at, self._formatted(at, match[2] or "", in_regex)))
            end = match.end()
        if not slots:
            return Template(text)
        parts.append(text[end:].replace("%", "%%"))
        return Template("".join(parts), tuple(slots), frozenset(at for at, _ in slots))

    def _formatted(self, at: int, specification: str, in_regex: bool) -> tuple[str, ...]:
        key = (at, specification, in_regex)
        known = self._texts.get(key)
        if known is None:
            name = self.space.names[at]
            if re.search(r"\d{4}", specification):
                raise UnfillableTemplate(f"the width in `{{{name}:{specification}}}` is too large")
            texts = (_formatted(name, value, specification) for value in self.space.values[at])
            known = self._texts[key] = tuple(map(re.escape, texts) if in_regex else texts)
        return known


def _formatted(name: str, value: Value, specification: str) -> str:
    if not specification:
        return shown(value)
    if isinstance(value, bool):
        value = shown(value)
    elif isinstance(value, str) and specification[-1] in "bcdoxXneEfFgG%":
        value = number_of(value)
    if isinstance(value, float) and specification[-1] == "d" and value.is_integer():
        value = int(value)
    try:
        return format(value, specification)
    except (ValueError, OverflowError) as error:
        raise UnfillableTemplate(f"`{{{name}:{specification}}}` does not fit the value {value!r}: {error}") from None


def gathered_items(
    items: Sequence[Template], space: ParameterSpace, base: Combination, gathered: Chosen
) -> tuple[str, ...]:
    """Return the items of a list for one object: items that mention gathered parameters are expanded."""
    result: dict[str, None] = {}
    for item in items:
        mentioned = item.parameters.intersection(gathered)
        result.update(dict.fromkeys(item.fill(combination) for combination in space.within(base, mentioned)))
    return tuple(result)


def check_gaps(values: Mapping[str, Sequence[Value]]) -> None:
    """Raise UnfillableTemplate if a zipped parameter skips a row, which would shift all following rows."""
    gaps = [listed.gap for listed in values.values() if isinstance(listed, ParameterColumn) and listed.gap is not None]
    if gaps and len(values) > 1:
        raise UnfillableTemplate(
            f"{'; '.join(gaps)}: zipped parameters are combined row by row and need a value in every row"
        )


def check_zip(values: Mapping[str, Sequence[Value]]) -> None:
    """Raise UnfillableTemplate if zipped parameters differ in length."""
    lengths = {name: len(listed) for name, listed in values.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise UnfillableTemplate(f"zipped parameters must have equally many values: {said}")
