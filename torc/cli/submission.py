"""The steps of `torc submit`: inspect, plan, show, check, store, submit, follow. The rules are in `torc.schedulers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torc.api.base import Torc
from torc.cli import allocation_plan, rendering
from torc.cli.commands.run import output_folder
from torc.cli.options.allocation_plans import Planning, options_of
from torc.cli.session import SESSION
from torc.errors import Conflict, Invalid
from torc.schedulers import registry
from torc.schedulers.base import Capability, Scheduler
from torc.schedulers.partitions import Cluster
from torc.schedulers.request import AllocationRequest


class PlannedInSpec(NamedTuple):
    """Allocations that a spec asks for itself."""

    scheduler: str
    trigger: str
    num_allocations: int
    request: AllocationRequest
    stage: int = 0  # as of planned ones; those shown as scripts are due at once


@dataclass(slots=True)
class WorkflowSubmission:
    """One workflow on its way to a cluster."""

    planning: Planning
    given: dict[str, Any]  # of the options
    output_dir: Path | None
    with_estimate: bool = True
    server: str | None = None  # that is named
    options: Any = None
    demand: Any = None
    plan: Any = None  # None: the spec says itself what to submit
    written: list[PlannedInSpec] = field(default_factory=list)
    name: str = ""
    taken: frozenset[str] = frozenset()  # names of schedulers
    defaults: dict[str, Any] = field(default_factory=dict)  # such as slurm_defaults of the spec
    starts: dict[str, float | None] = field(default_factory=dict)  # as the scheduler foresees them
    scheduler: Scheduler = field(default_factory=registry.scheduler)
    cluster: Cluster = field(init=False)
    source: str = field(init=False)

    def _use(self, name: str) -> None:
        """Plan for the cluster of a scheduler: the one that the workflow names, or the one here."""
        self.scheduler = registry.scheduler(name)
        if Capability.DISCOVERY not in self.scheduler.capabilities:
            raise Invalid(
                f"Torc cannot ask {self.scheduler.type.label} what the cluster has, so it cannot plan allocations for it",
                hint="ask for an allocation yourself, and run the workflow in it: torc run",
            )
        self.cluster, self.source = self.planning.cluster(self.scheduler)

    # -- looking and planning -----------------------------------------------------------------------------------

    def look_at_spec(self, path: str, *, quiet: bool = False) -> Any:
        """Compile a spec, plan it, show and check that, and give the request that stores it. Raises Invalid."""
        from torc.cli.commands.specs import checked_spec
        from torc.planning.demand import due_jobs

        made, request = checked_spec(path)
        self._use(made.schedulers[0].type if made.schedulers else registry.here())
        self.options = options_of(self.given, self.scheduler)
        self.name, self.defaults = made.name, made.settings.get(self.scheduler.type.defaults_field) or {}
        actions = [action for action in made.actions if action.action_type == "schedule_nodes"]
        self.demand = demand_of(made, due_jobs(None, len(made.jobs)))
        if actions or made.schedulers:
            schedulers = {item.name: item.fields for item in made.schedulers}
            self._obey(schedulers, [(action.trigger_type, dict(action.settings)) for action in actions], made)
        else:
            self._make_plan()
        self._present(quiet=quiet)
        return request

    def look_at_stored(self, opened: Torc, number: int, *, anyway: bool, replan: bool = False) -> None:
        """Plan what is left of a stored workflow, show and check that. Raises Conflict while allocations are there, and Invalid."""
        from torc.api.workflows import GetWorkflow
        from torc.schedulers.follow import open_allocations
        from torc.schedulers.workflow_plans import left_of, names_taken, options_before

        self._use(registry.type_of_workflow(opened, number))
        self.options = options_of(self.given, self.scheduler, options_before(opened, number))
        left = left_of(opened, number)
        self.name, self.demand = left.workflow_name, left.demand
        self.defaults = (
            opened.send(GetWorkflow(workflow_id=number)).settings.get(self.scheduler.type.defaults_field) or {}
        )
        if not left.demand.num_jobs:
            raise Conflict(
                f"nothing is left to do of workflow {number}",
                hint=f"run it again: torc workflows reset-status {number}; failed jobs: torc recover {number} --no-run",
            )
        going = open_allocations(opened, number)
        if going and not anyway:
            raise Conflict(
                f"workflow {number} has {len(going)} allocation(s) that are queued or running: they may do what is left",
                hint=f"follow them (torc watch {number}), end them (torc {self.scheduler.type.name} cancel {number}), or add more: "
                "--anyway",
            )
        is_new = not replan and not self._was_begun(opened, number)
        if is_new and (left.num_schedule_nodes or left.num_schedulers):
            self._obey_stored(opened, number)
        else:
            self._make_plan(names_taken(opened, number))
        self._present()

    @staticmethod
    def _was_begun(opened: Torc, number: int) -> bool:
        from torc.api.workflows import GetWorkflow

        return bool(opened.send(GetWorkflow(workflow_id=number)).started_at is not None)

    def _make_plan(self, taken: frozenset[str] = frozenset()) -> None:
        from torc.schedulers.allocation_planning import plan

        self.taken = taken
        self.plan = plan(self.demand, self.cluster, self.options, taken=taken)
        allocation_plan.check(self.plan)

    def _obey(self, schedulers: Any, actions: Sequence[tuple[str, dict[str, Any]]], made: Any) -> None:
        """Take what the spec says itself, as it will be submitted. Raises Invalid for what cannot be."""
        from torc.schedulers.follow import as_submitted
        from torc.schedulers.partition_choice import default_memory, problems_of

        if not actions:
            raise Invalid(
                f"the spec has {self.scheduler.type.noun}s ({', '.join(schedulers)}), but no action submits allocations of them",
                hint="add an action (trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: NAME), or take the "
                "schedulers out: then Torc plans",
            )
        for trigger, settings in actions:
            name = str(settings.get("scheduler"))
            if settings.get("scheduler_type") == "local" or name not in schedulers:
                continue
            fields = dict(schedulers[name])
            if fields.get("account") is None and self.options.wishes.account:
                fields["account"] = self.options.wishes.account
            request = self.scheduler.request_of(
                name, fields, job_name=f"{self.name}-{name}", defaults=self.defaults, settings=settings
            )
            number = int(settings.get("num_allocations") or 1)
            if trigger == "on_workflow_start" and not problems_of(request, self.cluster):
                request, number, changed = as_submitted(
                    request,
                    number,
                    waiting_at_start(made),
                    len(made.jobs),
                    lambda asked: problems_of(asked, self.cluster),
                    lambda asked: default_memory(asked, self.cluster),
                )
                if changed is not None:
                    rendering.note(f"note: {changed}")
            self.written.append(PlannedInSpec(name, trigger, number, request))
        for item in self.written:
            problems = problems_of(item.request, self.cluster)
            if problems:
                raise Invalid(
                    f"{self.cluster.display_name} cannot give what {self.scheduler.type.noun} {item.scheduler} asks for: "
                    f"{'; '.join(problems)}",
                    hint="it would wait in the queue for ever; change the scheduler in the spec",
                )

    def _obey_stored(self, opened: Torc, number: int) -> None:
        from torc.api.transfer import ExportSpec
        from torc.spec.compiler import compile_spec
        from torc.spec.formats import Format

        text = opened.send(ExportSpec(workflow_id=number, format=Format.JSON)).text
        made, _ = compile_spec(text, format=Format.JSON)
        assert made is not None, "what was exported can be read"
        actions = [
            (item.trigger_type, dict(item.settings)) for item in made.actions if item.action_type == "schedule_nodes"
        ]
        self._obey({item.name: item.fields for item in made.schedulers}, actions, made)

    # -- showing ------------------------------------------------------------------------------------------------

    def _present(self, *, quiet: bool = False) -> None:
        requests = [request for _, request in self._asked()]
        for request in requests:
            self.scheduler.check(request)
        if not SESSION.json:
            self.show()
        for line in dict.fromkeys(line for request in requests for line in self.scheduler.left_out(request)):
            rendering.note(f"note: {line}")
        if self.with_estimate and Capability.START_ESTIMATE in self.scheduler.capabilities:
            self.starts = allocation_plan.estimate(self._asked(), self.writer())

    def show(self) -> None:
        """Print what would be submitted."""
        if SESSION.json:
            rendering.show_json(self.as_json())
        elif self.plan is not None:
            allocation_plan.show(self.plan, self.cluster, self.source, self.demand)
        else:
            print(
                f"the spec says itself what to submit to {rendering.bold(self.cluster.display_name)} ({self.source}):"
            )
            rows = [
                [
                    item.scheduler,
                    item.trigger,
                    item.request.partition or "",
                    str(item.num_allocations),
                    str(item.request.num_nodes),
                    rendering.duration(item.request.walltime_seconds),
                ]
                for item in self.written
            ]
            rendering.table(["scheduler", "when", "partition", "how many", "nodes each", "walltime"], rows)

    def as_json(self) -> dict[str, Any]:
        """Return what would be submitted, for programs."""
        if self.plan is not None:
            return allocation_plan.as_json(self.plan, self.cluster, self.source, self.demand)
        return {
            "cluster": self.cluster.name,
            "source": self.source,
            "num_jobs": self.demand.num_jobs,
            "allocations": [
                {
                    "name": item.scheduler,
                    "trigger": item.trigger,
                    "num_allocations": item.num_allocations,
                    "num_nodes": item.request.num_nodes,
                    "walltime_seconds": item.request.walltime_seconds,
                }
                for item in self.written
            ],
        }

    def _asked(self) -> list[tuple[Any, Any]]:
        if self.plan is not None:
            return allocation_plan.requests_of(
                self.plan, self.scheduler, self.cluster, self.options, self.name, self.defaults
            )
        return [(item, item.request) for item in self.written if item.trigger == "on_workflow_start"]

    def writer(self) -> Scheduler:
        """Return what writes batch scripts of a workflow that is not stored yet."""
        from torc.cli.cluster_access import program
        from torc.cli.server_for_nodes import foreseen_server

        folder = str(output_folder(self.output_dir).absolute())
        return registry.scheduler(
            self.scheduler.type.name,
            program=program(),
            directory=str(Path.cwd()),
            output_dir=folder,
            variables={"TORC_API_URL": foreseen_server(self.server)},
        )

    def dry_run_spec(self) -> None:
        """Print the batch scripts of a spec; the number of its workflow is not known yet, so it is 0 in them."""
        self._show_scripts(self.writer())

    def dry_run_stored(self, opened: Torc, number: int) -> None:
        """Print the batch scripts of a stored workflow."""
        from torc.cli.cluster_access import scheduler_for

        name = self.scheduler.type.name
        self._show_scripts(scheduler_for(opened, number, self.output_dir, name=name, with_token=False))

    def _show_scripts(self, writer: Scheduler) -> None:
        from torc.cli import compare_allocations

        found = allocation_plan.scripts(self._asked(), writer)
        choice = compare_allocations.compared(self)
        if SESSION.json:
            rendering.show_json({**self.as_json(), "trade_off": choice, "scripts": found})
        else:
            compare_allocations.show(choice, self.scheduler.type.label)
            allocation_plan.show_scripts(found)
            rendering.note("\nnothing was submitted (--dry-run)")

    # -- submitting ---------------------------------------------------------------------------------------------

    def submit(self, opened: Torc, number: int) -> list[Any]:
        """Keep the plan with the workflow, begin its run, and submit what is due."""
        from torc.api.runs import StartRun
        from torc.cli.cluster_access import scheduler_for
        from torc.schedulers.allocation_planning import plan
        from torc.schedulers.follow import carry_out_due
        from torc.schedulers.workflow_plans import keep, left_of, names_taken

        if self.plan is not None:
            left = left_of(opened, number)
            taken = names_taken(opened, number)
            made = plan(left.demand, self.cluster, self.options, taken=taken)
            keep(opened, left, made, self.scheduler, self.cluster, self.options)
        else:
            self._name_account(opened, number)
        opened.send(StartRun(workflow_id=number))
        name = self.scheduler.type.name
        return list(carry_out_due(opened, number, scheduler_for(opened, number, self.output_dir, name=name)))

    def _name_account(self, opened: Torc, number: int) -> None:
        """Have schedulers of the spec that name no account use the one that was asked for."""
        from torc.api.data import UpdateScheduler
        from torc.schedulers.workflow_plans import described

        account = self.options.wishes.account
        for item in described(opened, number, self.scheduler) if account else ():
            if item.fields.get("account") is None:
                fields = {**item.fields, "account": account}
                opened.send(UpdateScheduler(scheduler_id=item.id, fields=fields))

    def follow(self, opened: Torc, number: int, made: Sequence[Any], *, wait: bool) -> int:
        """Say what was submitted and, when asked, follow to the end; returns the exit code."""
        from torc.cli import follower

        refused = [item for item in made if item.cluster_job_id is None and item.state == "ended"]
        if not SESSION.json:
            ids = [item.cluster_job_id for item in made if item.cluster_job_id]
            jobs = f"as job{'' if len(ids) == 1 else 's'} {', '.join(ids)}" if ids else "nothing yet"
            print(f"workflow {number} ({self.name}): submitted {jobs}")
            for item in refused:
                rendering.note(f"error: {self.scheduler.type.label} refused {item.scheduler}: {item.reason}")
                rendering.note(f"  hint: {self.scheduler.refusal_of(item.reason or '').hint}")
            for item in made:
                if item.cluster_state == "DEFERRED":
                    rendering.note(
                        f"note: {self.scheduler.type.label} does not accept {item.scheduler} now; it is submitted again while you "
                        f"follow: {item.reason}"
                    )
        if refused and len(refused) == len(made):
            return 1
        if wait:
            return follower.follow(opened, number, output_folder(self.output_dir))
        if SESSION.json:
            rendering.show_json(
                {"workflow_id": number, **self.as_json(), "submitted": list(made)}
                | {"submitted": [item.model_dump(mode="json") for item in made]}
            )
        else:
            rendering.note(f"follow it: torc watch {number} (it also submits what later stages need)")
        return 1 if refused else 0


def waiting_at_start(made: Any) -> list[Any]:
    """Count the jobs of a compiled spec that are ready when it begins, by what they ask for and for whom they are."""
    from collections import Counter

    from torc.planning.reserve import least_time_for
    from torc.schedulers.resubmission import WaitingGroup

    counts = Counter(
        (job.scheduler, job.requirement, job.supports_termination) for job in made.jobs if job.gate is None
    )
    found = []
    for (scheduler, requirement, saves_work), number in counts.items():
        request = made.requirements[requirement].request
        least = least_time_for(request.runtime_seconds, saves_work=saves_work)
        name = None if scheduler is None else made.schedulers[scheduler].name
        found.append(WaitingGroup(name, number, request._replace(runtime_seconds=least)))
    return found


def demand_of(made: Any, due: Sequence[bool]) -> Any:
    """Return what a compiled spec asks for, in sums."""
    from torc.planning.demand import Demand, sums
    from torc.workflow.graph import graph_of, stages

    graph = graph_of(list(made.gates), [job.gate for job in made.jobs])
    stage = stages(graph, due)
    return Demand(
        names=tuple(item.name for item in made.requirements),
        requests=tuple(item.request for item in made.requirements),
        cells=sums(stage, [job.requirement for job in made.jobs]),
    )
