"""Histories of a workflow, three runners, a network and a clock, each replayable from one seed.

The decisions of the runners are those of `torc.runner.reactor`, the store is a real one that the real operations answer from;
processes, network and clock are simulated. What goes wrong is drawn from the seed: requests and replies are lost, repeated,
delayed and reordered; the store is away; runners are killed, stopped and woken after their lease has ended; a whole machine sleeps.
After the trouble everything must come to its end. At each step the oracle in `World.check` must hold.

`python -m tests.faults.simulation --seeds 10000` runs many; `--seed N --trace` tells one history.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from torc.api.base import Request
from torc.api.change_plans import ApplyIntervention, ProposeIntervention, StartSpendingAnew
from torc.api.events import ListEvents
from torc.api.jobs import ListJobs
from torc.api.runs import (
    ActionAssignment,
    DeliverResults,
    EndRunner,
    Exchange,
    ExchangeReply,
    GetRunner,
    ListResults,
    ListRunners,
    NodeCapacity,
    RegisterRunner,
    Runner,
    StartRun,
    Usage,
)
from torc.api.workflows import CheckWorkflow, CreateWorkflow, GetWorkflow
from torc.client.embedded import Embedded, is_worth_sending, without_reports
from torc.errors import NotFound, TorcError
from torc.failures.retry import DIED
from torc.operations import exchange, runs
from torc.operations.dispatch import Tx, answer
from torc.operations.row_mapping import workflow_row
from torc.operations.spending import held_seconds, spent
from torc.runner import reactor
from torc.runner.state import (
    ActionExited,
    Effect,
    Event,
    Exited,
    Keep,
    Kill,
    KillAction,
    Launched,
    Leave,
    ReactorSettings,
    Replied,
    RunAction,
    RunnerState,
    Send,
    SpawnerDied,
    StartAttempt,
    Tick,
    Unreachable,
    Withdraw,
    Withdrawn,
)
from torc.store.engine import open_store
from torc.workflow.resources import Capacity

#: a tenth of the real time, so that histories are short: the lease, and what depends on it
LEASE_SECONDS = 6.0
_HEARTBEAT_SECONDS = 1.5
_WAIT_SECONDS = 0.5
_TIMEOUT_SECONDS = 2.0
_TROUBLE_SECONDS = 40.0
_END_SECONDS = 900.0
_GIB = 1 << 30
HOSTS = ("alpha", "alpha", "beta")


class Violation(AssertionError):
    """Something that must never be."""


@dataclass(frozen=True)
class Script:
    """What a job does: it fails so often, then succeeds; each attempt takes `seconds`."""

    name: str
    fails: int
    seconds: float
    cpus: int


@dataclass(eq=False)
class Process:
    """What a runner has started: an attempt of a job, or (`firing_id`) the commands of an action."""

    slot: Slot
    runner_id: int
    job_id: int
    attempt: int
    began: float
    firing_id: int | None = None
    is_alive: bool = True
    generation: int = 0  # of its end: a sleeping machine puts it off
    ends: float = 0.0
    code: int = 0


#: the attempt that a place was taken for first; what waits in line has it after that one
Place = tuple[int, int]


@dataclass(eq=False)
class Slot:
    """A place for a runner on a machine, and the runner that is there now."""

    number: int
    host: str
    capacity: Capacity
    pid: int = 0
    runner_id: int = 0
    state: RunnerState | None = None
    settings: ReactorSettings | None = None
    processes: dict[int, Process] = field(default_factory=dict)  # by job
    actions: dict[int, Process] = field(default_factory=dict)  # by firing
    places: dict[int, Place] = field(default_factory=dict)  # job -> place of its latest attempt
    lines: dict[Place, list[StartAttempt]] = field(default_factory=dict)  # place that is taken -> what waits for it
    inbox: list[Event] = field(default_factory=list)
    stopped_until: float = 0.0
    wake: int = 0  # of its next tick
    is_leaving: bool = False

    @property
    def is_there(self) -> bool:
        return self.state is not None


@dataclass
class Chances:
    """How likely what goes wrong is, drawn once for each history."""

    lost_request: float
    lost_reply: float
    repeated: float
    delayed: float
    killed: float
    stopped: float
    asleep: float
    away: float

    @classmethod
    def drawn(cls, chance: random.Random) -> Chances:
        def some(most: float) -> float:
            return chance.choice([0.0, most / 4, most])

        return cls(some(0.15), some(0.15), some(0.2), some(0.2), some(0.08), some(0.08), some(0.03), some(0.05))


class World:
    """One history."""

    def __init__(self, seed: int, torc: Embedded, *, trace: bool = False) -> None:
        self.chance = random.Random(seed)
        self.torc, self.now, self._trace = torc, 1_000_000.0, trace
        self.history = hashlib.sha256()
        self.chances = Chances.drawn(self.chance)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._next_pid = 100
        self.trouble_until = self.now + _TROUBLE_SECONDS
        self.away_until = 0.0
        self.without_spawners: set[int] = set()  # runners
        self.asleep_until: dict[str, float] = defaultdict(float)  # by machine
        self.journals: dict[int, list[DeliverResults]] = defaultdict(list)  # by runner
        self.processes: set[Process] = set()
        self.successes: Counter[int] = Counter()  # that happened
        self.tries: Counter[int] = Counter()
        self.firings: dict[int, list[int]] = defaultdict(list)  # the runners that have carried each out
        self.carried_out: Counter[int] = Counter()  # firings that came to their end
        self.num_requests = 0
        self._waiting: list[Callable[[], None]] = []
        self._last_event = 0
        self.slots = [
            Slot(number, host, Capacity(self.chance.choice([1, 2, 4]), 8 * _GIB, 0))
            for number, host in enumerate(HOSTS)
        ]
        self.limit_seconds: float | None = None  # of the budget that the run is charged to
        self.workflow_id = self._create()
        if self.chance.random() < 0.3:
            self._charge_to_assistants(self.chance.choice([1.2, 1.7, 2.5]))

    # -- the workflow ---------------------------------------------------------------------------------------------

    def _create(self) -> int:
        chance = self.chance
        names = [f"j{n}" for n in range(chance.randint(3, 12))]
        pace = chance.choice([0.01, 0.2, 2.0])
        scripts = [
            Script(name, chance.choice([0, 0, 0, 1, 2]), pace * chance.expovariate(1.0), chance.choice([1, 1, 2]))
            for name in names
        ]
        jobs = []
        for at, script in enumerate(scripts):
            waits = chance.sample(names[:at], min(at, chance.choice([0, 0, 1, 2])))
            jobs.append(
                {
                    "name": script.name,
                    "command": "true",
                    "depends_on": waits,
                    "failure_handler": "again",
                    "resource_requirements": f"cpus{script.cpus}",
                }
            )
        document = {
            "name": "simulated",
            "jobs": jobs,
            "failure_handlers": [{"name": "again", "rules": [{"exit_codes": [3], "max_retries": 2}]}],
            "resource_requirements": [
                {"name": f"cpus{n}", "num_cpus": n, "memory": "1g", "runtime": "PT1H"} for n in (1, 2)
            ],
            "actions": [
                {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["true"]},
                {
                    "trigger_type": "on_jobs_complete",
                    "action_type": "run_commands",
                    "commands": ["true"],
                    "jobs": [chance.choice(names)],
                },
                {
                    "trigger_type": "on_jobs_ready",
                    "action_type": "run_commands",
                    "commands": ["true"],
                    "jobs": [names[-1]],
                    "at_most_once": True,
                },
            ],
        }
        if max(script.cpus for script in scripts) > max(slot.capacity.num_cpus for slot in self.slots):
            self.slots[0].capacity = Capacity(2, 8 * _GIB, 0)
        number = int(self.send(CreateWorkflow(spec=json.dumps(document), format="json", directory="/")).id)
        listed = self.send(ListJobs(workflow_id=number, limit=1000)).items
        by_name = {script.name: script for script in scripts}
        self.scripts = {job.id: by_name[job.name] for job in listed}
        return number

    def _charge_to_assistants(self, node_hours: float) -> None:
        """Have the run planned by an assistant: what runs is charged to a budget, by its limits while it runs."""
        self.send(StartSpendingAnew())
        node = {"num_cpus": 4, "memory_bytes": 8 * _GIB}
        asked = {"workflow_id": self.workflow_id, "action": "run", "client": "simulated"}
        plan = self.send(ProposeIntervention.model_validate({**asked, "starts": "run", "node": node}))
        applied = {"token": plan.token, "reason": "simulated", "max_node_hours": 1000.0, "max_retries": 1000}
        self.send(ApplyIntervention.model_validate({**asked, **applied}))
        self.limit_seconds = node_hours * 3600.0
        with self.torc.store.dialect.begin_write(self.torc.store.engine) as db:
            db.execute(text("UPDATE spending SET limit_seconds = :limit"), {"limit": self.limit_seconds})

    # -- the store ------------------------------------------------------------------------------------------------

    def send(self, request: Request[Any]) -> Any:
        """Have a request answered at once, by the simulated clock."""
        self.num_requests += 1
        prepared = self.torc.prepare(request, None)
        dialect = self.torc.store.dialect
        begin = dialect.begin_write if request.writes else dialect.begin_read
        with begin(self.torc.store.engine) as db:
            reply = answer(Tx(db, dialect, self.now, "user:tester", prepared, None), request)
        if request.writes and not isinstance(request, CreateWorkflow):
            self.check()
            self._wake_waiting()
        return reply

    def _wake_waiting(self) -> None:
        """Let who waits for work look again, when something has happened."""
        newest = self._look(ListEvents(workflow_id=self.workflow_id, newest_first=True, limit=1)).items
        last = newest[0].id if newest else 0
        if last != self._last_event:
            self._last_event = last
            waiting, self._waiting = self._waiting, []
            for look in waiting:
                self.at(0.001, look)

    def check(self) -> None:
        """Check what must hold at each moment."""
        problems = self._look(CheckWorkflow(workflow_id=self.workflow_id))
        if problems:
            raise Violation(f"invariants: {problems}")
        if self.limit_seconds is not None:
            self._check_budget(self.limit_seconds)

    def _check_budget(self, limit_seconds: float) -> None:
        """Check that what was used, and what runs if it goes to its limits, is within the budget."""
        with self.torc.store.dialect.begin_read(self.torc.store.engine) as db:
            tx = Tx(db, self.torc.store.dialect, self.now, "user:tester", None, None)
            if workflow_row(tx, self.workflow_id)["charged_to"] is None:
                return
            used, held = spent(tx, but=self.workflow_id).node_seconds, held_seconds(tx, self.workflow_id)
            if used + held > limit_seconds + 1e-6:
                raise Violation(
                    f"the budget of {limit_seconds:.0f} s is exceeded: {used:.0f} s used, {held:.0f} s held"
                )

    def _look(self, request: Request[Any]) -> Any:
        with self.torc.store.dialect.begin_read(self.torc.store.engine) as db:
            return answer(Tx(db, self.torc.store.dialect, self.now, "user:tester", None, None), request)

    # -- time -----------------------------------------------------------------------------------------------------

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, what))

    def tell(self, text: str) -> None:
        line = f"{self.now - 1_000_000:9.3f} {text}"
        self.history.update(line.encode() + b"\n")
        if self._trace:
            print(line)

    @property
    def is_troubled(self) -> bool:
        return self.now < self.trouble_until

    def happens(self, likely: float) -> bool:
        return self.is_troubled and self.chance.random() < likely

    def run(self) -> None:
        """Live through it, and check the end."""
        for slot in self.slots:
            self.at(self.chance.uniform(0.0, 3.0), lambda slot=slot: self.arrive(slot))
        self.at(0.5, self._mischief)
        end = self.now + _END_SECONDS
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            if self.now > end:
                raise Violation(f"has not come to its end: {self._states()}")
            what()
            if not self.is_troubled and self._is_over():
                break
        self._check_end()

    def _states(self) -> dict[str, str]:
        jobs = self._look(ListJobs(workflow_id=self.workflow_id, limit=1000)).items
        return {job.name: job.state.value for job in jobs}

    def _is_over(self) -> bool:
        return self._look(GetWorkflow(workflow_id=self.workflow_id)).state == "completed" and not any(
            slot.is_there for slot in self.slots
        )

    def _check_end(self) -> None:
        self.check()
        states = self._states()
        if set(states.values()) != {"completed"}:
            raise Violation(f"not completed: {states}")
        results = self._look(ListResults(workflow_id=self.workflow_id, limit=10_000)).items
        recorded = Counter(item.job_id for item in results if item.state == "completed" and item.is_current)
        if set(recorded) != set(self.scripts) or set(recorded.values()) != {1}:
            raise Violation(f"successes were not recorded once each: {recorded}")
        if lost := [job_id for job_id in self.scripts if not self.successes[job_id]]:
            raise Violation(f"successes were recorded that never were: {lost}")
        if self.processes:
            raise Violation("processes are left")
        self._check_actions()

    def _check_actions(self) -> None:
        """Check that each occasion has one end, and that what is recorded as done was carried out."""
        events = self._look(ListEvents(workflow_id=self.workflow_id, type="action_finished", limit=1000)).items
        ends = Counter(event.data["firing_id"] for event in events)
        if len(ends) != 3 or set(ends.values()) != {1}:
            raise Violation(f"ends of actions were not recorded once each: {ends}")
        for event in events:
            firing_id = event.data["firing_id"]
            if event.data["return_code"] == 0 and not self.carried_out[firing_id]:
                raise Violation(f"action {firing_id} is recorded as done, and was not carried out")

    # -- what goes wrong by itself --------------------------------------------------------------------------------

    def _mischief(self) -> None:
        if not self.is_troubled:
            for slot in self.slots:
                self.at(1.0, lambda slot=slot: self._come_back(slot))
            return
        for slot in self.slots:
            if self.now < self.asleep_until[slot.host]:
                continue
            if slot.is_there and self.happens(self.chances.killed):
                self.kill(slot)
            elif slot.is_there and self.happens(self.chances.stopped):
                self.stop(slot, self.chance.choice([0.5, 3.0, 2 * LEASE_SECONDS]))
        if self.happens(self.chances.asleep):
            self._sleep(self.chance.choice(HOSTS), self.chance.choice([1.0, 2 * LEASE_SECONDS]))
        if self.happens(self.chances.away):
            self.away_until = max(self.away_until, self.now + self.chance.choice([0.5, 4.0, 1.5 * LEASE_SECONDS]))
            self.tell(f"the store is away until {self.away_until - 1_000_000:.3f}")
        self.at(0.5, self._mischief)

    def _come_back(self, slot: Slot) -> None:
        """A user who goes on until all is done."""
        if not slot.is_there:
            self.arrive(slot)
        if not self._is_over():
            self.at(5.0, lambda: self._come_back(slot))

    def kill(self, slot: Slot) -> None:
        """Kill a runner with -9; what it started ends with it, or not before the next run."""
        survives = self.chance.random() < 0.3
        self.tell(f"slot {slot.number}: runner {slot.runner_id} is killed{', its processes live' if survives else ''}")
        self._gone(slot)
        mine = [process for process in self.processes if process.slot is slot and process.generation >= 0]
        for process in mine:
            if not survives:
                self.at(self.chance.uniform(0.0, 0.05), lambda process=process: self._end_process(process))
        self.at(self.chance.uniform(0.05, 4.0), lambda: self.arrive(slot))

    def stop(self, slot: Slot, seconds: float) -> None:
        """Stop a runner (SIGSTOP): what it started goes on."""
        self.tell(f"slot {slot.number}: runner {slot.runner_id} stands still for {seconds:.1f} s")
        slot.stopped_until = self.now + seconds
        pid = slot.pid
        self.at(seconds, lambda: self._wake(slot, pid))

    def _sleep(self, host: str, seconds: float) -> None:
        """Put a machine to sleep, with all that runs on it."""
        if self.now < self.asleep_until[host]:
            return
        self.tell(f"{host} sleeps for {seconds:.1f} s")
        self.asleep_until[host] = self.now + seconds
        for slot in self.slots:
            if slot.host == host:
                if slot.is_there:
                    self.stop(slot, seconds)
                for process in self.processes:
                    if process.slot is slot and process.is_alive:
                        process.generation += 1
                        process.ends = max(process.ends, self.now) + seconds
                        self._ends_later(process)

    def _wake(self, slot: Slot, pid: int) -> None:
        if slot.pid != pid or self.now < slot.stopped_until:
            return
        events, slot.inbox = slot.inbox, []
        for event in events:
            self.react(slot, event)
        self.react(slot, Tick())

    # -- runners --------------------------------------------------------------------------------------------------

    def arrive(self, slot: Slot) -> None:
        """Begin a runner, as `run_here` does."""
        if slot.is_there:
            return
        wait = max(self.away_until, self.asleep_until[slot.host]) - self.now
        if wait > 0:
            self.at(wait + 0.5, lambda: self.arrive(slot))
            return
        self._next_pid += 1
        slot.pid = self._next_pid
        self._give_up_dead(slot)
        workflow = self.send(StartRun(workflow_id=self.workflow_id))
        if workflow.ended_at is not None:
            return
        capacity = NodeCapacity(num_cpus=slot.capacity.num_cpus, memory_bytes=slot.capacity.memory_bytes)
        register = RegisterRunner(
            workflow_id=self.workflow_id,
            kind="worker",
            host=slot.host,
            pid=slot.pid,
            process_started=str(slot.pid),
            boot_id=slot.host,
            capacity=capacity,
        )
        if self.happens(self.chances.repeated):
            self.send(register)
        slot.runner_id = self.send(register).id
        slot.settings = ReactorSettings(
            workflow_id=self.workflow_id,
            runner_id=slot.runner_id,
            total=slot.capacity,
            heartbeat_seconds=_HEARTBEAT_SECONDS,
            wait_seconds=_WAIT_SECONDS,
        )
        self.tell(f"slot {slot.number}: runner {slot.runner_id} begins on {slot.host}")
        slot.state, effects = reactor.begin(slot.settings, self.now)
        slot.is_leaving = False
        self._perform(slot, effects)

    def _give_up_dead(self, slot: Slot) -> None:
        """Do what `orphans.give_up_dead_runners` does: deliver what runners have left, then end those that are gone."""
        alive = {other.pid for other in self.slots if other.is_there}
        busy = {other.runner_id for other in self.slots if other.is_there}
        for runner_id, requests in list(self.journals.items()):
            for request in requests:
                self.send(request)
            if runner_id not in busy:
                del self.journals[runner_id]
        listed = self.send(ListRunners(workflow_id=self.workflow_id, active_only=True, limit=10_000)).items
        for runner in listed:
            if runner.host == slot.host and runner.pid not in alive:
                self._end_processes_of(runner)
                self._end_runner(runner.id, DIED)

    def _end_processes_of(self, runner: Runner) -> None:
        for process in [each for each in self.processes if each.slot.host == runner.host]:
            if process.runner_id == runner.id:
                self._end_process(process)

    def _end_runner(self, runner_id: int, reason: str) -> None:
        for request in self.journals.pop(runner_id, []):
            self.send(request)
        with suppress(NotFound):
            self.send(EndRunner(workflow_id=self.workflow_id, runner_id=runner_id, reason=reason))

    def _gone(self, slot: Slot) -> None:
        slot.state = None
        slot.processes, slot.actions, slot.places, slot.lines, slot.inbox = {}, {}, {}, {}, []
        slot.stopped_until = 0.0
        slot.wake += 1
        slot.pid = -slot.pid

    def _leave(self, slot: Slot) -> None:
        assert slot.state is not None
        was_lost = slot.state.is_lost
        self.tell(f"slot {slot.number}: runner {slot.runner_id} leaves{', lost' if was_lost else ''}")
        for process in [each for each in self.processes if each.runner_id == slot.runner_id]:
            self._end_process(process)
        self._gone(slot)
        if self.now >= self.away_until:
            self._end_runner(slot.runner_id, "stopped")
        self.at(0.0 if was_lost else self.chance.uniform(0.5, 5.0), lambda: self.arrive(slot))

    def react(self, slot: Slot, event: Event) -> None:
        """Have a runner take an event in, at once or when it goes on."""
        if slot.state is None or slot.settings is None:
            return
        if self.now < slot.stopped_until:
            slot.inbox.append(event)
            return
        if isinstance(event, Replied):
            self._end_given_up(event.reply)
        try:
            effects = reactor.react(slot.state, event, slot.settings, self.now)
        except (KeyError, IndexError, ValueError) as error:
            raise Violation(f"the reactor fails at {event!r:.200}: {error!r}") from error
        self._perform(slot, effects)
        if isinstance(event, Replied):
            self.journals.pop(slot.runner_id, None)

    def _end_given_up(self, reply: ExchangeReply) -> None:
        """Do what `Loop._end_given_up` does: end what runners of this machine still run that have lost their jobs."""
        for each in reply.given_up:
            self.without_spawners.add(each.runner_id)
            processes = [other for other in self.processes if other.runner_id == each.runner_id]
            for slot in self.slots:
                if slot.runner_id == each.runner_id and slot.is_there:  # before what ends with it
                    self._later(slot, 0.001, SpawnerDied("was killed", tuple(slot.processes)))
            for process in processes:
                self._end_process(process)

    def _perform(self, slot: Slot, effects: list[Effect]) -> None:
        runner_id = slot.runner_id
        for effect in effects:
            if slot.state is None or slot.runner_id != runner_id:
                return
            self._do(slot, effect)
        self._plan_tick(slot)

    def _do(self, slot: Slot, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                self._start(slot, effect)
            case Kill(job_id, for_good):
                self._kill(slot, job_id, for_good=for_good)
            case Withdraw(job_id):
                self._withdraw(slot, job_id)
            case Keep(reports):
                kept = DeliverResults(
                    workflow_id=self.workflow_id,
                    runner_id=slot.runner_id,
                    finished=list(reports.finished),
                    actions_finished=list(reports.actions_finished),
                )
                self.journals[slot.runner_id].append(kept)
            case RunAction(action):
                self._run_action(slot, action)
            case KillAction(firing_id, _):
                if firing_id in slot.actions:
                    self._end_process(slot.actions[firing_id], -9)
            case Send(request):
                self._carry(slot, request)
            case Leave():
                self._leave(slot)

    def _plan_tick(self, slot: Slot) -> None:
        if slot.state is None or slot.settings is None:
            return
        wake = reactor.next_wake(slot.state, slot.settings, self.now)
        slot.wake += 1
        if wake is not None:
            number = slot.wake
            self.at(max(0.001, wake - self.now), lambda: self._tick(slot, number))

    def _tick(self, slot: Slot, number: int) -> None:
        if slot.is_there and slot.wake == number:
            self.react(slot, Tick())

    # -- processes ------------------------------------------------------------------------------------------------

    def _start(self, slot: Slot, effect: StartAttempt) -> None:
        """Start an attempt, or have it wait in line for the place that it is to have, as the spawner does."""
        job_id, attempt = effect.assignment.job_id, effect.assignment.attempt
        place = (job_id, attempt) if effect.after is None else slot.places[effect.after]
        slot.places[job_id] = place
        if place in slot.lines:
            slot.lines[place].append(effect)
        else:
            slot.lines[place] = []
            self._begin_process(slot, job_id, attempt)

    def _begin_process(self, slot: Slot, job_id: int, attempt: int) -> None:
        for other in self.processes:
            if other.firing_id is None and other.job_id == job_id and other.slot.host == slot.host:
                raise Violation(
                    f"job {job_id} runs twice at once on {slot.host}: attempt {other.attempt} since {other.began - 1_000_000:.3f}, "
                    f"and attempt {attempt}"
                )
        if slot.runner_id in self.without_spawners:
            line = slot.lines.pop(slot.places[job_id])
            for waiting in (job_id, *(effect.assignment.job_id for effect in line)):
                self._later(slot, 0.001, Withdrawn(waiting))
            return
        script = self.scripts[job_id]
        self.tries[job_id] += 1
        code = 3 if attempt <= script.fails else 0
        process = Process(
            slot, slot.runner_id, job_id, attempt, self.now, code=code, ends=self.now + script.seconds + 0.002
        )
        self.processes.add(process)
        slot.processes[job_id] = process
        self.tell(f"slot {slot.number}: job {job_id} attempt {attempt} starts")
        self._check_room(slot)
        self._later(slot, 0.001, Launched(job_id, self.now))
        self._ends_later(process)

    def _check_room(self, slot: Slot) -> None:
        used = sum(self.scripts[job_id].cpus for job_id in slot.processes)
        if used > slot.capacity.num_cpus:
            raise Violation(f"slot {slot.number} runs {used} CPUs' worth of jobs on {slot.capacity.num_cpus}")

    def _ends_later(self, process: Process) -> None:
        generation = process.generation
        self.at(
            max(0.0, process.ends - self.now),
            lambda: self._end_process(process, process.code) if process.generation == generation else None,
        )

    def _end_process(self, process: Process, code: int = -9) -> None:
        """End a process, and tell its runner if that is still there."""
        if not process.is_alive:
            return
        process.is_alive = False
        self.processes.discard(process)
        slot = process.slot
        is_known = slot.is_there and process.runner_id == slot.runner_id
        is_doubtful = process.runner_id in self.without_spawners
        if process.firing_id is not None:
            self.carried_out[process.firing_id] += code == 0
            if is_known and slot.actions.pop(process.firing_id, None) is not None:
                self._later(slot, 0.001, ActionExited(process.firing_id, code, is_doubtful=is_doubtful))
            return
        self.successes[process.job_id] += code == 0
        self.tell(f"slot {slot.number}: job {process.job_id} attempt {process.attempt} ends with {code}")
        if not (is_known and slot.processes.get(process.job_id) is process):
            return
        del slot.processes[process.job_id]
        wall = self.now - process.began
        self._later(slot, 0.001, Exited(process.job_id, code, self.now, wall, Usage(), is_doubtful=is_doubtful))
        line = slot.lines[slot.places[process.job_id]]
        if line:
            following = line.pop(0).assignment
            self._begin_process(slot, following.job_id, following.attempt)
        else:
            del slot.lines[slot.places[process.job_id]]

    def _later(self, slot: Slot, seconds: float, event: Event) -> None:
        pid = slot.pid
        self.at(seconds, lambda: self.react(slot, event) if slot.pid == pid else None)

    def _kill(self, slot: Slot, job_id: int, *, for_good: bool) -> None:
        process = slot.processes.get(job_id)
        if process is None:
            self._withdraw(slot, job_id)
        else:
            self.at(0.0 if for_good else 0.05, lambda: self._end_process(process, -9 if for_good else -15))

    def _withdraw(self, slot: Slot, job_id: int) -> None:
        for line in slot.lines.values():
            for effect in line:
                if effect.assignment.job_id == job_id:
                    line.remove(effect)
                    self._later(slot, 0.001, Withdrawn(job_id))
                    return

    def _run_action(self, slot: Slot, action: ActionAssignment) -> None:
        if any(other.firing_id == action.firing_id and other.slot.host == slot.host for other in self.processes):
            raise Violation(f"action {action.firing_id} runs twice at once")
        if action.trigger_type == "on_jobs_ready" and self.firings[action.firing_id]:
            raise Violation(f"action {action.firing_id} runs again, which is to run once at most")
        for runner_id in self.firings[action.firing_id]:
            if self._look(GetRunner(runner_id=runner_id)).is_active:
                raise Violation(
                    f"action {action.firing_id} runs again, though runner {runner_id} has not been given up"
                )
        self.firings[action.firing_id].append(slot.runner_id)
        self.tell(f"slot {slot.number}: action {action.firing_id} starts")
        process = Process(
            slot,
            slot.runner_id,
            0,
            0,
            self.now,
            firing_id=action.firing_id,
            ends=self.now + self.chance.uniform(0.01, 1.0),
        )
        self.processes.add(process)
        slot.actions[action.firing_id] = process
        self._ends_later(process)

    # -- the network ----------------------------------------------------------------------------------------------

    def _carry(self, slot: Slot, request: Exchange) -> None:
        """Take a request to the store and the reply back, or not."""
        pid = slot.pid
        delay = self.chance.uniform(0.0005, 0.01)
        if self.happens(self.chances.delayed):
            delay = self.chance.choice([0.5, 3.0, 12.0])
        answered: list[bool] = []

        def give(event: Event) -> None:
            if slot.pid == pid and not answered:
                answered.append(True)
                self.react(slot, event)

        if self.happens(self.chances.lost_request):
            self.tell(f"slot {slot.number}: a request is lost")
        else:
            loses = self.happens(self.chances.lost_reply)
            self.at(delay, lambda: self._arrives(slot, request, None if loses else give))
            if self.happens(self.chances.repeated):
                later = delay + self.chance.choice([0.001, 0.5, 5.0])
                self.at(later, lambda: self._arrives(slot, request, None))
        self.at(request.wait_seconds + _TIMEOUT_SECONDS, lambda: give(Unreachable(request)))

    def _arrives(self, slot: Slot, request: Exchange, give: Callable[[Event], None] | None) -> None:
        """Answer a request; it may be kept waiting for work, as the server does."""
        if self.now < self.away_until:
            return
        until = self.now + request.wait_seconds

        def look(asked: Exchange) -> None:
            if self.now < self.away_until:
                return
            reply = self._exchange(asked)
            if is_worth_sending(reply) or self.now >= until - 1e-6:
                if give is not None:
                    self.at(self.chance.uniform(0.0005, 0.01), lambda: give(Replied(reply)))
                return
            again = without_reports(asked)
            assert isinstance(again, Exchange)
            done: list[bool] = []

            def once() -> None:
                if not done:
                    done.append(True)
                    look(again)

            self._waiting.append(once)
            self.at(until - self.now, once)

        look(request)

    def _exchange(self, request: Exchange) -> ExchangeReply:
        try:
            reply: ExchangeReply = self.send(request)
        except NotFound:
            return ExchangeReply(done=True, lease_seconds=0.0, runner_is_lost=True)
        except TorcError as error:
            raise Violation(f"the store refuses an exchange: {error}") from error
        return reply


def simulate(seed: int, torc: Embedded, *, trace: bool = False) -> World:
    """Live through one history. Raises Violation."""
    before, runs.LEASE_SECONDS = runs.LEASE_SECONDS, LEASE_SECONDS
    exchange.LEASE_SECONDS = LEASE_SECONDS
    try:
        world = World(seed, torc, trace=trace)
        world.run()
    finally:
        runs.LEASE_SECONDS = exchange.LEASE_SECONDS = before
    return world


def main(arguments: list[str] | None = None) -> int:
    """Simulate many histories, or tell one."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description="Simulate histories with faults.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="tell what happens")
    options = parser.parse_args(arguments)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    folder = Path(tempfile.mkdtemp(prefix="torc-simulation-", dir="/dev/shm"))
    failed, requests, begun = 0, 0, time.monotonic()
    try:
        torc: Embedded | None = None
        for number, seed in enumerate(seeds):
            if number % 200 == 0:
                if torc is not None:
                    torc.close()
                torc = Embedded(open_store(folder / f"{number}.db"), "user:tester")
            assert torc is not None
            try:
                requests += simulate(seed, torc, trace=options.trace).num_requests
            except Violation as error:
                failed += 1
                print(f"seed {seed}: {error}", flush=True)
    finally:
        shutil.rmtree(folder)
    seconds = time.monotonic() - begun
    print(f"{len(seeds)} histories, {requests} requests, {failed} violations, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
