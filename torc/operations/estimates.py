"""Estimates from history: reads what completed attempts used, of all workflows that the caller may see."""

from __future__ import annotations

from torc.api import estimates as api
from torc.failures.fingerprint import program_of
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.planning.history import History, UsageSample, shape_of
from torc.store import attempts, jobs, requirements


@answers(api.ListCommandKinds)
def list_command_kinds(tx: Tx, request: api.ListCommandKinds) -> api.CommandKinds:
    """List what jobs run."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    classes = requirements.classes_of(tx.db, tx.dialect, workflow_id)
    kinds: dict[tuple[int, str], tuple[str, int]] = {}
    for job in jobs.first_commands(tx.db, tx.dialect, workflow_id, request.limit):
        kind = job.requirement_id, shape_of(job.command)
        kinds[kind] = job.command, kinds.get(kind, ("", 0))[1] + 1
    return api.CommandKinds(
        kinds=[
            api.CommandKind(requirement=classes[number].name, command=command, num_jobs=count)
            for (number, _), (command, count) in kinds.items()
        ]
    )


@answers(api.SuggestResources)
def suggest_resources(tx: Tx, request: api.SuggestResources) -> api.Suggestions:
    """Suggest what commands should ask for."""
    used = attempts.latest_usage(tx.db, tx.dialect, tx.rights, request.history)
    history = History(UsageSample(*sample) for sample in used)
    found: list[api.Suggestion] = []
    unknown: list[str] = []
    for command in dict.fromkeys(request.commands):
        learnt = history.learn(command, request.margin, request.min_samples)
        if learnt is None:
            unknown.append(command)
        else:
            found.append(api.Suggestion(command=command, program=program_of(command), **learnt._asdict()))
    return api.Suggestions(suggestions=found, unknown=unknown, num_attempts=len(used))
