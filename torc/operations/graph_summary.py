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
from torc.workflow.graph import graph_of
from torc.workflow.graph_export import MOST_NODES, common_name, draw
from torc.workflow.states import State

#: up to so many jobs, the graph itself is read and drawn
MOST_JOBS_DRAWN = 1000
#: what jobs are counted by: how their names begin; their class; nothing
_STEM = "rtrim(j.name, '0123456789._-')"
_CLASS = "(SELECT r.name FROM requirement r WHERE r.id = j.requirement_id)"
_ALL = "'*'"


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
    for kind in (_STEM, _CLASS, _ALL):
        groups = _groups(tx, workflow_id, kind)
        if len(groups) <= MOST_NODES:
            break
    _look_at_ends(tx, groups)
    kinds = sorted(groups, key=lambda key: groups[key].first)
    at = {key: number for number, key in enumerate(kinds)}
    edges = sorted(
        (at[source], at[target])
        for source, target in _edges(tx, kind, groups)
        if source in at and target in at and source != target
    )
    stages = _stages(len(kinds), edges)
    parts = []
    for number, key in enumerate(kinds):
        group = groups[key]
        label = key if kind == _CLASS else common_name(sorted(group.names))
        parts.append(Part(label=label, stage=stages[number], num_jobs=sum(group.states.values()), states=group.states))
    return parts, edges


def _groups(tx: Tx, workflow_id: int, kind: str) -> dict[str, _Counted]:
    rows = tx.dialect.fetch(
        tx.db,
        f"SELECT {kind} AS kind, j.state, count(*), min(j.id), max(j.id) FROM job j "
        "WHERE j.workflow_id = :id GROUP BY 1, 2",
        {"id": workflow_id},
    )
    groups: dict[str, _Counted] = {}
    for key, state, count, first, last in rows:
        group = groups.setdefault(key, _Counted(first, last))
        group.first, group.last = min(group.first, first), max(group.last, last)
        group.states[State(state)] = count
    return groups


def _look_at_ends(tx: Tx, groups: dict[str, _Counted]) -> None:
    """Read the names and the gates of the first and the last job of each kind."""
    at = {number: group for group in groups.values() for number in (group.first, group.last)}
    for number, name, gate in tx.dialect.fetch(
        tx.db, f"SELECT id, name, gate_id FROM job WHERE id IN {tx.dialect.id_list}", {"ids": tx.dialect.ids(at)}
    ):
        at[number].names.add(name)
        if gate is not None:
            at[number].gates.add(gate)


def _edges(tx: Tx, kind: str, groups: dict[str, _Counted]) -> set[tuple[str, str]]:
    """Return which kinds wait for which, by the first and the last job of each."""
    waiting: dict[int, list[str]] = {}
    for key, group in groups.items():
        for gate in group.gates:
            waiting.setdefault(gate, []).append(key)
    if not waiting:
        return set()
    rows = tx.dialect.fetch(
        tx.db,
        f"SELECT DISTINCT p.gate_id, {kind} FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
        f"WHERE p.gate_id IN {tx.dialect.id_list}",
        {"ids": tx.dialect.ids(waiting)},
    )
    return {(source, target) for gate, source in rows for target in waiting[gate]}


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
