"""Suggestions from what earlier jobs of all workflows used."""

from __future__ import annotations

from tests.support.workflows import create, ended, exchange, runner
from torc.api.base import Torc
from torc.api.estimates import SuggestResources

MIB = 1 << 20


def ran(torc: Torc, command: str, megabytes: list[int], failed: int = 0) -> None:
    """Run jobs with a command that use so much; some more fail having used ten times as much."""
    jobs = [{"name": f"j{at}", "command": f"{command} {at}"} for at in range(len(megabytes) + failed)]
    wf = create(torc, {"name": "earlier", "jobs": jobs}).id
    number = runner(torc, wf)
    given = exchange(torc, wf, number, limit=100).assignments
    reports = [
        ended(item, usage={"peak_memory_bytes": used * MIB})
        if used is not None
        else ended(item, "failed", 1, usage={"peak_memory_bytes": 10_000 * MIB})
        for item, used in zip(given, [*megabytes, *[None] * failed], strict=True)
    ]
    exchange(torc, wf, number, finished=reports, stopping=True)


def test_a_new_workflow_learns_from_those_before(torc: Torc) -> None:
    ran(torc, "python3 fit.py", [100, 110, 120])
    ran(torc, "python3 fit.py", [400], failed=2)
    ran(torc, "python3 rare.py", [1, 1])
    found = torc.send(SuggestResources(commands=["python3 fit.py 77", "python3 fit.py --fast", "python3 rare.py 1"]))
    assert found.num_attempts == 6 and found.unknown == ["python3 rare.py 1"]
    told = {item.command: (item.matched, item.num_samples, item.memory_bytes // MIB) for item in found.suggestions}
    assert told == {"python3 fit.py 77": ("command", 4, 576), "python3 fit.py --fast": ("program", 4, 576)}
    few = torc.send(SuggestResources(commands=["python3 rare.py 1"], min_samples=2, margin=2.0))
    assert few.suggestions[0].memory_bytes == 64 * MIB and few.suggestions[0].program == "rare.py"
