"""Write learned requests into the requirement classes of a spec.

The requests come from `torc.planning.history`. Templates of a class with similar needs keep sharing it; others get a class of their
own, and templates without known needs keep what they have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import NamedTuple

from torc.failures.fingerprint import program_of
from torc.failures.resource_adjustment import alike
from torc.planning.history import LearnedRequest, together
from torc.spec.model import JobSpec, NamedResourceRequirements, ResourceRequirements, WorkflowSpec

_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_MEBIBYTE = 1 << 20


class AppliedEstimate(NamedTuple):
    """A change for templates of one class: `template` are indexes of `jobs` in the spec."""

    templates: tuple[int, ...]
    old_name: str | None  # None: the templates had no named class
    name: str
    learnt: LearnedRequest


def adopt(spec: WorkflowSpec, learnt: Mapping[int, LearnedRequest]) -> tuple[WorkflowSpec, list[AppliedEstimate]]:
    """Return a copy of the spec whose templates request what was learned about them, and the changes."""
    jobs, classes = list(spec.jobs), list(spec.resource_requirements)
    adopted: list[AppliedEstimate] = []
    for old_name, members in _by_class(spec):
        known = [at for at in members if at in learnt]
        parts = alike([float(learnt[at].memory_bytes) for at in known])
        for part in parts:
            templates = tuple(sorted(known[at] for at in part))
            values = together([learnt[at] for at in templates])
            fields = {"memory": f"{-(-values.memory_bytes // _MEBIBYTE)}m", "runtime": f"{values.runtime_seconds}s"}
            if old_name is not None and len(parts) == 1 and len(known) == len(members):
                name = old_name
                at = next(number for number, item in enumerate(classes) if item.name == name)
                classes[at] = classes[at].model_copy(update=fields)
            else:
                name = _free(old_name, jobs[templates[0]], {item.name for item in classes})
                classes.append(_new_class(spec, old_name, name, jobs[templates[0]], fields))
                for template in templates:
                    jobs[template] = jobs[template].model_copy(update={"resource_requirements": name})
            adopted.append(AppliedEstimate(templates, old_name, name, values))
    return spec.model_copy(update={"jobs": jobs, "resource_requirements": classes}), adopted


def _by_class(spec: WorkflowSpec) -> list[tuple[str | None, list[int]]]:
    """Return the templates of each class with its name; those without a named class are grouped by nodes."""
    found: dict[object, tuple[str | None, list[int]]] = {}
    for at, job in enumerate(spec.jobs):
        wanted = job.resource_requirements
        if isinstance(wanted, str):
            found.setdefault(wanted, (wanted, []))[1].append(at)
        else:
            own = wanted or ResourceRequirements()
            found.setdefault((own.num_cpus, own.num_gpus, own.num_nodes), (None, []))[1].append(at)
    return list(found.values())


def _new_class(
    spec: WorkflowSpec, old_name: str | None, name: str, job: JobSpec, fields: Mapping[str, str]
) -> NamedResourceRequirements:
    base: ResourceRequirements | None = None
    if isinstance(job.resource_requirements, ResourceRequirements):
        base = job.resource_requirements
    elif old_name is not None:
        base = next((item for item in spec.resource_requirements if item.name == old_name), None)
    kept = {} if base is None else base.model_dump(exclude_unset=True, exclude={"name", "memory", "runtime"})
    return NamedResourceRequirements.model_validate({"name": name, **kept, **fields})


def _free(old_name: str | None, job: JobSpec, taken: Set[str]) -> str:
    """Return an unused name for a class."""
    program = (
        _NO_NAME.sub("_", program_of(job.command).rpartition(".")[0] or program_of(job.command)).strip("_") or "jobs"
    )
    stem = f"{old_name}_{program}" if old_name else program
    name, at = stem, 2
    while name in taken:
        name, at = f"{stem}_{at}", at + 1
    return name
