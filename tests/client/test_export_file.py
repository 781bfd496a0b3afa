"""Reading exported workflows: no more of a file than any workflow has."""

from __future__ import annotations

from pathlib import Path

import pytest

from torc.client import export_file
from torc.errors import Invalid


def test_a_file_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_file, "_MOST_BYTES", 1 << 16)
    with pytest.raises(Invalid, match="larger than any workflow"):
        export_file.read_file(Path("/dev/zero"))
