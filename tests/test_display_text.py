"""Text of others is shown so that no terminal obeys it, and so that one sees what is in it."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from torc.display_text import escaped_json, visible, visible_line

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=60)
#: written out here once more, so that the table is not tested against itself
_TURNS = {0x061C, *range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def obeyed(text: str) -> list[str]:
    """Return the characters of a text that control a terminal, including C1 controls and bidirectional marks."""
    return [c for c in text if (ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or ord(c) in _TURNS]


@given(ANY_TEXT)
@example("\x1b[2J\x1b]0;title\x07\x9b31m\x85\u202egpj.exe\ud800\udcff\x00\x08\r\x7f")
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    shown = visible(text)
    assert not obeyed(shown)
    shown.encode("utf-8")  # no halves of pairs
    assert shown.count("\n") == text.count("\n") and shown.count("\t") == text.count("\t")
    assert visible(shown) == shown
    line = visible_line(text)
    assert not obeyed(line) and "\n" not in line and "\t" not in line


def test_what_was_there_can_be_seen_and_ordinary_text_stays() -> None:
    assert visible("a\x1b[2Jb\x07\r\x7f\x00") == "a^[[2Jb^G^M^?^@"
    assert visible("\x9b2J\udcff\ud800\u202e\U000e0041") == "\\x9b2J\\xff\\ud800\\u202e\\U000e0041"
    for text in ("naïve Größe\t1\n", "日本語", "עברית", "👩‍🔬", "[red]", "नमस्ते क्‍ष"):
        assert visible(text) == text
    assert visible_line("a\tb\nc") == "a b c"


@given(st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3))
def test_json_stays_the_same_value_without_such_characters(value: dict[str, str]) -> None:
    text = escaped_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert not obeyed(text) and json.loads(text) == value
    text.encode("utf-8")
