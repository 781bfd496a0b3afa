"""Shows plans of allocations: what is asked for and why, what it costs at most, what cannot run, and the batch scripts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torc.cli import rendering
from torc.cli.session import SESSION
from torc.cli.terminal import print_document
from torc.errors import Invalid, TorcError
from torc.schedulers.base import Scheduler
from torc.schedulers.request import AllocationRequest
from torc.units import human_bytes, human_duration

_MOST_REFUSED = 5


def check(made: Any) -> None:
    """Raise Invalid, when something of a plan cannot run."""
    if not made.refused:
        return
    first = made.refused[0]
    lines = []
    for refusal in made.refused[:_MOST_REFUSED]:
        lines.append(f"{refusal.message}\n  hint: {refusal.hint}" if len(made.refused) > 1 else "")
        lines += [f"  {misfit.partition}: {'; '.join(misfit.reasons)}" for misfit in refusal.misfits]
    raise Invalid(
        first.message if len(made.refused) == 1 else f"{len(made.refused)} classes of jobs cannot run there",
        hint=first.hint if len(made.refused) == 1 else "ask for less, or name other partitions; nothing was submitted",
        rendered=[line for line in lines if line],
        refused=[
            {"class": refusal.name, "num_jobs": refusal.num_jobs, "message": refusal.message, "hint": refusal.hint}
            for refusal in made.refused
        ],
    )


def show(made: Any, cluster: Any, source: str, demand: Any) -> None:
    """Print a plan: a line for each kind of allocations, then the reasons, then the sum."""
    print(f"plan for {rendering.bold(cluster.display_name)} ({source}): {rendering.plural(demand.num_jobs, 'job')}")
    header = [
        "allocations",
        "begins",
        "jobs",
        "partition",
        "how many",
        "nodes each",
        "walltime",
        "of each node",
        "node-hours",
    ]
    rendering.table(header, [_row(planned, demand) for planned in made.allocations])
    for planned in made.allocations:
        print(f"\n{rendering.bold(planned.name)}: {planned.reasons[0]}")
        for reason in planned.reasons[1:]:
            print(f"  {reason}")
    print(f"\nat most {made.node_hours:,.1f} node-hours{_charge(made, cluster)}; what ends early costs less")


def _row(planned: Any, demand: Any) -> list[str]:
    node = [rendering.plural(planned.cpus_per_node, "CPU") if planned.cpus_per_node else "whole"]
    if planned.memory_bytes_per_node:
        node.append(human_bytes(planned.memory_bytes_per_node))
    if planned.gpus_per_node:
        node.append(rendering.plural(planned.gpus_per_node, "GPU"))
    classes = sorted({demand.names[requirement] for _, requirement in planned.trigger})
    when = "now" if planned.stage == 0 else f"when {', '.join(classes[:2])} of stage {planned.stage + 1} are ready"
    return [
        planned.name,
        when,
        f"{planned.num_jobs:,}",
        planned.partition,
        str(planned.num_allocations),
        str(planned.num_nodes),
        human_duration(planned.walltime_seconds),
        ", ".join(node),
        f"{planned.node_hours:,.1f}",
    ]


def _charge(made: Any, cluster: Any) -> str:
    if cluster.charge_factor_cpu is None:
        return ""
    gpu = cluster.charge_factor_gpu or cluster.charge_factor_cpu
    units = sum(
        planned.node_hours * (gpu if planned.gpus_per_node else cluster.charge_factor_cpu)
        for planned in made.allocations
    )
    return f", {units:,.0f} allocation units"


def as_json(made: Any, cluster: Any, source: str, demand: Any) -> dict[str, Any]:
    """Return a plan for programs."""
    return {
        "cluster": cluster.name,
        "source": source,
        "num_jobs": demand.num_jobs,
        "node_hours": made.node_hours,
        "allocations": [
            {
                "name": planned.name,
                "stage": planned.stage + 1,
                "num_jobs": planned.num_jobs,
                "partition": planned.partition,
                "num_allocations": planned.num_allocations,
                "num_nodes": planned.num_nodes,
                "walltime_seconds": planned.walltime_seconds,
                "expected_seconds": planned.expected_seconds,
                "cpus_per_node": planned.cpus_per_node,
                "memory_bytes_per_node": planned.memory_bytes_per_node,
                "gpus_per_node": planned.gpus_per_node,
                "node_hours": planned.node_hours,
                "reasons": list(planned.reasons),
            }
            for planned in made.allocations
        ],
    }


def requests_of(
    made: Any, scheduler: Scheduler, cluster: Any, options: Any, name: str, defaults: Any = None
) -> list[tuple[Any, AllocationRequest]]:
    """Return each planned allocation with its request, including the defaults of the spec."""
    return [
        (
            planned,
            scheduler.request_of(
                planned.name,
                scheduler.fields_of(planned, cluster, options),
                job_name=f"{name}-{planned.name}",
                defaults=defaults,
            ),
        )
        for planned in made.allocations
    ]


def starts(requests: Sequence[tuple[Any, AllocationRequest]], scheduler: Scheduler) -> dict[str, float | None]:
    """Ask when the allocations that are due now would start, each alone; None: the scheduler does not foresee it. Raises TorcError.

    What it does not accept only now is submitted when it does, so that is told and is no error.
    """
    found: dict[str, float | None] = {}
    label = scheduler.type.label
    for planned, request in requests:
        if planned.stage == 0:
            try:
                at = scheduler.expected_start(scheduler.render(request, "torc-test-only", 0))
            except Invalid as error:
                words = str(error.details.get("words") or error.message)
                refusal = scheduler.refusal_of(words)
                if not refusal.is_passing:
                    raise Invalid(
                        f"{label} would refuse {request.scheduler}: {words}",
                        hint=f"{refusal.hint}; nothing was submitted (--no-estimate leaves this check out)",
                        words=words,
                    ) from None
                rendering.note(f"note: {label} would not accept {request.scheduler} now, but later: {words}")
                at = None
            found[request.scheduler or request.name] = at
    return found


def estimate(requests: Sequence[tuple[Any, AllocationRequest]], scheduler: Scheduler) -> dict[str, float | None]:
    """Ask when allocations would start, and say so. Raises Invalid for what would be refused."""
    try:
        found = starts(requests, scheduler)
    except Invalid:
        raise
    except TorcError as error:
        rendering.note(f"note: no estimate of when they start: {error.message}")
        return {}
    for name, at in found.items():
        if at is not None and not SESSION.json:
            print(f"{name}: the first would start {when(at)}")
    return found


def when(at: float) -> str:
    """Say when something would start."""
    wait = at - time.time()
    return "at once" if wait < 60 else f"in about {human_duration(wait)} ({rendering.when(at)})"


def scripts(requests: Sequence[tuple[Any, AllocationRequest]], scheduler: Scheduler) -> list[dict[str, Any]]:
    """Return the batch scripts, with how often each is submitted."""
    return [
        {
            "scheduler": request.scheduler,
            "num_allocations": planned.num_allocations,
            "when": "now" if planned.stage == 0 else f"when stage {planned.stage + 1} is ready",
            "script": scheduler.render(request, "torc-dry-run", 0),
        }
        for planned, request in requests
    ]


def show_scripts(found: Sequence[dict[str, Any]]) -> None:
    """Print batch scripts."""
    for item in found:
        print(f"\n# {item['scheduler']}: submitted {item['num_allocations']} time(s), {item['when']}")
        print_document(item["script"])
