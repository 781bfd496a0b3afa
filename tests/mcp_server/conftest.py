"""A directory with the real program in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program in a new directory."""
    return Program(tmp_path)
