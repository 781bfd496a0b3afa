"""Where a command finds its database."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torc.api.workflows import ListWorkflows
from torc.client.connect import connect, find
from torc.client.credentials import read_token, write_token
from torc.client.remote import Remote
from torc.errors import Forbidden, Invalid, NotFound, Unavailable


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_without_anything_a_private_directory_is_made_here(tmp_path: Path) -> None:
    torc = connect(cwd=tmp_path, environ={})
    assert torc.send(ListWorkflows()).items == []
    assert mode(tmp_path / ".torc") == 0o700
    assert mode(tmp_path / ".torc" / "torc.db") == 0o600
    torc.close()


def test_the_nearest_directory_above_is_used(tmp_path: Path) -> None:
    connect(cwd=tmp_path, environ={}).close()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    connect(cwd=below, environ={}).close()
    assert not list(below.iterdir())
    assert find(below).database == str(tmp_path / ".torc" / "torc.db")


def test_nothing_is_made_when_nothing_should_be(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no database"):
        connect(cwd=tmp_path, environ={}, create=False)
    assert not list(tmp_path.iterdir())


def test_a_named_database_wins_over_the_environment_and_the_directory(tmp_path: Path) -> None:
    connect(cwd=tmp_path, environ={}).close()
    for db, environ, expected in (
        ("one.db", {"TORC_DB": str(tmp_path / "two.db")}, "one.db"),
        (None, {"TORC_DB": str(tmp_path / "two.db")}, "two.db"),
    ):
        connect(db=db and str(tmp_path / db), cwd=tmp_path, environ=environ).close()
        assert (tmp_path / expected).exists()


def test_a_relative_database_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    connect(db="x.db", environ={}).close()
    assert (tmp_path / "x.db").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_above_is_passed_over_and_said(tmp_path: Path) -> None:
    planted = tmp_path / ".torc"
    planted.mkdir()
    os.chown(planted, 12345, 12345)
    below = tmp_path / "mine"
    below.mkdir()
    torc = connect(cwd=below, environ={})
    assert (below / ".torc" / "torc.db").exists()
    assert not list(planted.iterdir())
    assert any(str(planted) in note and "another user" in note for note in torc.notes)  # type: ignore[attr-defined]
    torc.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_right_here_is_refused(tmp_path: Path) -> None:
    planted = tmp_path / ".torc"
    planted.mkdir()
    os.chown(planted, 12345, 12345)
    with pytest.raises(Forbidden, match="another user"):
        connect(cwd=tmp_path, environ={})


def test_a_link_is_no_directory_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    below = tmp_path / "mine"
    below.mkdir()
    (tmp_path / ".torc").symlink_to(tmp_path / "other")
    torc = connect(cwd=below, environ={})
    assert (below / ".torc" / "torc.db").exists()
    assert any("not a directory" in note for note in torc.notes)  # type: ignore[attr-defined]
    torc.close()


@pytest.mark.parametrize("how", [{"url": "http://x:1"}, {"environ": {"TORC_API_URL": "http://x:1"}}])
def test_a_url_leads_to_a_server_and_an_option_wins_over_variables(tmp_path: Path, how: dict[str, Any]) -> None:
    found = connect(cwd=tmp_path, **{"environ": {}, **how})
    assert isinstance(found, Remote) and found.url == "http://x:1"
    found.close()
    assert not list(tmp_path.iterdir())


def test_naming_a_database_wins_over_a_server_in_the_environment(tmp_path: Path) -> None:
    connect(db=str(tmp_path / "x.db"), cwd=tmp_path, environ={"TORC_API_URL": "http://x"}).close()
    assert (tmp_path / "x.db").exists()


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database at all, but long enough to be looked at " * 20)
    with pytest.raises(Unavailable, match=r"x\.db"):
        connect(db=str(tmp_path / "x.db"), cwd=tmp_path, environ={})
    with pytest.raises(Unavailable, match="cannot open"):
        connect(db=str(tmp_path), cwd=tmp_path, environ={})
    with pytest.raises(Unavailable, match="cannot open"):
        connect(db=str(tmp_path / "no" / "such" / "x.db"), cwd=tmp_path, environ={})


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        connect(db=f"postgresql://torc@/x?host={tmp_path}", cwd=tmp_path, environ={})
    with pytest.raises(Invalid, match="mysql"):
        connect(db="mysql://x/y", cwd=tmp_path, environ={})


def test_the_author_of_changes_is_the_user_unless_named(tmp_path: Path) -> None:
    torc = connect(cwd=tmp_path, environ={}, actor="automation:nightly")
    assert torc.actor == "automation:nightly"  # type: ignore[attr-defined]
    torc.close()
    torc = connect(cwd=tmp_path, environ={})
    assert torc.actor.startswith("user:")  # type: ignore[attr-defined]
    torc.close()


def test_no_link_that_others_have_prepared_leads_a_token_away(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    for name in (".wf1", f".wf1.{os.getpid()}", "wf1"):
        (tmp_path / name).symlink_to(elsewhere)
    write_token(tmp_path / "wf1", "torc_1_secret")
    assert elsewhere.read_text() == "" and read_token(str(tmp_path / "wf1")) == "torc_1_secret"
    assert not [path for path in tmp_path.iterdir() if path.is_file() and not path.is_symlink() and path.name[0] == "."]


def test_a_file_with_a_token_is_shown_to_the_server_unless_others_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens" / "wf1"
    write_token(file, "torc_1_secret")
    assert mode(file) == 0o600
    assert mode(file.parent) == 0o700
    environ = {"TORC_API_URL": "http://127.0.0.1:1", "TORC_TOKEN_FILE": str(file)}
    assert connect(cwd=tmp_path, environ=environ).token == "torc_1_secret"  # type: ignore[attr-defined]
    assert connect(cwd=tmp_path, environ={**environ, "TORC_TOKEN": "other"}).token == "other"  # type: ignore[attr-defined]
    file.chmod(0o644)
    with pytest.raises(Forbidden, match="other users own or can read"):
        connect(cwd=tmp_path, environ=environ)
    with pytest.raises(Invalid, match="TORC_TOKEN_FILE"):
        connect(cwd=tmp_path, environ={**environ, "TORC_TOKEN_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path, 0o600), lambda path: path.mkdir(0o700)])
def test_a_token_is_read_from_a_file_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "token")
    with pytest.raises(Invalid, match="cannot read"):
        read_token(str(tmp_path / "token"))
