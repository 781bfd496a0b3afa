"""Regular expressions of users: what they match, what is refused, and that none takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.regular_expressions import BadPattern, MatchBudget, SearchableNames, TooCostly, compile_pattern

#: none of these ends in a lifetime with an engine that goes back
CATASTROPHIC = ["(a+)+b", "(a|a)*b", "(a|aa)+b", "([a-z]+)*!b", "(.*a){30}b", "(a*)*(a*)*(a*)*b", "((((a+)+)+)+)+b"]


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_a_catastrophic_pattern_is_answered_at_once(pattern: str) -> None:
    assert SearchableNames(["a" * 4000 + "!", "c"], MatchBudget()).matching(pattern) == []


_parts = st.sampled_from(["a", "b", ".", "[ab]", "(a|b)", "(?:ab)", r"\w", r"\d", "x1", "é", r"\."])
_pattern = st.lists(st.tuples(_parts, st.sampled_from(["", "*", "+", "?", "{1,2}"])), min_size=1, max_size=5).map(
    lambda parts: "".join(part + repeat for part, repeat in parts)
)
_names = st.lists(st.text("abx1é.", min_size=1, max_size=6), unique=True, max_size=30)


@given(_pattern, _names)
def test_it_finds_what_a_try_of_each_name_finds(pattern: str, names: list[str]) -> None:
    ours = re.compile(pattern.replace(r"\w", r"[A-Za-z0-9_]").replace(r"\d", "[0-9]"))
    expected = [number for number, name in enumerate(names) if ours.fullmatch(name)]
    assert SearchableNames(names, MatchBudget()).matching(pattern) == expected


@given(st.text(max_size=20))
def test_a_value_that_is_put_into_a_pattern_stands_for_itself(text: str) -> None:
    assert compile_pattern(re.escape(text)).matches(text.encode())


@given(st.text(max_size=40) | st.text("()[]{}*+?|\\^$.,:-<=!PpzZ1a", max_size=20))
def test_any_text_is_compiled_or_refused_with_words(text: str) -> None:
    try:
        compile_pattern(text)
    except BadPattern as error:
        assert str(error) and error.part in text


@pytest.mark.parametrize(
    ("pattern", "part", "said"),
    [
        ("a(?=b)", "(?=", "look-ahead"),
        ("a(?!b)", "(?!", "negative look-ahead"),
        ("(?<=a)b", "(?<=", "look-behind"),
        ("(?<!a)b", "(?<!", "negative look-behind"),
        (r"(a)\1", r"\1", "backreference"),
        ("(?P<n>a)(?P=n)", "(?P=", "backreference"),
        ("(?>a)", "(?>", "atomic"),
        ("a++", "++", "not supported"),
        ("a{1001}", "{1001}", "repeats too often"),
        ("((a{50}){50}){50}", "{50}", "repeats too often"),
        (r"a\Z", r"\Z", "not supported"),
        ("(?x)a", "(?x", "flag"),
        ("(", "(", "missing"),
        ("[a", "[a", "missing"),
        ("a" * 10_001, "", "10,001 characters"),
        ("\ud800", "", "surrogate"),
    ],
)
def test_what_is_refused_is_named(pattern: str, part: str, said: str) -> None:
    with pytest.raises(BadPattern, match=re.escape(said)) as error:
        compile_pattern(pattern)
    assert error.value.part == part


def test_only_names_that_begin_as_the_pattern_does_are_tried() -> None:
    names = [f"measure_{station}_{year}" for station in range(1000) for year in range(2000, 2010)]
    searched = SearchableNames(names, MatchBudget(10_000_000))
    for station in range(150):  # each tried on all the names, they would need a hundred times as many steps
        assert len(searched.matching(rf"measure_{station}_\d+")) == 10


def test_patterns_that_take_too_many_steps_together_are_refused() -> None:
    searched = SearchableNames([f"{number}_job" for number in range(1000)], MatchBudget(1_000_000))
    with pytest.raises(TooCostly, match="too many steps"):
        for number in range(1000):
            searched.matching(rf".*_job{number}?")
