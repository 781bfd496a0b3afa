"""The executable content of a plan: its jobs with their templates, and everything else that is executed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.spec.plan import JOB_TEXTS, USER_DATA_MARK, Plan, PlannedJob
from torc.units import human_bytes, human_duration
from torc.workflow.executable_content import (
    ExecutableContent,
    Parts,
    RequestedResources,
    SharedExecutable,
    ShownJob,
    visible,
)
from torc.workflow.resources import ResourceRequest

#: settings that affect how jobs are executed, such as containers and sbatch options
EXECUTING_SETTINGS = ("execution", *(each.defaults_field for each in SCHEDULER_TYPES.values()))


def parts_of(texts: Mapping[str, str | None], env: Parts) -> Parts:
    """Return the executed parts of a job: its texts by field name, and its variables."""
    return (*((name, text) for name, text in texts.items() if text), *env)


def environment(env: Mapping[str, str]) -> Parts:
    """Return variables as parts."""
    return tuple((f"env {name}", str(value)) for name, value in sorted(env.items()))


def planned_jobs(plan: Plan) -> dict[str, tuple[str, Parts]]:
    """Return the template name and the parts of each planned job whose template expands to several jobs."""
    names = [item.name for item in plan.user_data]
    found: dict[str, tuple[str, Parts]] = {}
    for at, first, count in plan.templates:
        if count < 2:
            continue
        for job in plan.jobs[first : first + count]:
            found[job.name] = (str(at), _parts_of_job(job, names))
    return found


def _parts_of_job(job: PlannedJob, names: Sequence[str]) -> Parts:
    texts = {field.name: text and _unmarked(text, names) for field in JOB_TEXTS for text in [getattr(job, field.name)]}
    return parts_of(texts, environment(job.env))


def _unmarked(command: str, names: Sequence[str]) -> str:
    if USER_DATA_MARK not in command:
        return command
    return re.sub(
        f"{USER_DATA_MARK}(\\d+){USER_DATA_MARK}", lambda mark: f"${{user_data {names[int(mark[1])]}}}", command
    )


def templates_of(
    jobs: Iterable[ShownJob], planned: Mapping[str, tuple[str, Parts]], names: Mapping[str, str]
) -> dict[str, str]:
    """Return the template of each job that is exactly what its template expands to."""
    return {
        job.name: names[planned[job.name][0]]
        for job in jobs
        if job.name in planned and planned[job.name][1] == job.parts
    }


def fields_of(fields: Any, path: str = "") -> list[tuple[str, str]]:
    """Flatten nested fields into parts, each with its path."""
    if isinstance(fields, Mapping):
        pairs: Iterable[tuple[str, Any]] = (
            (f"{path}.{key}" if path else str(key), fields[key]) for key in sorted(fields)
        )
    elif isinstance(fields, list):
        pairs = ((f"{path}[{at}]", item) for at, item in enumerate(fields))
    else:
        return [(path or "value", fields if isinstance(fields, str) else json.dumps(fields))]
    return [part for key, value in pairs for part in fields_of(value, key)]


def class_in_words(name: str, request: ResourceRequest) -> str:
    parts = [f"{request.num_cpus} CPU{'' if request.num_cpus == 1 else 's'}", human_bytes(request.memory_bytes)]
    parts += [f"{request.num_gpus} GPUs"] if request.num_gpus else []
    parts += [f"{request.num_nodes} nodes"] if request.num_nodes > 1 else []
    return f"{', '.join(parts)}, up to {human_duration(request.runtime_seconds)} each ({visible(name)})"


def content_of_plan(plan: Plan) -> ExecutableContent:
    """Return everything in a plan that would be executed."""
    names = [item.name for item in plan.user_data]
    jobs = [ShownJob(job.name, _parts_of_job(job, names)) for job in plan.jobs]
    shared = [
        SharedExecutable(
            f"action {at + 1}: {action.action_type} {action.trigger_type}",
            (*(("command", command) for command in action.commands), *fields_of(dict(action.settings))),
        )
        for at, action in enumerate(plan.actions)
    ]
    if plan.env:
        shared.append(SharedExecutable("environment of every job", environment(plan.env)))
    shared += [
        SharedExecutable(f"how jobs are executed: {name}", tuple(fields_of(plan.settings[name])))
        for name in EXECUTING_SETTINGS
        if plan.settings.get(name)
    ]
    named = [("failure handler", each) for each in plan.failure_handlers]
    named += [(SCHEDULER_TYPES[each.type].noun, each) for each in plan.schedulers]
    shared += [
        SharedExecutable(f"{noun} {visible(thing.name)}", tuple(fields_of(dict(thing.fields)))) for noun, thing in named
    ]
    counts = Counter(job.requirement for job in plan.jobs)
    asked = [
        RequestedResources(class_in_words(plan.requirements[at].name, plan.requirements[at].request), counts[at])
        for at in sorted(counts)
    ]
    return ExecutableContent(jobs, shared, asked)
