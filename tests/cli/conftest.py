"""Fixtures of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Give the program in an empty directory."""
    return Program(tmp_path)
