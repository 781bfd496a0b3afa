"""Estimates from history: reads what completed attempts used, of all workflows that the caller may see."""

from __future__ import annotations

from torc.api import learning as api
from torc.core.alike import program_of
from torc.core.learning import History, Sample
from torc.operations.access import visible
from torc.operations.dispatch import Tx, answers

_LATEST = (
    "SELECT j.command, a.peak_memory_bytes, a.wall_seconds FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.state = 'completed' AND a.is_current AND a.started_at IS NOT NULL{seen} ORDER BY a.id DESC LIMIT :n"
)


@answers(api.SuggestResources)
def suggest_resources(tx: Tx, request: api.SuggestResources) -> api.Suggestions:
    """Suggest what commands should ask for."""
    conditions, values = visible(tx)
    seen = f" AND a.workflow_id IN (SELECT id FROM workflow WHERE {' AND '.join(conditions)})" if conditions else ""
    rows = tx.dialect.fetch(tx.db, _LATEST.format(seen=seen), {**values, "n": request.history})
    history = History(Sample(*row) for row in rows)
    found: list[api.Suggestion] = []
    unknown: list[str] = []
    for command in dict.fromkeys(request.commands):
        learnt = history.learn(command, request.margin, request.min_samples)
        if learnt is None:
            unknown.append(command)
        else:
            found.append(api.Suggestion(command=command, program=program_of(command), **learnt._asdict()))
    return api.Suggestions(suggestions=found, unknown=unknown, num_attempts=len(rows))
