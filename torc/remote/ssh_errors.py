"""Messages of OpenSSH as errors with hints. Messages of remote programs are handled elsewhere."""

from __future__ import annotations

import re
from typing import NamedTuple

from torc.errors import Forbidden, TorcError, Unavailable
from torc.ssh_destination import Destination


class _Sign(NamedTuple):
    """A kind of failure: the pattern of ssh's message (OpenSSH 7 to 10), its meaning, and a hint."""

    kind: str
    pattern: re.Pattern[str]
    means: str
    hint: str
    error: type[TorcError] = Unavailable


def _sign(kind: str, pattern: str, means: str, hint: str, error: type[TorcError] = Unavailable) -> _Sign:
    return _Sign(kind, re.compile(pattern, re.IGNORECASE), means, hint, error)


#: the first match is reported: a changed key also ends in "Host key verification failed", like an unknown one
_SIGNS = (
    _sign(
        "host_key_changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Offending .* key in|host key .* has changed",
        "its host key has changed",
        "the connection may be intercepted, or the machine reinstalled: ask the admin; `ssh-keygen -R HOST` removes the old key",
        Forbidden,
    ),
    _sign(
        "host_key_unknown",
        r"Host key verification failed|No .* host key is known for",
        "its host key is unknown",
        "connect once manually with `ssh {to}`, compare the fingerprint, and accept it",
        Forbidden,
    ),
    _sign(
        "unresolved",
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        "unknown host name",
        "check the name, or add it as `Host` to ~/.ssh/config",
    ),
    _sign("refused", r"Connection refused", "connection refused", "check the port, and that sshd is running there"),
    _sign(
        "timed_out",
        r"timed out|Timeout, server .* not responding",
        "no answer in time",
        "check that the machine is up and that no firewall blocks the connection",
    ),
    _sign(
        "unreachable",
        r"No route to host|Network is unreachable|Host is down|Network is down",
        "it cannot be reached",
        "check the network, a VPN, or a jump host (`ProxyJump` in ~/.ssh/config)",
    ),
    _sign(
        "permission_denied",
        r"Permission denied|Too many authentication failures|No more authentication methods",
        "it accepts none of your keys",
        "check with `ssh {to}`: the user name, ssh-agent (`ssh-add -l`), authorized_keys there; Torc does not ask for passwords",
        Forbidden,
    ),
    _sign(
        "no_agreement",
        r"no matching .* found|Unable to negotiate",
        "it has no algorithm in common with this ssh",
        "update ssh there, or allow the algorithm in ~/.ssh/config",
    ),
    _sign(
        "bad_configuration",
        r"Bad configuration option|Bad owner or permissions|terminating, \d+ bad|Can't open user config",
        "ssh refuses its configuration",
        "correct ~/.ssh/config, or the file named by --ssh-config",
    ),
    _sign(
        "not_taken",
        r"Exceeded MaxStartups|Not allowed at this time|kex_exchange_identification: .*(closed|reset)|"
        r"banner exchange: .*(closed|reset)",
        "it accepts no more connections now",
        "use fewer machines at once (--parallel), or raise MaxStartups in its sshd_config",
    ),
    _sign(
        "cut",
        r"Connection closed|Connection reset|Broken pipe|closed by remote host|disconnect|mux_client|control socket",
        "the connection was lost",
        "try again; `ssh -v {to}` shows details",
    ),
)


def of_ssh(to: Destination, said: str) -> TorcError:
    """Return the error for what ssh printed before it exited with 255. `details["kind"]` is its kind."""
    for sign in _SIGNS:
        found = sign.pattern.search(said)
        if found:
            return sign.error(
                f"{to}: {sign.means}{_quoted(said, found.start())}",
                hint=sign.hint.replace("{to}", as_ssh_writes(to)),
                kind=sign.kind,
                host=str(to),
            )
    last = last_line(said)
    return Unavailable(
        f"{to}: ssh failed" + (f": {last}" if last else " without a message"),
        hint=f"see the output of `ssh -v {as_ssh_writes(to)}`",
        kind="ssh_failed",
        host=str(to),
    )


def cut(to: Destination) -> TorcError:
    """Return the error for a connection lost while a script was running. An ssh that shares a connection does not say why."""
    return Unavailable(
        f"{to}: the connection was lost",
        hint="try again; what was started there continues: see `torc remote status`",
        kind="cut",
        host=str(to),
    )


def timed_out(to: Destination, seconds: float, what: str) -> TorcError:
    """Return the error for something that took too long."""
    return Unavailable(
        f"{to}: {what} did not end within {seconds:.0f} s",
        hint="check the machine, or allow more time with --timeout",
        kind="timed_out",
        host=str(to),
    )


def as_ssh_writes(to: Destination) -> str:
    """Return the arguments with which a person would call ssh."""
    port = "" if to.port is None else f"-p {to.port} "
    return port + ("" if to.user is None else f"{to.user}@") + to.host


def last_line(said: str) -> str:
    """Return the last non-empty line, without characters that a terminal would interpret."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return printable(lines[-1])[:300] if lines else ""


def printable(text: str) -> str:
    """Make text from another machine safe to print on a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _quoted(said: str, at: int) -> str:
    """Return the line that states the reason."""
    begin = said.rfind("\n", 0, at) + 1
    line = printable(said[begin:].split("\n", 1)[0]).strip(" @")
    return f" ({line[:300]})" if line else ""
