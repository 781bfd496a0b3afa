"""A workflow of any size as a graph of some forty parts, with the states of their jobs.

A small one is drawn as `torc plan --graph` draws it. Of a large one the jobs are counted in the store, by the beginning
of their names or by class, and what a part waits for is what its first and its last job wait for: to read a graph of
100,000 jobs takes seconds, and whoever watches a workflow asks every few of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torc.api.workflows import GetGraph, Outline, OutlineWorkflow, Part
from torc.operations.dispatch import Tx, answers
from torc.operations.graph import get_graph
from torc.operations.row_mapping import workflow_of, workflow_row
from torc.store import graph as stored_graph
from torc.store.graph import GroupBy
from torc.workflow.graph import graph_of
from torc.workflow.graph_export import MOST_NODES, common_name, draw
from torc.workflow.states import State

#: up to so many jobs, the graph itself is read and drawn
MOST_JOBS_DRAWN = 1000
_GROUPINGS: tuple[GroupBy, ...] = ("name", "class", "workflow")


@dataclass(slots=True)
class _Counted:
    """Jobs of one kind, as they are counted."""

    first: int
    last: int
    states: dict[State, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # of the first and the last
    gates: set[int] = field(default_factory=set)


@answers(OutlineWorkflow)
def outline_workflow(tx: Tx, request: OutlineWorkflow) -> Outline:
    """Outline a workflow."""
    workflow = workflow_of(tx, workflow_row(tx, request.workflow_id))
    if workflow.counts.total > MOST_JOBS_DRAWN:
        parts, edges = _counted(tx, request.workflow_id)
        return Outline(workflow=workflow, parts=parts, edges=edges, is_exact=False)
    stored = get_graph(tx, GetGraph(workflow_id=request.workflow_id))
    graph = graph_of([tuple(gate) for gate in stored.gates], [job.gate for job in stored.jobs])
    drawing = draw(graph, [job.name for job in stored.jobs])
    return Outline(
        workflow=workflow,
        parts=[
            Part(
                label=node.label,
                stage=node.stage,
                num_jobs=len(node.jobs),
                states=_states(stored.jobs[job].state for job in node.jobs),
            )
            for node in drawing.nodes
        ],
        edges=[(edge.source, edge.target) for edge in drawing.edges],
        is_exact=True,
    )


def _states(found: Iterable[State]) -> dict[State, int]:
    counts: dict[State, int] = {}
    for state in found:
        counts[state] = counts.get(state, 0) + 1
    return counts


def _counted(tx: Tx, workflow_id: int) -> tuple[list[Part], list[tuple[int, int]]]:
    for by in _GROUPINGS:
        groups = _groups(tx, workflow_id, by)
        if len(groups) <= MOST_NODES:
            break
    _look_at_ends(tx, groups)
    kinds = sorted(groups, key=lambda key: groups[key].first)
    at = {key: number for number, key in enumerate(kinds)}
    edges = sorted(
        (at[source], at[target])
        for source, target in _edges(tx, by, groups)
        if source in at and target in at and source != target
    )
    stages = _stages(len(kinds), edges)
    parts = []
    for number, key in enumerate(kinds):
        group = groups[key]
        label = key if by == "class" else common_name(sorted(group.names))
        parts.append(Part(label=label, stage=stages[number], num_jobs=sum(group.states.values()), states=group.states))
    return parts, edges


def _groups(tx: Tx, workflow_id: int, by: GroupBy) -> dict[str, _Counted]:
    groups: dict[str, _Counted] = {}
    for found in stored_graph.groups(tx.db, tx.dialect, workflow_id, by):
        group = groups.setdefault(found.key, _Counted(found.first, found.last))
        group.first, group.last = min(group.first, found.first), max(group.last, found.last)
        group.states[State(found.state)] = found.number
    return groups


def _look_at_ends(tx: Tx, groups: dict[str, _Counted]) -> None:
    """Read the names and the gates of the first and the last job of each kind."""
    at = {number: group for group in groups.values() for number in (group.first, group.last)}
    for job in stored_graph.jobs_at_ends(tx.db, tx.dialect, at):
        at[job.id].names.add(job.name)
        if job.gate_id is not None:
            at[job.id].gates.add(job.gate_id)


def _edges(tx: Tx, by: GroupBy, groups: dict[str, _Counted]) -> set[tuple[str, str]]:
    """Return which kinds wait for which, by the first and the last job of each."""
    waiting: dict[int, list[str]] = {}
    for key, group in groups.items():
        for gate in group.gates:
            waiting.setdefault(gate, []).append(key)
    before = stored_graph.groups_before(tx.db, tx.dialect, waiting, by)
    return {(source.key, target) for source in before for target in waiting[source.gate_id]}


def _stages(size: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the stage of each part. Kinds of jobs may wait for each other both ways: then the rounds end it."""
    stage = [0] * size
    for _ in range(size):
        before = list(stage)
        for source, target in edges:
            stage[target] = max(stage[target], stage[source] + 1)
        if stage == before:
            return stage
    ranks = {value: rank for rank, value in enumerate(sorted(set(stage)))}
    return [ranks[value] for value in stage]
