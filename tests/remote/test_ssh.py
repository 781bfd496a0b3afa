"""ssh as a subprocess against a real sshd: scripts, connections that are kept, and each kind of failure."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.remote.conftest import Net
from tests.support.running import is_alive, wait_until
from tests.support.sshd import make_key
from tests.support.wire import Wire
from torc.errors import Forbidden, TorcError, Unavailable
from torc.remote.ssh import Options, Ssh, _whole, kind_of
from torc.ssh_destination import Destination, parse_destination

FAR = Destination("far")


def failure(ssh: Ssh, to: Destination, script: str = "true", seconds: float = 30) -> TorcError:
    with pytest.raises(TorcError) as raised:
        ssh.run(to, script, seconds=seconds)
    assert raised.value.hint and str(to) in raised.value.message
    return raised.value


def masters(net: Net) -> list[int]:
    """Return the processes that keep connections open: ssh processes with this test's configuration."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"torc-ssh-" in line and (str(net.config).encode() in line or b"[mux]" in line):
                found.append(int(entry.name))
    return found


def test_a_script_runs_there_and_what_it_writes_and_its_code_come_back(ssh: Ssh) -> None:
    ran = ssh.run(FAR, "echo one; printf 'a\\0b'; echo trouble >&2; exit 7", seconds=30)
    assert (ran.code, ran.output, ran.said) == (7, b"one\na\0b", "trouble\n")


def test_a_script_is_in_no_argument_list_on_either_side(ssh: Ssh, net: Net) -> None:
    script = "secret=hunter2-in-the-script; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    seen = ssh.run(FAR, script, seconds=30).output
    assert b"sh -s" in seen and str(net.config).encode() in seen
    assert b"hunter2" not in seen


def test_nothing_of_a_script_that_arrives_in_part_is_run(net: Net, ssh: Ssh, tmp_path: Path) -> None:
    script = _whole(f"mark\ntouch {tmp_path}/begun\necho end").decode()
    for cut in range(0, len(script) - 2, 7):
        subprocess.run(["sh", "-s"], input=script[:cut], text=True, capture_output=True, check=False)
        assert not (tmp_path / "begun").exists(), script[:cut]
    subprocess.run(["sh", "-s"], input=script, text=True, capture_output=True, check=True)
    assert (tmp_path / "begun").exists()


def test_what_a_login_shell_prints_first_is_dropped(net: Net, tmp_path: Path) -> None:
    net.far.stop()
    net.far.config.write_text(net.far.config.read_text() + "ForceCommand echo Welcome; echo torc-; exec sh -s\n")
    net.far.start()
    ssh = Ssh(Options(config=net.config))
    assert ssh.run(FAR, "echo answer", seconds=30).output == b"answer\n"
    ssh.close()


def test_a_login_that_gives_no_shell_is_told(net: Net) -> None:
    net.far.stop()
    net.far.config.write_text(net.far.config.read_text() + "ForceCommand echo 'This account is for git only.' >&2\n")
    net.far.start()
    ssh = Ssh(Options(config=net.config))
    error = failure(ssh, FAR)
    assert kind_of(error) == "no_shell" and "git only" in error.message
    ssh.close()


def test_a_connection_is_used_again_and_ended_at_the_end(net: Net) -> None:
    ssh = Ssh(Options(config=net.config))
    for _ in range(3):
        assert ssh.run(FAR, "echo $SSH_CONNECTION", seconds=30).code == 0
    assert net.far.log.read_text().count("Accepted publickey") == 1
    kept = wait_until(lambda: masters(net), "a connection is kept")
    ssh.close()
    wait_until(lambda: not any(map(is_alive, kept)), "the connection that was kept has ended")


def test_connections_that_the_user_keeps_himself_are_left_to_him(net: Net, tmp_path: Path) -> None:
    own = net.folder / "cm"
    net.add(f"Host mine\n  ControlMaster auto\n  ControlPersist 60\n  ControlPath {own}\n")
    net.add(net.far.as_host("mine", net.known_hosts))
    ssh = Ssh(Options(config=net.config))
    assert ssh.run(Destination("mine"), "echo here", seconds=30).output == b"here\n"
    ssh.close()
    assert own.exists()
    subprocess.run(["ssh", "-F", net.config, "-O", "exit", "mine"], check=True, capture_output=True)


def test_a_machine_behind_a_jump_host_is_reached_by_the_users_configuration(net: Net, ssh: Ssh) -> None:
    assert ssh.run(Destination("behind"), "echo $SSH_CONNECTION", seconds=30).code == 0
    assert "Accepted publickey" in net.far.log.read_text() and "Accepted publickey" in net.other.log.read_text()


def test_user_and_port_are_passed_on(net: Net, ssh: Ssh) -> None:
    entry = net.far.as_host("ported", net.known_hosts).replace(f"Port {net.far.port}", "Port 1")
    net.add(entry.replace("User ", "User nobody-"))
    to = Destination("ported", getpass.getuser(), net.far.port)
    assert ssh.run(to, "echo here", seconds=30).output == b"here\n"


def test_a_host_that_has_no_address_is_told(ssh: Ssh) -> None:
    error = failure(ssh, Destination("no-such-host.invalid"))
    assert kind_of(error) == "unresolved" and isinstance(error, Unavailable)


def test_a_host_that_is_down_is_told(net: Net, ssh: Ssh) -> None:
    net.far.stop()
    assert kind_of(failure(ssh, FAR)) == "refused"


def test_a_jump_host_that_is_down_is_told(net: Net, ssh: Ssh) -> None:
    net.far.stop()
    assert kind_of(failure(ssh, Destination("behind"))) == "refused"


def test_a_key_that_is_not_taken_is_told(net: Net, ssh: Ssh) -> None:
    wrong = make_key(net.folder / "wrong")
    net.add(net.far.as_host("stranger", net.known_hosts).replace(str(net.far.key), str(wrong)))
    error = failure(ssh, Destination("stranger"))
    assert kind_of(error) == "permission_denied" and isinstance(error, Forbidden) and "publickey" in error.message


def test_an_unknown_host_key_is_told_and_not_accepted(net: Net, ssh: Ssh) -> None:
    net.known_hosts.write_text("")
    assert kind_of(failure(ssh, FAR)) == "host_key_unknown"
    assert net.known_hosts.read_text() == ""


def test_a_changed_host_key_is_told_apart_from_an_unknown_one(net: Net, ssh: Ssh) -> None:
    net.known_hosts.write_text(
        net.known_hosts.read_text().replace(key_of(net.far.host_key), key_of(net.other.host_key))
    )
    assert kind_of(failure(ssh, FAR)) == "host_key_changed"


def key_of(path: Path) -> str:
    return path.with_suffix(".pub").read_text().split()[1]


def test_a_machine_that_accepts_and_then_is_silent_is_given_up(net: Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        net.add(f"Host silent\n  HostName 127.0.0.1\n  Port {silent.getsockname()[1]}\n")
        ssh = Ssh(Options(config=net.config, connect_seconds=1))
        assert kind_of(failure(ssh, Destination("silent"))) == "timed_out"
        ssh.close()


def test_a_script_that_takes_too_long_is_given_up_and_ends_there_too(ssh: Ssh, tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! $$ > {tmp_path}/pids; wait"
    error = failure(ssh, FAR, script, seconds=2)
    assert kind_of(error) == "timed_out" and "2 s" in error.message
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_until(lambda: not any(map(is_alive, pids)), "what was begun there has ended")


def test_a_connection_that_is_cut_is_told(net: Net, ssh: Ssh, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def cut() -> None:
        wait_until(begun.exists, "the script runs")
        net.far.cut()

    cutting = threading.Thread(target=cut)
    cutting.start()
    error = failure(ssh, FAR, f"touch {begun}; exec sleep 60")
    cutting.join()
    assert kind_of(error) == "cut"
    assert ssh.run(FAR, "echo again", seconds=30).output == b"again\n"


def test_a_broken_configuration_is_told(net: Net, ssh: Ssh) -> None:
    net.add("Nonsense yes\n")
    assert kind_of(failure(ssh, FAR)) == "bad_configuration"


def test_closing_ends_what_runs(net: Net) -> None:
    ssh = Ssh(Options(config=net.config))
    raised: list[TorcError] = []

    def work() -> None:
        try:
            ssh.run(FAR, f"echo $$ > {net.folder}/pid; exec sleep 1000", seconds=20)
        except TorcError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until((net.folder / "pid").exists, "the script runs")
    began = time.monotonic()
    ssh.close()
    thread.join(60)
    assert raised and time.monotonic() - began < 60
    with pytest.raises(Unavailable, match="given up"):
        ssh.run(FAR, "true", seconds=30)


def test_many_machines_may_be_asked_at_once(ssh: Ssh) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ssh.run(FAR, "echo here", seconds=60).output)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"here\n"] * 8


def test_a_path_that_is_too_long_for_a_socket_means_a_connection_each(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    ssh = Ssh(Options(config=net.config))
    assert ssh.run(FAR, "echo here", seconds=30).output == b"here\n"
    ssh.close()
    assert os.listdir(deep) == []


def test_no_ssh_here_is_told() -> None:
    with pytest.raises(Unavailable, match="`no-such-ssh` is not installed") as raised:
        Ssh(Options(program="no-such-ssh"))
    assert raised.value.hint


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("node", Destination("node")),
        ("me@node.example.org:2222", Destination("node.example.org", "me", 2222)),
        ("me@realm@node", Destination("node", "me@realm")),
        ("[::1]", Destination("::1")),
        ("me@[fe80::1%eth0]:22", Destination("fe80::1%eth0", "me", 22)),
        ("192.0.2.1:22", Destination("192.0.2.1", None, 22)),
    ],
)
def test_destinations_are_read_and_written(text: str, is_: Destination) -> None:
    assert parse_destination(text) == is_
    assert str(is_) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=evil",
        "me@-host",
        "-me@host",
        "@host",
        "a b",
        "host;id",
        "$(id)",
        "`id`",
        "host\n",
        "h/x",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "host:-1",
        "::1",
        "[::1",
        "[::1]x",
        "[nonsense]",
        "[::1%;id]",
        "me@",
        "m'e@host",
        "hé",
        "a" * 300,
        "host:٣",
    ],
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`|write"):
        parse_destination(text)


def full(net: Net) -> socket.socket:
    """Have the machine serve somebody who does not log in, and take nobody beside; returns that connection."""
    net.far.stop()
    net.far.config.write_text(net.far.config.read_text().replace("MaxStartups 100", "MaxStartups 1:100:1"))
    net.far.start()

    def served() -> socket.socket | None:
        connection = socket.create_connection(("127.0.0.1", net.far.port))
        if connection.recv(4) == b"SSH-":
            return connection
        connection.close()
        return None

    found: socket.socket = wait_until(served, "the machine serves")
    return found


def test_a_machine_that_takes_no_more_connections_now_is_asked_again(net: Net, ssh: Ssh) -> None:
    with full(net) as first:
        before = net.far.log.read_text().count("MaxStartups")

        def leave() -> None:
            wait_until(lambda: net.far.log.read_text().count("MaxStartups") > before, "a connection was refused")
            first.close()

        leaving = threading.Thread(target=leave)
        leaving.start()
        assert ssh.run(FAR, "echo here", seconds=30).output == b"here\n"
        leaving.join()


def test_a_machine_that_takes_no_connections_for_long_is_told(net: Net, ssh: Ssh) -> None:
    with full(net):
        assert kind_of(failure(ssh, FAR)) == "not_taken"


def test_a_network_that_swallows_is_given_up_and_the_next_call_connects_anew(
    net: Net, ssh: Ssh, tmp_path: Path
) -> None:
    wire = Wire(("127.0.0.1", net.far.port))
    port = wire.url.rpartition(":")[2]
    net.add(
        net.far.as_host("wired", net.known_hosts).replace(f"Port {net.far.port}", f"Port {port}\n  HostKeyAlias wired")
    )
    with net.known_hosts.open("a") as known:
        known.write(f"wired ssh-ed25519 {key_of(net.far.host_key)}\n")
    wired, begun = Destination("wired"), tmp_path / "begun"

    def swallow() -> None:
        wait_until(begun.exists, "the script runs")
        wire.hold()

    swallowing = threading.Thread(target=swallow)
    swallowing.start()
    error = failure(ssh, wired, f"touch {begun}; echo one; sleep 2; echo two", seconds=4)
    swallowing.join()
    assert kind_of(error) == "timed_out"
    wire.cut()
    wire.mend()
    assert wait_until(lambda: _tried(ssh, wired) == b"here\n", "the machine answers again")
    wire.close()


def _tried(ssh: Ssh, to: Destination) -> bytes:
    try:
        return ssh.run(to, "echo here", seconds=10).output
    except TorcError:
        return b""
