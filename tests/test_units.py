"""Memory and durations, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.units import (
    DAY,
    HOUR,
    MAX_BYTES,
    MAX_SECONDS,
    MINUTE,
    format_duration,
    format_memory,
    human_bytes,
    human_duration,
    parse_duration,
    parse_memory,
    whole_number,
)


@pytest.mark.parametrize(
    ("text", "memory_bytes"),
    [
        ("0", 0),
        ("1024", 1024),
        ("7b", 7),
        ("512k", 512 << 10),
        ("512m", 512 << 20),
        ("1M", 1 << 20),
        ("2g", 2 << 30),
        ("1t", 1 << 40),
        ("2GiB", 2 << 30),
        ("512MB", 512 << 20),
        ("512 MB", 512 << 20),
        ("1.5g", 3 << 29),
        ("0.1k", 103),
        (" 3p ", 3 << 50),
        ("7e", 7 << 60),
    ],
)
def test_memory_is_read_in_powers_of_1024(text: str, memory_bytes: int) -> None:
    assert parse_memory(text) == memory_bytes


@pytest.mark.parametrize(
    "text", ["", "g", "-1g", "1 g b", "1x", "1.g", ".5g", "1e3", "2gg", "٣g", "1,5g", "0x10", "1i"]
)
def test_what_is_no_memory_is_refused_with_the_forms_that_are_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="512m, 2g"):
        parse_memory(text)


def test_more_memory_than_the_store_can_hold_is_refused() -> None:
    assert parse_memory(str(MAX_BYTES)) == MAX_BYTES
    with pytest.raises(ValueError, match="more memory"):
        parse_memory(str(MAX_BYTES + 1))
    with pytest.raises(ValueError, match="more memory"):
        parse_memory("8e")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT1H30M", 5400),
        ("P1DT2H", DAY + 2 * HOUR),
        ("P0DT1H", HOUR),
        ("PT0S", 0),
        ("pt30m", 30 * MINUTE),
        ("P2W", 14 * DAY),
        ("P1Y", 31557600),
        ("P1M", 2629800),
        ("P1MT1M", 2629860),
        ("PT0.5H", 1800),
        ("PT1.2S", 2),
        ("30m", 1800),
        ("2h", 7200),
        ("45s", 45),
        ("1d", DAY),
        ("1h30m", 5400),
        ("1h 05m", 3900),
        ("2 days", 2 * DAY),
        ("1.5 hours", 5400),
        ("1w", 7 * DAY),
        ("1-02:00:00", DAY + 2 * HOUR),
        ("1-02:30", DAY + 2 * HOUR + 30 * MINUTE),
        ("1-02", DAY + 2 * HOUR),
        ("01:30:00", 5400),
        ("100:00:00", 100 * HOUR),
        ("02:30", 150),
    ],
)
def test_durations_are_read_in_every_form_that_people_use(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "PT1", "1H2", "-5m", "-PT5M", "1m1h", "1h1h", "soon", "1e3s", "1:2:3:4", "1-", "٣h"]
)
def test_what_is_no_duration_is_refused_with_the_forms_that_are_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=r"PT1H30M.*1-02:00:00"):
        parse_duration(text)


def test_a_number_without_a_unit_is_no_duration_and_the_message_offers_units() -> None:
    with pytest.raises(ValueError, match="write 90s, 90m or 90h"):
        parse_duration("90")


def test_durations_beyond_68_years_are_refused() -> None:
    assert parse_duration(f"{MAX_SECONDS}s") == MAX_SECONDS
    with pytest.raises(ValueError, match="too long"):
        parse_duration(f"{MAX_SECONDS + 1}s")


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match="xxx\\.\\.\\.'") as raised:
        parse_memory("x" * 10_000)
    assert len(str(raised.value)) < 200


@given(st.text(max_size=30) | st.from_regex(r"[0-9PTHMSDWY:.\-kmgtib ]{0,20}", fullmatch=True))
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    for parse, most in ((parse_memory, MAX_BYTES), (parse_duration, MAX_SECONDS)):
        try:
            amount = parse(text)
        except ValueError as error:
            assert "is" in str(error)
        else:
            assert 0 <= amount <= most


@given(st.integers(0, MAX_BYTES))
def test_written_memory_is_read_back_exactly(memory_bytes: int) -> None:
    assert parse_memory(format_memory(memory_bytes)) == memory_bytes


@given(st.integers(0, 8191), st.sampled_from("kmgt"))
def test_memory_in_a_unit_is_written_in_that_unit_or_a_larger_one(number: int, unit: str) -> None:
    text = format_memory(parse_memory(f"{number}{unit}"))
    assert parse_memory(text) == parse_memory(f"{number}{unit}")
    assert number == 0 or "kmgt".index(text[-1]) >= "kmgt".index(unit)


@given(st.integers(0, MAX_SECONDS))
def test_a_written_duration_is_read_back_exactly(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "PT0S"), (59, "PT59S"), (3600, "PT1H"), (5400, "PT1H30M"), (DAY, "P1D"), (DAY + 2 * HOUR, "P1DT2H")],
)
def test_durations_are_written_in_iso_8601(seconds: int, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.25, "250ms"),
        (0.9996, "1.0s"),
        (3.21, "3.2s"),
        (9.96, "10s"),
        (45, "45s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (123, "2m 03s"),
        (3599.6, "1h 00m"),
        (3900, "1h 05m"),
        (DAY - 1, "1d 00h"),
        (2 * DAY + 4 * HOUR, "2d 04h"),
        (-90, "-1m 30s"),
    ],
)
def test_durations_for_people_have_two_units_at_most(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@given(st.integers(10, 90 * DAY))
def test_a_duration_for_people_is_within_half_its_smaller_unit(seconds: int) -> None:
    unit = 1 if seconds < HOUR else MINUTE if seconds < DAY - 30 else HOUR
    assert abs(parse_duration(human_duration(seconds)) - seconds) <= unit / 2


@pytest.mark.parametrize(
    ("memory_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (120 << 20, "120 MiB"),
        ((1 << 20) - 1, "1 MiB"),
        (3 << 29, "1.5 GiB"),
        (5 << 60, "5 EiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_memory_for_people_is_short(memory_bytes: int, text: str) -> None:
    assert human_bytes(memory_bytes) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("²", None), ("٣", None), ("", None), (None, None), ("-1", None), ("9" * 19, None)],
)
def test_a_whole_number_is_what_ascii_digits_write(text: str | None, number: int | None) -> None:
    assert whole_number(text) == number
