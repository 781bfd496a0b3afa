"""Who waits for whom: from what jobs read, write and depend on to gates. Finds two producers, and cycles.

The prerequisites of a job depend on what it reads and on what it depends on; each distinct pair is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from torc.core.gates import build_gates
from torc.core.graph import cycle_text, find_cycle, graph_of
from torc.spec.build import Builder, Shape
from torc.spec.plan import InputSet
from torc.spec.resolve import Indexes, Names, merged


class Template(Protocol):
    """What is needed of the jobs of one template."""

    shape: Shape
    first: int
    count: int
    relations: dict[str, Iterable[Indexes]]
    input_sets: Iterable[int | None]


class Connected(NamedTuple):
    """Gates, the gate of each job, and who writes what."""

    gates: list[tuple[int, ...]]
    gate_of: list[int | None]
    file_producer: dict[int, int]
    data_producer: dict[int, int]


def connect(builder: Builder, templates: Sequence[Template], input_sets: Sequence[InputSet]) -> Connected | None:
    """Find prerequisites, gates and cycles; None when there were errors."""
    files = _producers(builder, templates, "output_files", builder.files)
    user_data = _producers(builder, templates, "output_user_data", builder.user_data)
    if builder.document.failed:
        return None
    produced = [_produced(inputs, files, user_data) for inputs in input_sets]
    known: dict[tuple[int | None, int], Indexes] = {}
    prerequisites: list[Indexes] = []
    for template in templates:
        depends, inputs = template.relations["depends_on"], template.input_sets
        is_same_for_all = isinstance(depends, repeat) and isinstance(inputs, repeat)
        for input_set, behind in zip(inputs, depends, strict=False):
            # `behind` lives as long as its column, so its id is its own
            key = (input_set, id(behind))
            found = known.get(key)
            if found is None:
                read = () if input_set is None else produced[input_set]
                found = known[key] = tuple(sorted(merged(read, behind)))
            prerequisites.append(found)
            if is_same_for_all:
                prerequisites.extend(repeat(found, template.count - 1))
                break
            if len(prerequisites) == template.first + template.count:
                break
    gates, gate_of = build_gates(prerequisites)
    if gates and _report_cycle(builder, templates, gates, gate_of):
        return None
    return Connected(gates, gate_of, files, user_data)


def _producers(builder: Builder, templates: Sequence[Template], relation: str, names: Names) -> dict[int, int]:
    """Give the job that writes each thing; two are reported, once for a template."""
    producers: dict[int, int] = {}
    for template in templates:
        for number, outputs in zip(range(template.first, template.first + template.count), template.relations[relation],
                                   strict=False):  # fmt: skip
            clash = next((o for o in outputs if producers.setdefault(o, number) != number), None)
            if clash is not None:
                jobs = list(builder.jobs.index)
                what = f"{names.noun} `{list(names.index)[clash]}` is written by two jobs"
                message = f"{what}: `{jobs[producers[clash]]}` and `{jobs[number]}`"
                hint = "give each job an output of its own"
                builder.report("two_producers", message, template.shape.path, suggestion=hint)
                break
            if not outputs and isinstance(template.relations[relation], repeat):
                break
    return producers


def _produced(inputs: InputSet, files: dict[int, int], user_data: dict[int, int]) -> Indexes:
    found = dict.fromkeys(files[index] for index in inputs.files if index in files)
    found.update(dict.fromkeys(user_data[index] for index in inputs.user_data if index in user_data))
    return tuple(found)


def _report_cycle(
    builder: Builder, templates: Sequence[Template], gates: Sequence[tuple[int, ...]], gate_of: Sequence[int | None]
) -> bool:
    cycle = find_cycle(graph_of(gates, gate_of))
    if cycle is None:
        return False
    text = cycle_text(cycle, list(builder.jobs.index))
    path = next(t.shape.path for t in reversed(templates) if t.first <= cycle[0])
    builder.report("cycle", f"jobs wait for each other in a circle: {text}", path)
    return True
