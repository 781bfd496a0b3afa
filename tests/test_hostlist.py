from __future__ import annotations

import pytest

from torc.hostlist import MOST_NODES, expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3,07-09],gpu1", ["n1", "n2", "n3", "n07", "n08", "n09", "gpu1"]),
        ("r[08-10]-ib", ["r08-ib", "r09-ib", "r10-ib"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("n[1-x],n2", ["n2"]),
        ("", []),
    ],
)
def test_lists_of_nodes_are_expanded(text: str, names: list[str]) -> None:
    assert list(expand(text)) == names


@pytest.mark.parametrize("text", ["n[0-999999999]", "r[1-99999]n[1-99999]"])
def test_no_text_makes_a_million_names(text: str) -> None:
    assert len(expand(text)) == MOST_NODES
