"""Why jobs are left that no runner of an allocation could take: what they ask for, what the runners had, and what to set."""

from __future__ import annotations

from collections.abc import Sequence

from torc.api.allocations import ListWaitingJobs, WaitingJobs
from torc.api.base import Torc
from torc.api.pagination import items_of
from torc.api.runs import ListRunners, Runner
from torc.planning.reserve import END_SECONDS, START_SECONDS, least_time_for, memory_with_headroom
from torc.planning.scheduler_types import is_in_allocation
from torc.schedulers.base import NodeNeeds, Scheduler
from torc.units import human_bytes, human_duration

_PAGE = 1000


def unfit_jobs(torc: Torc, workflow_id: int, scheduler: Scheduler) -> list[str]:
    """Say why no runner in an allocation of the last run could hold ready jobs, for each kind of them."""
    waiting = torc.send(ListWaitingJobs(workflow_id=workflow_id))
    if not waiting:
        return []
    runners = [
        runner
        for runner in items_of(torc, ListRunners(workflow_id=workflow_id, limit=_PAGE))
        if is_in_allocation(runner.kind)
    ]
    newest = max((runner.run_id for runner in runners), default=0)
    runners = [runner for runner in runners if runner.run_id == newest]
    return [text for group in waiting if (text := _why(group, runners, scheduler)) is not None]


def _why(jobs: WaitingJobs, runners: Sequence[Runner], scheduler: Scheduler) -> str | None:
    takers = [runner for runner in runners if jobs.scheduler in {None, runner.labels.get("scheduler")}]
    counted = f"{jobs.num_jobs:,} job{'' if jobs.num_jobs == 1 else 's'} of class {jobs.requirement}"
    if not takers:
        others = ", ".join(sorted({str(runner.labels.get("scheduler", "no scheduler")) for runner in runners}))
        return (
            None
            if not others
            else (
                f"{counted} {'is' if jobs.num_jobs == 1 else 'are'} for runners of {scheduler.type.noun} {jobs.scheduler} alone, "
                f"and the allocations were of {others}"
            )
        )
    lacking = [(_lacks(jobs, runner), runner) for runner in takers]
    (lacks, needs), nearest = min(lacking, key=lambda found: (len(found[0][0]), -found[1].capacity.memory_bytes))
    if not lacks:
        return None
    name = nearest.labels.get("scheduler")
    where = f"{scheduler.type.noun} {name}" if name else "its allocation"
    asked = "; ".join(lacks)
    what = ", ".join(scheduler.settings_for(needs))
    return f"{counted} fit{'s' if jobs.num_jobs == 1 else ''} into no runner: {asked}. Set {what} for {where}"


def _lacks(jobs: WaitingJobs, runner: Runner) -> tuple[list[str], NodeNeeds]:
    """Say what jobs ask for beyond what a runner had, and return what is to be asked for."""
    nodes = [runner.capacity, *runner.capacity.others]
    memory = max(node.memory_bytes for node in nodes)
    cpus, gpus = max(node.num_cpus for node in nodes), max(node.num_gpus for node in nodes)
    found, needs = [], NodeNeeds()
    if jobs.memory_bytes > memory:
        asked, had = human_bytes(jobs.memory_bytes), human_bytes(memory)
        found.append(f"each asks for {asked} of memory, and the runner had {had} for jobs")
        needs = needs._replace(memory_bytes=memory_with_headroom(jobs.memory_bytes))
    if jobs.num_cpus > cpus:
        found.append(f"each asks for {jobs.num_cpus} CPUs, and the runner had {cpus}")
        needs = needs._replace(cpus=jobs.num_cpus)
    if jobs.num_gpus > gpus:
        found.append(f"each asks for {jobs.num_gpus} GPUs, and the runner had {gpus}")
        needs = needs._replace(gpus=jobs.num_gpus)
    if jobs.num_nodes > len(nodes):
        found.append(f"each asks for {jobs.num_nodes} nodes, and the runner had {len(nodes)}")
        needs = needs._replace(nodes=jobs.num_nodes)
    least = least_time_for(jobs.runtime_seconds, saves_work=jobs.supports_termination)
    left = runner.capacity.runtime_seconds
    if left is not None and least > left:
        found.append(f"each asks for {human_duration(least)}, and the runner had {human_duration(left)} when it began")
        needs = needs._replace(walltime_seconds=-(-(least + START_SECONDS + END_SECONDS) // 60) * 60)
    return found, needs
