"""What jobs used against what they asked for, by requirement class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import text

from torc.api import utilization as api
from torc.failures.resource_adjustment import fitted
from torc.failures.utilization import AttemptUsage, advice, exceeded, spread
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.row_mapping import classes_of, grow_version, workflow_row
from torc.planning.history import needed
from torc.store.requirements import StoredClass

_ATTEMPTS = (
    "SELECT a.id, coalesce(a.requirement_id, j.requirement_id), a.peak_memory_bytes, a.wall_seconds, "
    "a.user_cpu_seconds + a.system_cpu_seconds, CASE WHEN a.reason = 'out_of_memory' THEN 1 ELSE 0 END "
    "FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.is_current AND a.started_at IS NOT NULL{run} ORDER BY a.id"
)
_NAMES = (
    "SELECT a.id, a.job_id, j.name, a.attempt, coalesce(a.requirement_id, j.requirement_id) "
    "FROM attempt a JOIN job j ON j.id = a.job_id"
)
#: bytes, seconds and CPUs kept busy of the attempts of a class
_Columns = tuple[list[float], list[float], list[float]]


@answers(api.CheckUtilization)
def check_utilization(tx: Tx, request: api.CheckUtilization) -> api.Utilization:
    """Set what was used against what was asked for."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    classes = classes_of(tx, workflow_id)
    values = {"id": workflow_id, **({} if request.run_id is None else {"run_id": request.run_id})}
    query = _ATTEMPTS.format(run="" if request.run_id is None else " AND a.run_id = :run_id")
    # columns of plain numbers: an object for each of 50,000 attempts would take longer than to read them
    used_by: dict[int, _Columns] = defaultdict(lambda: ([], [], []))
    beyond: dict[int, list[tuple[str, float, float]]] = {}
    for number, class_id, memory, wall, cpu, ran_out in tx.dialect.fetch(tx.db, query, values):
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
    query = f"{_NAMES} WHERE a.id IN {tx.dialect.id_list} ORDER BY a.id"
    rows = tx.dialect.fetch(tx.db, query, {"ids": tx.dialect.ids(found)}) if found else []
    return [
        api.Exceeded.model_validate(
            {
                "job_id": job_id,
                "job_name": job,
                "attempt": attempt,
                "requirement": classes[class_id].name,
                "resource": resource,
                "asked": wanted,
                "used": amount,
            }
        )
        for number, job_id, job, attempt, class_id in rows
        for resource, wanted, amount in found[number]
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


_COMPLETED = text(
    "SELECT j.requirement_id, a.peak_memory_bytes, a.wall_seconds FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.is_current AND a.state = 'completed'"
)
_LOWER = text("UPDATE requirement SET memory_bytes = :memory, runtime_seconds = :runtime WHERE id = :id")


@answers(api.CorrectResources)
def correct_resources(tx: Tx, request: api.CorrectResources) -> api.Corrections:
    """Lower what classes ask for."""
    workflow_id = workflow_row(tx, request.workflow_id, lock=True)["id"]
    classes = classes_of(tx, workflow_id)
    found: list[api.Correction] = []
    used: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for class_id, memory, wall in tx.db.execute(_COMPLETED, {"id": workflow_id}):
        used[class_id].append((memory, wall))
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
        tx.db.execute(_LOWER, {"memory": new.memory_bytes, "runtime": new.runtime_seconds, "id": class_id})
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
