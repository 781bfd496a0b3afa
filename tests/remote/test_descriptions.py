"""What people are told: the description names every kind of failure and every state, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from torc.remote import ssh_errors, worker_status
from torc.ssh_destination import parse_destination

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/remote.md").read_text(encoding="utf-8")
#: told in general words: ssh itself is broken, an answer makes no sense, this machine cannot write
_GENERAL = {
    "ssh_failed",
    "no_agreement",
    "bad_configuration",
    "given_up",
    "local",
    "archive_damaged",
    "alive",
    "busy",
    "no_start",
    "not_yours",
}


def table(first: str) -> set[str]:
    """Return the names in the first column of the table whose head begins so."""
    rows = PAGE.partition(f"| {first} | |\n|---|---|\n")[2].partition("\n\n")[0]
    return {name for row in rows.splitlines() for name in re.findall(r"`([a-z_.A-Z]+)`", row.split("|")[1])}


def test_every_kind_of_failure_is_described() -> None:
    told = {sign.kind for sign in ssh_errors._SIGNS}
    for path in (ROOT / "torc/remote").glob("*.py"):
        told |= set(re.findall(r'(?:kind="|"kind": "|\|\| trouble )([a-z_]+)', path.read_text(encoding="utf-8")))
    assert table("kind") == told - _GENERAL
    assert told >= _GENERAL


def test_every_state_is_described() -> None:
    assert table("state") == set(get_args(worker_status.State))


@given(st.text(max_size=40) | st.from_regex(r"[-@a-z0-9.:\[\]_%]{0,30}", fullmatch=True))
def test_whatever_is_named_is_a_destination_that_no_program_takes_for_an_option_or_it_is_refused(text: str) -> None:
    try:
        found = parse_destination(text)
    except ValueError as error:
        assert str(error)
        return
    assert parse_destination(str(found)) == found
    for part in (found.host, found.user or "x"):
        assert re.fullmatch(r"[A-Za-z0-9_:][A-Za-z0-9_.:%@+-]*", part, re.ASCII)
