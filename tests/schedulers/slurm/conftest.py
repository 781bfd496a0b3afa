"""Fixtures of Slurm: one real cluster for all tests of this folder that ask for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.slurm import FOREIGN, Slurm, running


@pytest.fixture(scope="session")
def cluster_of_session() -> Iterator[Slurm]:
    """Yield the cluster. Tests take `slurm`."""
    with running() as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster_of_session: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """Yield the cluster, with all nodes idle and no job. The environment means it for this test only."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)
    for name, value in cluster_of_session.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster_of_session
    cluster_of_session.tidy()
