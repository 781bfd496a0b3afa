"""All invariants of a stored workflow, as queries that find violations."""

from __future__ import annotations

from sqlalchemy import Connection, text

_MOST = 20

# grouped only once: PostgreSQL, without statistics of new tables, would read them again for each gate
_PREREQUISITES = (
    "gate_prerequisite p JOIN gate q ON q.id = p.gate_id AND q.workflow_id = :id JOIN job j ON j.id = p.job_id"
)

#: invariant -> query for its violations, with one text per row
INVARIANTS = {
    "the counts of jobs by state are right": (
        "SELECT 'state ' || s.state || ': ' || coalesce(max(c.count), 0) || ' counted, ' || max(s.n) || ' there' FROM "
        "(SELECT state, count(*) AS n FROM job WHERE workflow_id = :id GROUP BY state) s LEFT JOIN job_count c "
        "ON c.workflow_id = :id AND c.state = s.state GROUP BY s.state HAVING coalesce(max(c.count), 0) <> max(s.n)"
    ),
    "no jobs are counted that are not there": (
        "SELECT 'state ' || c.state || ': ' || c.count FROM job_count c WHERE c.workflow_id = :id AND c.count <> 0 "
        "AND NOT EXISTS (SELECT 1 FROM job WHERE workflow_id = :id AND state = c.state)"
    ),
    "a gate waits for its prerequisites that are not counted off": (
        "SELECT 'gate ' || g.id || ': waits for ' || g.remaining || ' of ' || g.total FROM gate g LEFT JOIN "
        f"(SELECT p.gate_id, count(*) AS n FROM {_PREREQUISITES} WHERE NOT j.counted GROUP BY p.gate_id) w "
        "ON w.gate_id = g.id WHERE g.workflow_id = :id AND g.remaining <> coalesce(w.n, 0)"
    ),
    "a gate knows how many prerequisites it has": (
        "SELECT 'gate ' || g.id FROM gate g LEFT JOIN "
        f"(SELECT p.gate_id, count(*) AS n FROM {_PREREQUISITES} GROUP BY p.gate_id) w "
        "ON w.gate_id = g.id WHERE g.workflow_id = :id AND g.total <> coalesce(w.n, 0)"
    ),
    "finished jobs are counted off": (
        "SELECT 'job ' || id || ' is ' || state FROM job WHERE workflow_id = :id "
        "AND NOT counted AND state IN ('completed', 'failed', 'canceled', 'disabled')"
    ),
    "only finished jobs are counted off": (
        "SELECT 'job ' || id || ' is ' || state FROM job WHERE workflow_id = :id "
        "AND counted AND state NOT IN ('completed', 'failed', 'canceled', 'disabled', 'terminated')"
    ),
    "no job is blocked behind an open gate": (
        "SELECT 'job ' || j.id FROM job j LEFT JOIN gate g ON g.id = j.gate_id WHERE j.workflow_id = :id "
        "AND j.state = 'blocked' AND (g.id IS NULL OR g.remaining = 0)"
    ),
    "no job is ready behind a shut gate": (
        "SELECT 'job ' || j.id || ' is ' || j.state FROM job j JOIN gate g ON g.id = j.gate_id WHERE j.workflow_id = :id "
        "AND j.state = 'ready' AND g.remaining > 0"
    ),
    "no job stays blocked behind an unsuccessful one that would cancel it": (
        "SELECT DISTINCT 'job ' || j.id FROM job j JOIN gate_prerequisite p ON p.gate_id = j.gate_id JOIN job q "
        "ON q.id = p.job_id WHERE j.workflow_id = :id AND j.state = 'blocked' AND j.cancel_on_blocking_job_failure "
        "AND q.counted AND q.state NOT IN ('completed', 'disabled')"
    ),
    "pending and running jobs are held by an active runner": (
        "SELECT 'job ' || j.id || ' is ' || j.state FROM job j LEFT JOIN runner r ON r.id = j.runner_id "
        "WHERE j.workflow_id = :id AND j.state IN ('pending', 'running') AND (r.id IS NULL OR NOT r.is_active)"
    ),
    "only jobs that run, or are being stopped, are held by a runner": (
        "SELECT 'job ' || id || ' is ' || state FROM job WHERE workflow_id = :id AND runner_id IS NOT NULL "
        "AND state NOT IN ('pending', 'running', 'canceled')"
    ),
    "no result is of an attempt that was never made": (
        "SELECT 'job ' || j.id || ': result of attempt ' || a.attempt || ', last attempt ' || j.attempt FROM attempt a "
        "JOIN job j ON j.id = a.job_id WHERE j.workflow_id = :id AND a.attempt > j.attempt"
    ),
    "a completed job has a result that says so": (
        "SELECT 'job ' || j.id FROM job j WHERE j.workflow_id = :id AND j.state = 'completed' AND NOT EXISTS "
        "(SELECT 1 FROM attempt a WHERE a.job_id = j.id AND a.attempt = j.attempt AND a.state = 'completed')"
    ),
    "no job's success ran again in the same run": (
        "SELECT 'job ' || job_id || ' completed ' || count(*) || ' times in run ' || run_id FROM attempt "
        "WHERE workflow_id = :id AND state = 'completed' AND is_current GROUP BY job_id, run_id HAVING count(*) > 1"
    ),
    "an ended runner is not active": (
        "SELECT 'runner ' || id FROM runner WHERE workflow_id = :id AND is_active AND ended_at IS NOT NULL"
    ),
}


#: all of them in one question: (index of the invariant, detail)
_ALL = text(
    " UNION ALL ".join(
        f"SELECT {number} AS number, q.* FROM ({query} LIMIT {_MOST}) q"
        for number, query in enumerate(INVARIANTS.values())
    )
)


def problems(db: Connection, workflow_id: int) -> list[tuple[str, str]]:
    """Return (invariant, detail) of all violations, at most 20 details per invariant."""
    names = list(INVARIANTS)
    return [(names[number], str(detail)) for number, detail in db.execute(_ALL, {"id": workflow_id})]
