"""A workflow as a readable drawing: Mermaid, Graphviz or JSON text.

A drawing with a thousand nodes is useless. If there are too many jobs, similar ones are merged into one node: first those whose
names differ only by numbers (`train_*`, 1,000 jobs), then those whose names start alike, and finally whole stages, several
of them if necessary. Layout is left to the program that renders the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torc.workflow.graph import JobGraph, stages, topological_order

MOST_NODES = 40

_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_FIRST_WORD = re.compile(r"\w[^\W_]*|\W+")
_MERMAID_SPECIAL = re.compile(r'[#"<>&`\\]')


@dataclass(frozen=True, slots=True)
class Node:
    """One job, or several similar ones."""

    label: str  # without the job count
    jobs: tuple[int, ...]
    stage: int  # of the first job
    detail: str  # resource requests or the like; empty: none


@dataclass(frozen=True, slots=True)
class Edge:
    """Jobs of `target` wait for jobs of `source`: each for `fewest` to `most` of them."""

    source: int  # index into Drawing.nodes
    target: int
    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """Nodes in topological order, and edges from prerequisite to dependent."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def draw(
    graph: JobGraph, names: Sequence[str], details: Sequence[str] = (), *, most_nodes: int = MOST_NODES
) -> Drawing:
    """Draw a graph with at most `most_nodes` nodes.

    `details` is a short text for each job; jobs with different texts are merged only by stage. Raises Invalid when jobs wait for
    each other in a cycle.
    """
    order, stage = topological_order(graph), stages(graph)
    if len(order) <= most_nodes:
        return _grouped(graph, names, details, stage, [[job] for job in order])
    for stem in (numbers_starred, first_word):
        groups = _group_alike(
            graph, order, [(stem(name), details[job] if details else "") for job, name in enumerate(names)]
        )
        if len(groups) <= most_nodes:
            return _grouped(graph, names, details, stage, groups)
    together = -(-(max(stage) + 1) // most_nodes)  # stages in one node, rounded up
    by_stage: list[list[int]] = [[] for _ in range(max(stage) // together + 1)]
    for job in order:
        by_stage[stage[job] // together].append(job)
    return _grouped(graph, names, details, stage, by_stage)


def numbers_starred(name: str) -> str:
    """Return a name with each number replaced by a star, which the jobs of a sweep share."""
    return _NUMBERS.sub("*", name)


def first_word(name: str) -> str:
    """Return the first word of a name."""
    match = _FIRST_WORD.match(name)
    return numbers_starred(match[0]) if match else name


def _group_alike(graph: JobGraph, order: Sequence[int], kinds: Sequence[Hashable]) -> list[list[int]]:
    """Group jobs that are of one kind and wait for the same groups, in topological order."""
    groups: dict[Hashable, list[int]] = {}
    group_of: dict[int, Hashable] = {}
    numbers: dict[Hashable, int] = {}
    of_gate: dict[int, frozenset[int]] = {}
    for job in order:
        gate = graph.gate_of[job]
        before: frozenset[int] = frozenset()
        if gate is not None:
            if gate not in of_gate:
                of_gate[gate] = frozenset(numbers[group_of[member]] for member in graph.gates[gate])
            before = of_gate[gate]
        key = (kinds[job], before)
        numbers.setdefault(key, len(numbers))
        groups.setdefault(key, []).append(job)
        group_of[job] = key
    return list(groups.values())


def _grouped(
    graph: JobGraph, names: Sequence[str], details: Sequence[str], stage: Sequence[int], groups: Sequence[Sequence[int]]
) -> Drawing:
    nodes = []
    group_of = [0] * len(graph)
    for number, jobs in enumerate(groups):
        members = tuple(sorted(jobs))
        for job in members:
            group_of[job] = number
        shared = {details[job] for job in members} if details else {""}
        detail = shared.pop() if len(shared) == 1 else f"{len(shared)} kinds"
        first = min(stage[job] for job in members)
        label = common_name([names[job] for job in members])
        nodes.append(Node(f"stage {first}" if label == "*" else label, members, first, detail))
    return Drawing(tuple(nodes), _edges(graph, group_of))


def _edges(graph: JobGraph, group_of: Sequence[int]) -> tuple[Edge, ...]:
    widths: dict[tuple[int, int], tuple[int, int]] = {}
    for gate, members in enumerate(graph.gates):
        counts: dict[int, int] = {}
        for job in members:
            counts[group_of[job]] = counts.get(group_of[job], 0) + 1
        for target in {group_of[job] for job in graph.waiters(gate)}:
            for source, count in counts.items():
                if source == target:  # merged stages
                    continue
                fewest, most = widths.get((source, target), (count, count))
                widths[source, target] = min(fewest, count), max(most, count)
    return tuple(Edge(*ends, *width) for ends, width in sorted(widths.items()))


def common_name(names: Sequence[str]) -> str:
    """Return the common part of the names, with a star for the rest."""
    if len(names) == 1:
        return names[0]
    patterns = {numbers_starred(name) for name in names}
    if len(patterns) == 1:
        return patterns.pop()
    low, high = min(patterns), max(patterns)
    length = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:length].rstrip("*") + "*"


def _title(node: Node) -> str:
    return node.label if len(node.jobs) == 1 else f"{node.label} ({len(node.jobs):,} jobs)"


def _width(drawing: Drawing, edge: Edge) -> str:
    """Return how many jobs of the source each job of the target waits for; empty if all."""
    if edge.fewest == len(drawing.nodes[edge.source].jobs):
        return ""
    return f"{edge.most:,} each" if edge.fewest == edge.most else f"{edge.fewest:,} to {edge.most:,} each"


def mermaid(drawing: Drawing) -> str:
    """Return a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html), with entities for special characters."""
    lines = ["flowchart TD"]
    for number, node in enumerate(drawing.nodes):
        detail = f"<br/>{_mermaid_text(node.detail)}" if node.detail else ""
        lines.append(f'    n{number}["{_mermaid_text(_title(node))}{detail}"]')
    for edge in drawing.edges:
        width = _width(drawing, edge)
        arrow = f'-- "{width}" -->' if width else "-->"
        lines.append(f"    n{edge.source} {arrow} n{edge.target}")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    return _MERMAID_SPECIAL.sub(lambda match: f"#{ord(match[0])};", _printable(text))


def dot(drawing: Drawing, name: str = "workflow") -> str:
    """Return a Graphviz graph (https://graphviz.org/doc/info/lang.html)."""
    lines = [f"digraph {_dot_text(name)} {{", "    node [shape=box];"]
    for number, node in enumerate(drawing.nodes):
        label = f"{_title(node)}\n{node.detail}" if node.detail else _title(node)
        lines.append(f"    n{number} [label={_dot_text(label)}];")
    for edge in drawing.edges:
        width = _width(drawing, edge)
        lines.append(f"    n{edge.source} -> n{edge.target}{f' [label={_dot_text(width)}]' if width else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_text(text: str) -> str:
    lines = (_printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n"))
    return '"' + "\\n".join(lines) + '"'


def _printable(text: str) -> str:
    """Show control characters, including newlines, as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def as_json(drawing: Drawing, names: Sequence[str]) -> str:
    """Return nodes and edges as JSON, with the names of all jobs of each node."""
    nodes: list[dict[str, Any]] = [
        {
            "id": f"n{number}",
            "label": node.label,
            "num_jobs": len(node.jobs),
            "stage": node.stage,
            "detail": node.detail,
            "jobs": [names[job] for job in node.jobs],
        }
        for number, node in enumerate(drawing.nodes)
    ]
    edges = [
        {"source": f"n{edge.source}", "target": f"n{edge.target}", "fewest": edge.fewest, "most": edge.most}
        for edge in drawing.edges
    ]
    return json.dumps({"nodes": nodes, "edges": edges}, indent=2, ensure_ascii=False) + "\n"
