"""What jobs used against what they asked for, by requirement class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from torc.api import utilization as api
from torc.failures.resource_adjustment import fitted
from torc.failures.utilization import AttemptUsage, advice, exceeded, spread
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.row_mapping import classes_of, grow_version, workflow_row
from torc.planning.history import needed
from torc.store import attempts, requirements
from torc.store.requirements import StoredClass

#: bytes, seconds and CPUs kept busy of the attempts of a class
_Columns = tuple[list[float], list[float], list[float]]


@answers(api.CheckUtilization)
def check_utilization(tx: Tx, request: api.CheckUtilization) -> api.Utilization:
    """Set what was used against what was asked for."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    classes = classes_of(tx, workflow_id)
    # columns of plain numbers: an object for each of 50,000 attempts would take longer than to read them
    used_by: dict[int, _Columns] = defaultdict(lambda: ([], [], []))
    beyond: dict[int, list[tuple[str, float, float]]] = {}
    for number, class_id, memory, wall, cpu, ran_out in attempts.usage(tx.db, tx.dialect, workflow_id, request.run_id):
        memories, walls, cpus = used_by[class_id]
        memories.append(memory)
        walls.append(wall)
        cpus.append(cpu / wall if wall > 0 else 0.0)
        asked = classes[class_id].request
        if ran_out or memory > asked.memory_bytes or wall > asked.runtime_seconds or cpu > asked.num_cpus * wall:
            found = exceeded(asked, AttemptUsage(memory, wall, cpu, bool(ran_out)))
            if found:
                beyond[number] = found
    above = _exceeded(tx, beyond, classes)
    above.sort(key=lambda item: -item.used / item.asked)
    return api.Utilization(
        workflow_id=workflow_id,
        num_attempts=sum(len(walls) for _, walls, _ in used_by.values()),
        classes=sorted(
            (_class(classes[class_id], used) for class_id, used in used_by.items()),
            key=lambda item: -item.num_attempts,
        ),
        exceeded=above[: request.limit],
        num_exceeded=len(above),
    )


def _exceeded(
    tx: Tx, found: Mapping[int, Sequence[tuple[str, float, float]]], classes: Mapping[int, StoredClass]
) -> list[api.Exceeded]:
    """Name the jobs of attempts that used more than they asked for."""
    return [
        api.Exceeded.model_validate(
            {
                "job_id": attempt.job_id,
                "job_name": attempt.job_name,
                "attempt": attempt.attempt,
                "requirement": classes[attempt.requirement_id].name,
                "resource": resource,
                "asked": wanted,
                "used": amount,
            }
        )
        for attempt in attempts.names(tx.db, tx.dialect, found)
        for resource, wanted, amount in found[attempt.id]
    ]


def _class(stored: StoredClass, used: _Columns) -> api.ClassUse:
    asked = stored.request
    memory, wall, cpus = (spread(values) for values in used)
    return api.ClassUse(
        requirement=stored.name,
        num_attempts=len(used[0]),
        num_cpus=asked.num_cpus,
        memory_bytes=asked.memory_bytes,
        runtime_seconds=asked.runtime_seconds,
        memory=api.Spread(**asdict(memory)),
        wall=api.Spread(**asdict(wall)),
        cpus=api.Spread(**asdict(cpus)),
        advice=advice(asked, memory, wall, cpus),
    )


@answers(api.CorrectResources)
def correct_resources(tx: Tx, request: api.CorrectResources) -> api.Corrections:
    """Lower what classes ask for."""
    workflow_id = workflow_row(tx, request.workflow_id, lock=True)["id"]
    classes = classes_of(tx, workflow_id)
    found: list[api.Correction] = []
    used: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for attempt in attempts.completed_usage(tx.db, tx.dialect, workflow_id):
        used[attempt.requirement_id].append((attempt.peak_memory_bytes, attempt.wall_seconds))
    for class_id, values in sorted(used.items()):
        (_, name, old), number = classes[class_id], len(values)
        memory, wall = (needed([value[at] for value in values], request.factor) for at in (0, 1))
        new = fitted(old, memory_bytes=memory, wall_seconds=wall, factor=1.0)
        if number < request.min_attempts or new == old:
            continue
        found.append(
            api.Correction(
                requirement_id=class_id,
                requirement=name,
                num_attempts=number,
                memory_bytes=old.memory_bytes,
                new_memory_bytes=new.memory_bytes,
                runtime_seconds=old.runtime_seconds,
                new_runtime_seconds=new.runtime_seconds,
            )
        )
        requirements.set_memory_and_runtime(tx.db, tx.dialect, class_id, new)
        tx.event(
            workflow_id,
            "resources_lowered",
            requirement=name,
            memory_bytes=[old.memory_bytes, new.memory_bytes],
            runtime_seconds=[old.runtime_seconds, new.runtime_seconds],
            learnt_from=number,
        )
    if found:
        grow_version(tx, workflow_id)
    made = api.Corrections(applied=bool(found) and not request.dry_run, corrections=found)
    if request.dry_run:
        raise DryRun(made)
    return made
