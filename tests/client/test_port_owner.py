"""A token is shown to no process of another user, but of one who is known to run the server."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.other_user import STRANGER, listening_stranger
from torc.api.base import Torc
from torc.api.workflows import ListWorkflows
from torc.client.connect import connect
from torc.client.port_owner import listener_uids, server_uid, uid_of
from torc.client.remote import Remote
from torc.errors import Invalid, Unavailable


@pytest.fixture
def squatter() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A process of another user that listens; its port, and what it was sent, a number of bytes a line."""
    with listening_stranger() as found:
        yield found


def _was_sent(port: int, process: subprocess.Popen[str]) -> int:
    """Return how much the first connection that sent anything, or ended, brought."""
    socket.create_connection(("127.0.0.1", port)).close()
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_who_took_the_port_of_a_server_that_died_is_sent_nothing(
    squatter: tuple[int, subprocess.Popen[str]], host: str, is_own: bool
) -> None:
    port, process = squatter
    assert listener_uids("127.0.0.1", port) == {STRANGER} == {server_uid(f"http://127.0.0.1:{port}")}
    remote = Remote(f"http://{host}:{port}", token="hidden", patience_seconds=0.0, is_own=is_own)
    with pytest.raises(Unavailable, match="another user listens"):
        remote.send(ListWorkflows())
    remote.close()
    assert _was_sent(port, process) == 0


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("shown", ["TORC_TOKEN", "TORC_TOKEN_FILE"])
def test_tokens_of_jobs_and_of_the_environment_are_kept_from_strangers_too(
    squatter: tuple[int, subprocess.Popen[str]], shown: str, tmp_path: Path
) -> None:
    port, process = squatter
    token = tmp_path / "token"
    token.write_text("torcjob_1_hidden\n")
    token.chmod(0o600)
    given = {"HOME": str(tmp_path), shown: "hidden" if shown == "TORC_TOKEN" else str(token)}
    url = f"http://127.0.0.1:{port}"
    found = connect(url, cwd=tmp_path, environ=given)
    with pytest.raises(Unavailable, match="another user listens") as caught:
        found.send(ListWorkflows())
    assert "TORC_SERVER_USER" in (caught.value.hint or "")
    assert _was_sent(port, process) == 0
    trusting = connect(url, cwd=tmp_path, environ={**given, "TORC_SERVER_USER": pwd.getpwuid(STRANGER).pw_name})
    asking = threading.Thread(target=_ask, args=(trusting,))
    asking.start()
    assert process.stdout is not None
    while (sent := int(process.stdout.readline())) == 0:  # of the connections above
        pass
    process.kill()
    asking.join()
    assert sent > 100


def _ask(torc: Torc) -> None:
    with contextlib.suppress(Unavailable):
        torc.send(ListWorkflows())


def test_a_server_of_ones_own_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        assert listener_uids("127.0.0.1", port) == listener_uids("localhost", port) == {os.geteuid()}
        assert server_uid(f"http://127.0.0.1:{port}") is None


@pytest.mark.usefixtures("processes")
def test_who_listens_on_the_same_port_of_another_address_stops_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        port = mine.getsockname()[1]
        with listening_stranger("127.0.0.2", port):
            assert listener_uids("127.0.0.1", port) == {os.geteuid()}
            assert listener_uids("127.0.0.2", port) == {STRANGER}


def test_a_socket_of_all_addresses_counts_where_there_is_none_of_just_one() -> None:
    with socket.create_server(("", 0)) as mine:
        port = mine.getsockname()[1]
        assert listener_uids("127.0.0.1", port) == {os.geteuid()} == listener_uids("::ffff:127.0.0.1", port)
        assert listener_uids("::1", port) == set()
    if socket.has_dualstack_ipv6():
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as mine:
            port = mine.getsockname()[1]
            assert listener_uids("127.0.0.1", port) == {os.geteuid()} == listener_uids("::1", port)


def test_a_port_that_nobody_has_belongs_to_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
    assert listener_uids("127.0.0.1", port) == set()


def test_users_are_known_by_name_or_number() -> None:
    assert uid_of("root") == uid_of("0") == 0
    with pytest.raises(Invalid, match="no user `nobody-such`"):
        uid_of("nobody-such")
