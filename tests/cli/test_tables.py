"""Tables on a narrow terminal."""

from __future__ import annotations

import sys

import pytest

from torc.cli import rendering


def test_a_long_reason_is_folded_on_a_narrow_terminal_and_nothing_of_it_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    reason = "free some space or write elsewhere; `quota` and `df -h` show how much is left"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rendering.table(["jobs", "why", "left"], [["2", "disk_full", reason], ["1", "gpu", ""]], folds=True)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 60 and len(lines) == 4
    assert " ".join(line[17:].strip() for line in lines[1:3]) == reason
    rendering.table(["jobs", "why", "left"], [["2", "disk_full", reason]])
    assert "…" in capsys.readouterr().out
