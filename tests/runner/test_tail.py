"""The ends of logs: whole lines, numbered as an editor would, whatever was written."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

from hypothesis import given
from hypothesis import strategies as st

from torc.runner.tail import end_of

_LINES = st.lists(st.text(st.characters(codec="ascii", exclude_characters="\n\x00"), max_size=30), max_size=30)


@given(lines=_LINES, most=st.integers(1, 400))
def test_the_end_is_whole_lines_with_the_number_of_the_first(lines: list[str], most: int) -> None:
    text = "\n".join(lines)
    with NamedTemporaryFile() as file:
        Path(file.name).write_text(text, newline="\n")
        end = end_of(file.name, most, most_counted_bytes=1 << 20)
    if end is None:
        assert not text[-most:].partition("\n")[2].strip() or not text.strip()
        return
    assert text.endswith(end.text) and len(end.text) == len(text) - end.left_out <= most
    assert end.first_line == 1 + text[: end.left_out].count("\n")
    assert not end.left_out or "\n" not in text[-most:] or text[end.left_out - 1] == "\n"


def test_what_is_no_text_or_cannot_be_counted_or_read_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert end_of(log, 100, most_counted_bytes=100) is None
    log.write_bytes(b" \n\n")
    assert end_of(log, 100, most_counted_bytes=100) is None
    log.write_bytes(b"a\nb\nc\n")
    end = end_of(log, 3, most_counted_bytes=1)
    assert end is not None and (end.text, end.first_line, end.left_out) == ("c\n", None, 4)
    log.write_bytes(b"x\x00y" * 100)
    end = end_of(log, 1000, most_counted_bytes=1)
    assert end is not None and end.is_binary and end.text == "xy" * 100
