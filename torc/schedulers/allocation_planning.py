"""Which allocations to ask for, when, and of which size. Pure.

Classes of jobs are put into groups that share allocations; the stages of a group become segments; each segment is packed on nodes
of its partition. The first segments are asked for at once, later ones when their jobs are ready, so that no node waits for
jobs. Not for the text of batch scripts (`script`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torc.errors import Invalid
from torc.planning.demand import Demand, StageDemand
from torc.planning.node_packing import Packing, pack_nodes, shortest
from torc.planning.reserve import END_SECONDS, LAST_START_SECONDS, START_SECONDS
from torc.schedulers.partition_choice import (
    PartitionWishes,
    UnrunnableRequest,
    capacity,
    choose,
    memory_to_ask,
    most_nodes,
    refuse,
)
from torc.schedulers.partitions import Cluster, Partition
from torc.units import human_bytes, human_duration
from torc.workflow.resources import Capacity

GroupBy = Literal["resource-requirements", "partition"]
WalltimeStrategy = Literal["max-job-runtime", "max-partition-time"]
#: an allocation that is shorter spends more on waiting and starting than on jobs: short jobs are run one after the other
_LEAST_SECONDS = 900
#: more allocations than this annoy schedulers and people: they get more nodes each
MOST_ALLOCATIONS = 50
#: what is asked for where neither the cluster nor a job says how long
_UNLIMITED_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class AllocationPlanOptions:
    """What the user wants of a plan."""

    wishes: PartitionWishes = field(default_factory=PartitionWishes)
    group_by: GroupBy = "resource-requirements"
    walltime_strategy: WalltimeStrategy = "max-job-runtime"
    walltime_multiplier: float = 1.5
    single_allocation: bool = False
    num_allocations: int | None = None
    max_nodes: int | None = None  # of a segment at once


@dataclass(frozen=True, slots=True)
class PlannedAllocation:
    """Equal allocations that run the jobs of some cells."""

    name: str
    partition: str
    cells: tuple[StageDemand, ...]
    num_allocations: int
    num_nodes: int  # of each allocation
    walltime_seconds: int
    expected_seconds: int  # until the last job ends, when all take as long as they may
    num_nodes_busy: int  # of all allocations together
    cpus_per_node: int | None  # None: whole nodes
    memory_bytes_per_node: int | None
    gpus_per_node: int
    gpu_type: str | None
    reasons: tuple[str, ...]

    @property
    def stage(self) -> int:
        """The stage whose jobs it waits for; 0: none."""
        return self.cells[0].stage

    @property
    def num_jobs(self) -> int:
        """Count the jobs that it is for."""
        return sum(cell.num_jobs for cell in self.cells)

    @property
    def trigger(self) -> tuple[tuple[int, int], ...]:
        """The cells (stage, class) whose jobs make it due."""
        return tuple((cell.stage, cell.requirement) for cell in self.cells if cell.stage == self.stage)

    @property
    def node_hours(self) -> float:
        """The most that it can cost."""
        return self.num_allocations * self.num_nodes * self.walltime_seconds / 3600


@dataclass(frozen=True, slots=True)
class AllocationPlan:
    """All that is to be asked for, and what cannot be."""

    allocations: tuple[PlannedAllocation, ...]
    refused: tuple[UnrunnableRequest, ...] = ()

    @property
    def node_hours(self) -> float:
        """The most that it can cost."""
        return sum(planned.node_hours for planned in self.allocations)

    @property
    def binds(self) -> bool:
        """Return whether jobs are to be kept to their allocations: where there are groups, the nodes of one are not for another."""
        return len({planned.partition for planned in self.allocations}) > 1 or len(_shapes(self.allocations)) > 1


def _shapes(allocations: Sequence[PlannedAllocation]) -> set[frozenset[int]]:
    return {frozenset(cell.requirement for cell in planned.cells) for planned in allocations}


@dataclass(frozen=True, slots=True)
class _Group:
    """Classes that share allocations."""

    name: str
    partition: Partition
    unit: int  # nodes on which each job runs
    classes: frozenset[int]


@dataclass(slots=True)
class _Segment:
    """Stages of a group that run in the same allocations, one after the other."""

    group: _Group
    cells: list[StageDemand]
    packings: list[Packing] = field(default_factory=list)  # of each stage
    notes: list[str] = field(default_factory=list)

    @property
    def num_units(self) -> int:
        return max(packing.num_nodes for packing in self.packings)

    @property
    def seconds(self) -> int:
        return sum(packing.seconds for packing in self.packings)


def plan(
    demand: Demand, cluster: Cluster, options: AllocationPlanOptions | None = None, *, taken: Collection[str] = ()
) -> AllocationPlan:
    """Plan allocations for all that is left to do, under names that are not taken.

    Raises Invalid for options that contradict each other or the cluster.
    """
    options = AllocationPlanOptions() if options is None else options
    _check(options, cluster)
    groups, refused = _groups(demand, cluster, options)
    segments = [segment for group in groups for segment in _segments(demand, group, options)]
    names = _SchedulerNames(taken)
    made = [_planned(demand, segment, options, names) for segment in segments]
    return AllocationPlan(tuple(sorted(made, key=lambda planned: (planned.stage, planned.name))), refused)


def _check(options: AllocationPlanOptions, cluster: Cluster) -> None:
    known = [partition.name for partition in cluster.partitions]
    for name in options.wishes.partitions:
        if name not in known:
            raise Invalid(
                f"{cluster.display_name} has no partition {name}", hint=f"it has {', '.join(known) or 'none at all'}"
            )
    if options.walltime_multiplier < 1.0:
        raise Invalid("--walltime-multiplier is below 1: jobs would be cut off", hint="1.5 leaves some room")
    if options.single_allocation and options.num_allocations not in {None, 1}:
        raise Invalid("--single-allocation and --num-allocations contradict each other", hint="leave one of them out")


def _groups(
    demand: Demand, cluster: Cluster, options: AllocationPlanOptions
) -> tuple[list[_Group], tuple[UnrunnableRequest, ...]]:
    """Assign each class to a partition, and put classes together that share allocations."""
    counts: dict[int, int] = {}
    for cell in demand.cells:
        counts[cell.requirement] = counts.get(cell.requirement, 0) + cell.num_jobs
    found: dict[tuple[str, Partition, int], set[int]] = {}
    refused = []
    for number, num_jobs in sorted(counts.items()):
        request, name = demand.requests[number], demand.names[number]
        partition = choose(request, cluster, options.wishes)
        if partition is None:
            refused.append(refuse(request, cluster, options.wishes, (number, name, num_jobs)))
            continue
        by = name if options.group_by == "resource-requirements" else partition.name
        found.setdefault((by, partition, request.num_nodes), set()).add(number)
    groups = []
    for (by, partition, unit), classes in found.items():
        groups.append(_Group(by if unit == 1 else f"{by}_{unit}_nodes", partition, unit, frozenset(classes)))
    return groups, tuple(refused)


def _segments(demand: Demand, group: _Group, options: AllocationPlanOptions) -> list[_Segment]:
    """Pack each stage of a group, and put a stage behind the one before it where that needs no further node, and there is time.

    Nodes that have work already go on with the next stage without a second wait in the queue; where a stage needs more nodes,
    they are asked for when it begins, instead of idling until then.
    """
    stages: dict[int, list[StageDemand]] = {}
    for cell in demand.cells:
        if cell.requirement in group.classes:
            stages.setdefault(cell.stage, []).append(cell)
    found: list[_Segment] = []
    for stage, cells in sorted(stages.items()):
        segment = _Segment(group, cells)
        segment.packings.append(_pack(demand, segment, options))
        before = found[-1] if found else None
        if (
            before is not None
            and before.cells[-1].stage == stage - 1
            and segment.num_units <= before.num_units
            and before.seconds + segment.seconds <= _most_seconds(group.partition)
        ):
            before.cells += cells
            before.packings += segment.packings
            before.notes += segment.notes
        else:
            found.append(segment)
    return found


def _most_seconds(partition: Partition) -> int:
    """Return the time for jobs one after the other. Of a job that starts at once, its own time is all that counts."""
    longest = partition.max_walltime_seconds
    return max(0, longest - START_SECONDS - LAST_START_SECONDS) if longest is not None else _UNLIMITED_SECONDS


def _most_units(group: _Group, options: AllocationPlanOptions) -> int:
    nodes = most_nodes(group.partition) if options.single_allocation else _nodes_at_once(group.partition)
    if options.max_nodes is not None:
        nodes = min(nodes, options.max_nodes)
    return max(1, nodes // group.unit)


def _nodes_at_once(partition: Partition) -> int:
    return max(1, min(partition.num_nodes, partition.max_nodes_per_user or partition.num_nodes))


def _pack(demand: Demand, segment: _Segment, options: AllocationPlanOptions) -> Packing:
    """Pack the jobs of one stage: on as many nodes as they need in the time of the strategy, no more than can be had at once."""
    group = segment.group
    counts = {cell.requirement: cell.num_jobs for cell in segment.cells}
    longest = _longest(demand, segment.cells)
    most = max(longest, _most_seconds(group.partition))
    wanted = most if options.walltime_strategy == "max-partition-time" else min(most, max(longest, _LEAST_SECONDS))
    node, units = capacity(group.partition), _most_units(group, options)
    packing = pack_nodes(demand.requests, counts, node, wanted)
    needed = packing.num_nodes
    if needed > units:
        packing = shortest(demand.requests, counts, node, units, (wanted, most))
        if packing.num_nodes > units:
            segment.notes.append(
                f"even in {human_duration(most)} it takes {packing.num_nodes * group.unit} nodes, and {units * group.unit} "
                "can be had at once: the others wait their turn"
            )
        else:
            segment.notes.append(
                f"{needed * group.unit} nodes would do it in {human_duration(wanted)}, but {units * group.unit} can be had at "
                "once: it runs longer instead"
            )
        return packing
    at_least = min(units, options.num_allocations or 1)
    return shortest(demand.requests, counts, node, max(packing.num_nodes, at_least), (longest, wanted))


def _longest(demand: Demand, cells: Sequence[StageDemand]) -> int:
    return max(demand.requests[cell.requirement].runtime_seconds for cell in cells)


class _SchedulerNames:
    """Gives each scheduler a name of its own."""

    def __init__(self, taken: Collection[str]) -> None:
        self.taken = set(taken)

    def new(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name


def _planned(
    demand: Demand, segment: _Segment, options: AllocationPlanOptions, names: _SchedulerNames
) -> PlannedAllocation:
    group, partition = segment.group, segment.group.partition
    stage = segment.cells[0].stage
    num_allocations, units, notes = _spread(segment, options)
    walltime = _walltime(demand, segment, options)
    peak = _peak(segment)
    cpus = peak.num_cpus if partition.is_shared or partition.is_part else None
    return PlannedAllocation(
        name=names.new(group.name if stage == 0 else f"{group.name}_stage_{stage + 1}"),
        partition=partition.name,
        cells=tuple(segment.cells),
        num_allocations=num_allocations,
        num_nodes=units * group.unit,
        walltime_seconds=walltime,
        expected_seconds=segment.seconds,
        num_nodes_busy=segment.num_units * group.unit,
        cpus_per_node=cpus,
        memory_bytes_per_node=memory_to_ask(peak.memory_bytes, partition) if cpus is not None else None,
        gpus_per_node=peak.num_gpus,
        gpu_type=options.wishes.gpu_type if peak.num_gpus else None,
        reasons=(*_reasons(demand, segment, walltime), *segment.notes, *notes),
    )


def _peak(segment: _Segment) -> Capacity:
    peaks = [packing.peak() for packing in segment.packings]
    return Capacity(
        max(peak.num_cpus for peak in peaks),
        max(peak.memory_bytes for peak in peaks),
        max(peak.num_gpus for peak in peaks),
    )


def _spread(segment: _Segment, options: AllocationPlanOptions) -> tuple[int, int, list[str]]:
    """Return how many allocations there are, of how many units each, and why."""
    units, unit = segment.num_units, segment.group.unit
    largest = max(1, most_nodes(segment.group.partition) // unit)
    least = -(-segment.group.partition.min_nodes_per_job // unit)
    if units <= least:
        return 1, least, [f"the partition gives at least {least * unit} nodes"] if units < least else []
    if options.single_allocation:
        if units <= largest:
            return (
                1,
                units,
                ["one allocation, as asked for: it starts when all its nodes are free"] if units > 1 else [],
            )
        count = -(-units // largest)
        return count, -(-units // count), [f"an allocation may have {largest * unit} nodes: {count} of them"]
    if options.num_allocations is not None:
        count = min(options.num_allocations, units)
        less = (
            [f"there is work for {count} allocations, not {options.num_allocations}"]
            if count < options.num_allocations
            else []
        )
        each = min(largest, max(least, -(-units // count)))
        if count * each > units:
            less = [*less, f"{count * each * unit} nodes for the work of {units * unit}: allocations are equal"]
        return count, each, less
    count = min(units, max(MOST_ALLOCATIONS, -(-units // largest)))
    each = max(least, -(-units // count))
    count = -(-units // each)
    notes = []
    if count > 1:
        notes.append(
            f"{count} allocations that start one by one as nodes become free (--single-allocation would wait for "
            f"{units * unit} nodes at once)"
        )
    return count, each, notes


def _walltime(demand: Demand, segment: _Segment, options: AllocationPlanOptions) -> int:
    """Return the walltime: room for all jobs, in whole minutes, as schedulers count."""
    limit = segment.group.partition.max_walltime_seconds
    if options.walltime_strategy == "max-partition-time" and limit is not None:
        return limit
    is_one_round = len(segment.packings) == 1 and segment.seconds == _longest(demand, segment.cells)
    after = END_SECONDS if is_one_round else LAST_START_SECONDS
    asked = int(segment.seconds * options.walltime_multiplier) + START_SECONDS + after
    rounded = -(-asked // 60) * 60
    return rounded if limit is None else min(rounded, limit)


def _reasons(demand: Demand, segment: _Segment, walltime: int) -> list[str]:
    group, node = segment.group, capacity(segment.group.partition)
    classes = _by_class(segment.cells)
    first = max(classes, key=lambda number: (classes[number], -number))
    request = demand.requests[first]
    load = segment.packings[0].loads[0][0]
    at_once = sum(lane.times for lane in load.lanes)
    shown = f"{at_once} job{'' if at_once == 1 else 's'} at once on a node"
    if len(classes) == 1:
        shown += f" ({_limit(request.num_cpus, request.memory_bytes, request.num_gpus, node)})"
    where = " (the default)" if group.partition.is_default else ""
    found = [f"partition {group.partition.name}{where}: {shown}"]
    if group.partition.is_part:
        found.append(f"counting on those of its nodes that have {_described(group.partition)}")
    if len(segment.packings) > 1:
        found.append(f"{len(segment.packings)} stages one after the other on the same nodes")
    found.append(
        f"done after {human_duration(segment.seconds)} when every job takes all of its time; walltime {human_duration(walltime)}"
    )
    return found


def _described(nodes: Partition) -> str:
    gpus = (
        f", {nodes.gpus_per_node} GPUs{f' ({nodes.gpu_type})' if nodes.gpu_type else ''}" if nodes.gpus_per_node else ""
    )
    return f"{nodes.cpus_per_node} CPUs, {human_bytes(nodes.memory_bytes_per_node)}{gpus}: {nodes.num_nodes}"


def _limit(num_cpus: int, memory_bytes: int, num_gpus: int, node: Capacity) -> str:
    """Say what a node of one class runs out of first."""
    room = {
        f"{num_cpus} of {node.num_cpus} CPUs each": node.num_cpus // num_cpus,
        f"{human_bytes(memory_bytes)} of {human_bytes(node.memory_bytes)} each": node.memory_bytes
        // max(1, memory_bytes),
    }
    if num_gpus:
        room[f"{num_gpus} of {node.num_gpus} GPUs each"] = node.num_gpus // num_gpus
    return min(room, key=lambda text: room[text])


def _by_class(cells: Sequence[StageDemand]) -> Mapping[int, int]:
    found: dict[int, int] = {}
    for cell in cells:
        found[cell.requirement] = found.get(cell.requirement, 0) + cell.num_jobs
    return found
