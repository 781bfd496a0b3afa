"""URLs of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.urls import split_url


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    for url in (text, f"http://{text}", f"postgresql://u:p@[{text}/x"):
        parts = split_url(url)
        assert parts is None or parts.port is None or 0 <= parts.port <= 65535


@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999/", "postgresql+psycopg://u:p@h:port/x"])
def test_what_is_none_is_told(url: str) -> None:
    assert split_url(url) is None
