"""Estimates from history: reads what completed attempts used, of all workflows that the caller may see."""

from __future__ import annotations

from torc.api import estimates as api
from torc.failures.fingerprint import program_of
from torc.operations.access import visible
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import id_range, workflow_row
from torc.planning.history import History, UsageSample, shape_of

_LATEST = (
    "SELECT j.command, a.peak_memory_bytes, a.wall_seconds FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.state = 'completed' AND a.is_current AND a.started_at IS NOT NULL{seen} ORDER BY a.id DESC LIMIT :n"
)
#: the plus keeps databases from finding all jobs and sorting them: ids of a workflow's first jobs are close together
_COMMANDS = (
    "SELECT j.requirement_id, j.command FROM job j WHERE +j.workflow_id = :id "
    "AND j.id > :after AND j.id <= :last ORDER BY j.id LIMIT :n"
)
_NAMES = "SELECT id, name FROM requirement WHERE workflow_id = :id"


@answers(api.ListCommandKinds)
def list_command_kinds(tx: Tx, request: api.ListCommandKinds) -> api.CommandKinds:
    """List what jobs run."""
    key = {"id": workflow_row(tx, request.workflow_id)["id"]}
    after, last = id_range(tx, "job", request.workflow_id, None)
    names = dict(tx.dialect.fetch(tx.db, _NAMES, key))
    kinds: dict[tuple[int, str], tuple[str, int]] = {}
    for requirement, command in tx.dialect.fetch(
        tx.db, _COMMANDS, {**key, "after": after, "last": last, "n": request.limit}
    ):
        kind = requirement, shape_of(command)
        kinds[kind] = command, kinds.get(kind, ("", 0))[1] + 1
    return api.CommandKinds(
        kinds=[
            api.CommandKind(requirement=names[number], command=command, num_jobs=count)
            for (number, _), (command, count) in kinds.items()
        ]
    )


@answers(api.SuggestResources)
def suggest_resources(tx: Tx, request: api.SuggestResources) -> api.Suggestions:
    """Suggest what commands should ask for."""
    conditions, values = visible(tx)
    seen = f" AND a.workflow_id IN (SELECT id FROM workflow WHERE {' AND '.join(conditions or ['true'])})"
    rows = tx.dialect.fetch(tx.db, _LATEST.format(seen=seen), {**values, "n": request.history})
    history = History(UsageSample(*row) for row in rows)
    found: list[api.Suggestion] = []
    unknown: list[str] = []
    for command in dict.fromkeys(request.commands):
        learnt = history.learn(command, request.margin, request.min_samples)
        if learnt is None:
            unknown.append(command)
        else:
            found.append(api.Suggestion(command=command, program=program_of(command), **learnt._asdict()))
    return api.Suggestions(suggestions=found, unknown=unknown, num_attempts=len(rows))
