"""What earlier attempts teach about what their likes need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.planning.history import History, UsageSample, needed, quantile, shape_of, together

MIB = 1 << 20


def test_members_of_a_sweep_have_one_shape_and_other_scripts_another() -> None:
    assert shape_of("python3 fit.py --rate 0.1  --seed 7") == shape_of("python3 fit.py --rate 1e-3 --seed 12")
    assert shape_of("python3 -c 'print(\"a\")'") != shape_of("python3 -c 'print(\"b\")'")


def test_one_giant_counts_but_does_not_multiply() -> None:
    values = [100.0] * 99 + [500.0]
    assert quantile(values, 0.95) == 100.0
    assert needed(values, 1.3) == 550.0, "a tenth more than the most, where that is more than the margin of the others"
    assert needed([100.0] * 100, 1.3) == 130.0


@given(values=st.lists(st.floats(1, 1e12), min_size=1, max_size=50), margin=st.floats(1, 10))
def test_nobody_is_given_less_than_was_used(values: list[float], margin: float) -> None:
    assert needed(values, margin) >= max(values)


def test_the_same_command_teaches_more_than_the_same_program() -> None:
    fit = [UsageSample(f"python3 fit.py --seed {at}", 300 * MIB, 30.0) for at in range(5)]
    plot = [UsageSample(f"python3 fit.py plot --seed {at}", 3000 * MIB, 300.0) for at in range(5)]
    history = History([*fit, *plot])
    same = history.learn("python3 fit.py --seed 99", 1.3, 3)
    assert same is not None and (same.matched, same.num_samples) == ("command", 5)
    assert (same.memory_bytes, same.runtime_seconds) == (448 * MIB, 60)
    alike = history.learn("python3 fit.py --verbose", 1.3, 3)
    assert alike is not None and (alike.matched, alike.num_samples) == ("program", 10)
    assert history.learn("python3 other.py", 1.3, 3) is None
    assert history.learn("python3 fit.py --seed 99", 1.3, 6) is not None, "the program, where the command is too new"
    both = together([same, alike])
    assert both.memory_bytes == alike.memory_bytes and both.matched == "program" and both.num_samples == 15


def test_scripts_in_the_command_line_have_no_program_in_common() -> None:
    history = History([UsageSample("python3 -c 'import a'", 100 * MIB, 1.0)] * 5)
    assert history.learn("python3 -c 'import b'", 1.3, 3) is None
    assert history.learn("python3 -c 'import a'", 1.3, 3) is not None
