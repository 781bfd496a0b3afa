"""Derive gates from what jobs read, write and depend on. Detects duplicate producers and cycles.

The prerequisites of a job follow from what it reads and what it depends on; each distinct pair is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from torc.spec.document import Path
from torc.spec.expansion.names import Indexes, Names, merged
from torc.spec.expansion.objects import Builder, ObjectTemplate
from torc.spec.expansion.paths import WrittenPaths, written
from torc.spec.plan import InputSet
from torc.workflow.gates import build_gates
from torc.workflow.graph import JobGraph, cycle_text, downstream, find_cycle, graph_of


class TemplateNeeds(Protocol):
    """The jobs of one template, as needed here."""

    shape: ObjectTemplate
    first: int
    count: int
    relations: dict[str, Iterable[Indexes]]
    input_sets: Iterable[int | None]


class Dependencies(NamedTuple):
    """Gates, the gate of each job, and the producers."""

    gates: list[tuple[int, ...]]
    gate_of: list[int | None]
    file_producer: dict[int, int]
    data_producer: dict[int, int]


def connect(
    builder: Builder, templates: Sequence[TemplateNeeds], input_sets: Sequence[InputSet], paths: Sequence[str]
) -> Dependencies | None:
    """Compute prerequisites, gates and cycles; None if there were errors. `paths`: paths of the files."""
    declared = _producers(builder, templates, "output_files", builder.files)
    user_data = _producers(builder, templates, "output_user_data", builder.user_data)
    if builder.document.failed:
        return None
    read = dict.fromkeys(file for inputs in input_sets for file in inputs.files)
    files = written(list(map(builder.place, paths)) if declared else (), declared, tuple(read))
    if files.clash is not None:
        _report_clash(builder, templates, files.clash, declared, paths)
        return None
    prerequisites = _prerequisites(templates, input_sets, files, user_data)
    gates, gate_of = build_gates(prerequisites)
    if gates and _report_cycle(builder, templates, gates, gate_of):
        return None
    if files.nested and _report_nested(builder, templates, files, graph_of(gates, gate_of), paths):
        return None
    return Dependencies(gates, gate_of, files.producer, user_data)


def _prerequisites(
    templates: Sequence[TemplateNeeds], input_sets: Sequence[InputSet], files: WrittenPaths, user_data: dict[int, int]
) -> list[Indexes]:
    """Return the prerequisites of each job in job order; equal lists are shared."""
    produced = [_produced(inputs, files, user_data) for inputs in input_sets]
    special = [frozenset(job for file in inputs.files for job in files.nearby.get(file, ())) for inputs in input_sets]
    known: dict[tuple[int | None, int], Indexes] = {}
    prerequisites: list[Indexes] = []
    for template in templates:
        end = template.first + template.count
        depends, inputs = template.relations["depends_on"], template.input_sets
        is_same_for_all = isinstance(depends, repeat) and isinstance(inputs, repeat)
        for input_set, behind in zip(inputs, depends, strict=False):
            writes_some = frozenset[int]() if input_set is None else special[input_set]
            if input_set is not None and len(prerequisites) in writes_some:
                own = _produced(input_sets[input_set], files, user_data, len(prerequisites))
                prerequisites.append(tuple(sorted(merged(own, behind))))
            else:
                # `behind` lives as long as its column, so its id is unique
                key = (input_set, id(behind))
                found = known.get(key)
                if found is None:
                    read = () if input_set is None else produced[input_set]
                    found = known[key] = tuple(sorted(merged(read, behind)))
                prerequisites.append(found)
                if is_same_for_all and not any(template.first <= job < end for job in writes_some):
                    prerequisites.extend(repeat(found, template.count - 1))
                    break
            if len(prerequisites) == end:
                break
    return prerequisites


def _report_clash(
    builder: Builder,
    templates: Sequence[TemplateNeeds],
    clash: tuple[int, int],
    producers: dict[int, int],
    paths: Sequence[str],
) -> None:
    first, second = (list(builder.files.index)[at] for at in clash)
    jobs = list(builder.jobs.index)
    one, other = producers[clash[0]], producers[clash[1]]
    message = f"two jobs write the same file: `{jobs[one]}` and `{jobs[other]}` write {builder.place(paths[clash[1]])}"
    hint = f"`{first}` ({paths[clash[0]]}) and `{second}` ({paths[clash[1]]}) are the same file: give each job its own output"
    builder.report("two_producers", message, _path_of(templates, other), suggestion=hint)


def _report_nested(
    builder: Builder, templates: Sequence[TemplateNeeds], files: WrittenPaths, graph: JobGraph, paths: Sequence[str]
) -> bool:
    """Report outputs inside a folder that another job writes, unless one of the two jobs waits for the other."""
    behind: dict[int, set[int]] = {}

    def waits(job: int, for_job: int) -> bool:
        if for_job not in behind:
            behind[for_job] = set(downstream(graph, [for_job]))
        return job in behind[for_job]

    for pair in files.nested:
        if waits(pair.inside_job, pair.folder_job) or waits(pair.folder_job, pair.inside_job):
            continue
        jobs = list(builder.jobs.index)
        message = (
            f"two jobs write the same file: {paths[pair.inside]} of `{jobs[pair.inside_job]}` is in "
            f"{paths[pair.folder]}, which `{jobs[pair.folder_job]}` writes"
        )
        hint = "let one of them wait for the other (`depends_on`), or give each job its own output"
        builder.report("two_producers", message, _path_of(templates, pair.inside_job), suggestion=hint)
        return True
    return False


def _path_of(templates: Sequence[TemplateNeeds], job: int) -> Path:
    return next(template.shape.path for template in reversed(templates) if template.first <= job)


def _producers(builder: Builder, templates: Sequence[TemplateNeeds], relation: str, names: Names) -> dict[int, int]:
    """Return the producer of each item; duplicate producers are reported once per template."""
    producers: dict[int, int] = {}
    for template in templates:
        for number, outputs in zip(
            range(template.first, template.first + template.count), template.relations[relation], strict=False
        ):
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


def _produced(inputs: InputSet, files: WrittenPaths, user_data: dict[int, int], job: int | None = None) -> Indexes:
    """Return the producers of what is read; if the job itself writes some of it, those that it waits for."""
    found = dict.fromkeys(writer for index in inputs.files for writer in files.writers(index, job))
    found.update(dict.fromkeys(user_data[index] for index in inputs.user_data if index in user_data))
    return tuple(found)


def _report_cycle(
    builder: Builder,
    templates: Sequence[TemplateNeeds],
    gates: Sequence[tuple[int, ...]],
    gate_of: Sequence[int | None],
) -> bool:
    cycle = find_cycle(graph_of(gates, gate_of))
    if cycle is None:
        return False
    text = cycle_text(cycle, list(builder.jobs.index))
    builder.report("cycle", f"jobs wait for each other in a cycle: {text}", _path_of(templates, cycle[0]))
    return True
