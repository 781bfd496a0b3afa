"""Specs that commands name."""

from __future__ import annotations

from pathlib import Path

import pytest

from torc.cli.commands.specs import reader_beside
from torc.cli.spec_files import read_spec
from torc.errors import Invalid


def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(Invalid, match="cannot read /dev/zero: larger than 64 MiB"):
        read_spec("/dev/zero")
    with pytest.raises(OSError, match="larger than 64 MiB"):
        reader_beside("w.yaml")("/dev/zero")


def test_lines_end_alike_wherever_a_spec_was_written(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(b"name: a\r\njobs: []\r")
    assert read_spec(str(tmp_path / "w.yaml"))[0] == "name: a\njobs: []\n"
