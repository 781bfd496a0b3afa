"""What OpenSSH says when it fails, as errors that say what to do. Not for what a program on the far side says."""

from __future__ import annotations

import re
from typing import NamedTuple

from torc.errors import Forbidden, TorcError, Unavailable
from torc.ssh_destination import Destination


class _Sign(NamedTuple):
    """A kind of failure: what ssh writes (messages of OpenSSH 7 to 10), what that means, what to do."""

    kind: str
    pattern: re.Pattern[str]
    means: str
    hint: str
    error: type[TorcError] = Unavailable


def _sign(kind: str, pattern: str, means: str, hint: str, error: type[TorcError] = Unavailable) -> _Sign:
    return _Sign(kind, re.compile(pattern, re.IGNORECASE), means, hint, error)


#: the first that is found is told: a changed key ends in "Host key verification failed" as an unknown one does
_SIGNS = (
    _sign(
        "host_key_changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Offending .* key in|host key .* has changed",
        "its host key is not the one that is known",
        "somebody may stand between, or it was set up anew: ask who runs it; `ssh-keygen -R HOST` forgets the former key",
        Forbidden,
    ),
    _sign(
        "host_key_unknown",
        r"Host key verification failed|No .* host key is known for",
        "its host key is not known here",
        "connect once by hand with `ssh {to}`, compare the fingerprint, and accept it",
        Forbidden,
    ),
    _sign(
        "unresolved",
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        "no such name",
        "check the name, or enter it as `Host` in ~/.ssh/config",
    ),
    _sign("refused", r"Connection refused", "connection refused", "check that sshd runs there, and the port"),
    _sign(
        "timed_out",
        r"timed out|Timeout, server .* not responding",
        "no answer in time",
        "check that the machine is up and that no firewall stands between",
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
        "it takes none of your keys",
        "check with `ssh {to}`: the user name, ssh-agent (`ssh-add -l`), authorized_keys there; Torc asks for no password",
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
        "mend ~/.ssh/config, or the file named by --ssh-config",
    ),
    _sign(
        "not_taken",
        r"Exceeded MaxStartups|Not allowed at this time|kex_exchange_identification: .*(closed|reset)|"
        r"banner exchange: .*(closed|reset)",
        "it takes no more connections now",
        "ask fewer machines at once (--parallel), or raise MaxStartups in its sshd_config",
    ),
    _sign(
        "cut",
        r"Connection closed|Connection reset|Broken pipe|closed by remote host|disconnect|mux_client|control socket",
        "the connection was cut",
        "try again; `ssh -v {to}` tells more",
    ),
)


def of_ssh(to: Destination, said: str) -> TorcError:
    """Return the error for what ssh wrote on standard error before it ended with 255. `details["kind"]` tells the kind."""
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
        f"{to}: ssh failed" + (f": {last}" if last else ", and said nothing"),
        hint=f"see what `ssh -v {as_ssh_writes(to)}` says",
        kind="ssh_failed",
        host=str(to),
    )


def cut(to: Destination) -> TorcError:
    """Return the error for a connection that ended under a script. An ssh that shares a connection says nothing of why."""
    return Unavailable(
        f"{to}: the connection was cut",
        hint="try again; what was begun there goes on: `torc remote status` finds it",
        kind="cut",
        host=str(to),
    )


def timed_out(to: Destination, seconds: float, what: str) -> TorcError:
    """Return the error for something that took longer than it may."""
    return Unavailable(
        f"{to}: {what} did not end within {seconds:.0f} s",
        hint="check the machine, or allow more time with --timeout",
        kind="timed_out",
        host=str(to),
    )


def as_ssh_writes(to: Destination) -> str:
    """Return the arguments by which a person would call ssh."""
    port = "" if to.port is None else f"-p {to.port} "
    return port + ("" if to.user is None else f"{to.user}@") + to.host


def last_line(said: str) -> str:
    """Return the last line that says something, in characters that a terminal bears."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return printable(lines[-1])[:300] if lines else ""


def printable(text: str) -> str:
    """Make text harmless for a terminal: what comes from another machine may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text)


def _quoted(said: str, at: int) -> str:
    """Return the line that tells the reason."""
    begin = said.rfind("\n", 0, at) + 1
    line = printable(said[begin:].split("\n", 1)[0]).strip(" @")
    return f" ({line[:300]})" if line else ""
