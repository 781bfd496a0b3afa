"""Drawings: small ones in full, large ones with alike jobs as one node, all with names escaped."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import NamedGraph, acyclic_prerequisites, graph_from, plain_graph
from torc.errors import Invalid
from torc.workflow.graph import JobGraph
from torc.workflow.graph_export import Drawing, Edge, as_json, dot, draw, mermaid


def sweep(size: int) -> NamedGraph:
    """Return one job, a sweep behind it, one job behind each of the sweep, and one behind all of those."""
    names = ["prep", *(f"train_{i}" for i in range(size)), *(f"eval_{i}" for i in range(size)), "sum"]
    middle = [[i + 1] for i in range(size)]
    return NamedGraph(plain_graph([[], *[[0]] * size, *middle, list(range(size + 1, 2 * size + 1))]), tuple(names))


def test_a_small_graph_is_drawn_job_by_job() -> None:
    graph, names = graph_from("a -> b c -> d")
    assert mermaid(draw(graph, names)) == (
        "flowchart TD\n"
        '    n0["a"]\n    n1["b"]\n    n2["c"]\n    n3["d"]\n'
        "    n0 --> n1\n    n0 --> n2\n    n1 --> n3\n    n2 --> n3\n"
    )
    assert dot(draw(graph, names), "w") == (
        'digraph "w" {\n    node [shape=box];\n'
        '    n0 [label="a"];\n    n1 [label="b"];\n    n2 [label="c"];\n    n3 [label="d"];\n'
        "    n0 -> n1;\n    n0 -> n2;\n    n1 -> n3;\n    n2 -> n3;\n}\n"
    )


def test_a_sweep_of_a_thousand_is_one_node_and_edges_say_how_many_each_waits_for() -> None:
    graph, names = sweep(1000)
    drawing = draw(graph, names)
    assert [(node.label, len(node.jobs)) for node in drawing.nodes] == [
        ("prep", 1),
        ("train_*", 1000),
        ("eval_*", 1000),
        ("sum", 1),
    ]
    assert drawing.edges == (Edge(0, 1, 1, 1), Edge(1, 2, 1, 1), Edge(2, 3, 1000, 1000))
    text = mermaid(drawing)
    assert 'n1["train_* (1,000 jobs)"]' in text
    assert 'n1 -- "1 each" --> n2' in text
    assert "n0 --> n1" in text
    assert 'n1 -> n2 [label="1 each"];' in dot(drawing)


def test_jobs_that_ask_for_different_things_are_different_nodes() -> None:
    names = [f"train_{i}" for i in range(100)]
    drawing = draw(plain_graph([[]] * 100), names, ["1 CPU" if i % 2 else "2 CPUs" for i in range(100)])
    assert [(node.label, len(node.jobs), node.detail) for node in drawing.nodes] == [
        ("train_*", 50, "2 CPUs"),
        ("train_*", 50, "1 CPU"),
    ]


def test_words_in_names_are_kept_apart_while_there_is_room() -> None:
    names = [f"train_{word}_{i}" for word in ("adam", "sgd") for i in range(50)]
    assert [node.label for node in draw(plain_graph([[]] * 100), names).nodes] == ["train_adam_*", "train_sgd_*"]
    words = [f"train_{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(100)]
    assert [node.label for node in draw(plain_graph([[]] * 100), words).nodes] == ["train_*"]


def test_jobs_with_nothing_in_common_are_drawn_as_stages() -> None:
    names = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]
    graph = plain_graph([[]] * 100 + [[i] for i in range(100)])
    drawing = draw(graph, names)
    assert [(node.label, len(node.jobs)) for node in drawing.nodes] == [("stage 0", 100), ("stage 1", 100)]


def test_a_chain_longer_than_a_page_shares_nodes_between_stages() -> None:
    graph = plain_graph([[]] + [[i] for i in range(999)])
    drawing = draw(graph, [f"step_{i}" for i in range(1000)], most_nodes=10)
    assert [len(node.jobs) for node in drawing.nodes] == [100] * 10
    assert [(edge.source, edge.target) for edge in drawing.edges] == [(i, i + 1) for i in range(9)]


def test_a_cycle_cannot_be_drawn() -> None:
    with pytest.raises(Invalid, match="cycle"):
        draw(plain_graph([[0]]), ["a"])


@given(acyclic_prerequisites(), st.integers(1, 6), st.data())
def test_each_job_is_drawn_once_and_edges_show_each_dependency_in_an_order_that_can_run(
    prerequisites: list[list[int]], most_nodes: int, data: st.DataObject
) -> None:
    graph: JobGraph = plain_graph(prerequisites)
    names = [data.draw(st.sampled_from(("a", "b_", "c"))) + str(job) for job in range(len(graph))]
    drawing: Drawing = draw(graph, names, most_nodes=most_nodes)
    assert len(drawing.nodes) <= most_nodes
    node_of = {job: number for number, node in enumerate(drawing.nodes) for job in node.jobs}
    assert sorted(job for node in drawing.nodes for job in node.jobs) == list(range(len(graph)))
    expected = {
        (node_of[before], node_of[job])
        for job, members in enumerate(prerequisites)
        for before in members
        if node_of[before] != node_of[job]
    }
    assert {(edge.source, edge.target) for edge in drawing.edges} == expected
    assert all(source < target for source, target in expected)
    for edge in drawing.edges:
        counts = {
            sum(node_of[before] == edge.source for before in prerequisites[job])
            for job in drawing.nodes[edge.target].jobs
        } - {0}
        assert (edge.fewest, edge.most) == (min(counts), max(counts))


@given(st.text(min_size=1))
def test_no_name_breaks_out_of_its_label(name: str) -> None:
    drawing = draw(plain_graph([[]]), [name], ["1 CPU"])
    assert re.fullmatch(r'flowchart TD\n    n0\["[^"\n]*"\]\n', mermaid(drawing))
    assert re.fullmatch(
        r'digraph "([^"\\\n]|\\.)*" \{\n.*\n    n0 \[label="([^"\\\n]|\\.)*"\];\n\}\n', dot(drawing, name)
    )
    parsed = json.loads(as_json(drawing, [name]))
    assert parsed["nodes"][0]["jobs"] == [name]


def test_special_characters_are_shown_as_they_are() -> None:
    drawing = draw(plain_graph([[]]), ['say "hi" <b> #1\t\\'])
    assert 'n0["say #34;hi#34; #60;b#62; #35;1#92;t#92;"]' in mermaid(drawing)
    assert r'n0 [label="say \"hi\" <b> #1\\t\\"];' in dot(drawing)


def test_json_names_all_jobs_of_a_node() -> None:
    graph, names = sweep(100)
    parsed = json.loads(as_json(draw(graph, names), names))
    assert parsed["nodes"][1] == {
        "id": "n1",
        "label": "train_*",
        "num_jobs": 100,
        "stage": 1,
        "detail": "",
        "jobs": [f"train_{i}" for i in range(100)],
    }
    assert parsed["edges"][1] == {"source": "n1", "target": "n2", "fewest": 1, "most": 1}
