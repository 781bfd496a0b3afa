"""Stored logins: a token for each server, in the desktop's keyring or in a file that only its owner can read."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torc.client.private_files import write_private
from torc.errors import Forbidden, Invalid, Unavailable
from torc.files import NotPrivate, config_folder, read_private
from torc.redaction import redact_url
from torc.urls import split_url

FILE = "credentials.json"
_SERVICE = "torc"
_LARGEST_FILE = 16 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """The login to one server. `token` is None if it is in the keyring.

    `server_uid`: who runs the server, if it has a loopback address and belongs to neither the caller nor root.
    """

    user: str
    token_id: int | None = None
    expires_at: float | None = None
    token: str | None = None
    server_uid: int | None = None


def file_of(environ: Mapping[str, str]) -> Path:
    """Return the path of the credentials file."""
    return config_folder(environ) / FILE


def server_of(url: str) -> str:
    """Return the key of a server: scheme, host and port. Raises Invalid."""
    parts = split_url(url.rstrip("/"))
    if parts is None:
        raise Invalid(
            f"`{redact_url(url)[:200]}` is not a valid server URL",
            hint="write http://HOST:PORT or https://HOST:PORT",
        )
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def read(environ: Mapping[str, str]) -> dict[str, Credential]:
    """Read all credentials, by server. Raises Forbidden if others can read the file, Invalid if it is damaged."""
    path = file_of(environ)
    try:
        known = json.loads(read_private(path, _LARGEST_FILE))
        return {server: Credential(**fields) for server, fields in known.items()}
    except FileNotFoundError:
        return {}
    except NotPrivate:
        raise Forbidden(
            f"other users own or can read {path}, which contains tokens", hint=f"chmod 600 {path}"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"cannot read {path}: {error}", hint="remove it and sign in again: torc login URL") from None


def read_token(path: str | None) -> str | None:
    """Read a token from a file that contains one, or from a `server.json`.

    Raises Forbidden if others can read or could have written it, Invalid if there is no token.
    """
    if not path:
        return None
    try:
        return read_private(path).strip() or None
    except NotPrivate:
        raise Forbidden(
            f"other users own or can read {path}, which contains a token", hint=f"chmod 600 {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"cannot read {path}, given by TORC_TOKEN_FILE: {error}", hint="set it to a file that contains a token"
        ) from None


def write_token(path: Path, token: str) -> None:
    """Write a file for `read_token`. Raises Unavailable."""
    write_private(path, token + "\n")


def token_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the token for a server; None without a login. Raises Forbidden, Invalid or Unavailable."""
    server = server_of(url)
    found = read(environ).get(server)
    if found is None or found.token is not None:
        return None if found is None else found.token
    stored: str | None = _call("get_password", _SERVICE, server)
    return stored


def server_users(url: str, environ: Mapping[str, str]) -> set[int]:
    """Return who ran a server at login, if it was another user of this machine."""
    try:
        found = read(environ).get(server_of(url))
    except (Forbidden, Invalid):
        return set()
    return set() if found is None or found.server_uid is None else {found.server_uid}


def keep(url: str, credential: Credential, environ: Mapping[str, str], *, in_keyring: bool) -> Path | None:
    """Store a credential; return the file of its token, or None if it is in the keyring. Raises Invalid or Unavailable."""
    server, kept = server_of(url), credential
    if in_keyring:
        _call("set_password", _SERVICE, server, credential.token)
        kept = replace(credential, token=None)
    _write({**read(environ), server: kept}, file_of(environ))
    return None if in_keyring else file_of(environ)


def forget(url: str, environ: Mapping[str, str]) -> Credential | None:
    """Delete a credential and return it; None if there was none."""
    server, known = server_of(url), read(environ)
    found = known.pop(server, None)
    if found is not None:
        if found.token is None:
            _call("delete_password", _SERVICE, server)
        _write(known, file_of(environ))
    return found


def has_keyring() -> bool:
    """Return whether a secure keyring is available."""
    try:
        backend = _keyring().get_keyring()
    except Unavailable:
        return False
    # the backends `fail` and `null` have a priority of 0 or less
    return bool(getattr(backend, "priority", 0) >= 1)


def _keyring() -> Any:
    try:
        return importlib.import_module("keyring")
    except ImportError:
        raise Unavailable(
            "the token is in the keyring, but Python's `keyring` is not installed",
            hint=f"install it ({sys.executable} -m pip install keyring), or sign in again: torc login URL --no-keyring",
        ) from None


def _call(name: str, *arguments: Any) -> Any:
    keyring = _keyring()
    try:
        return getattr(keyring, name)(*arguments)
    except keyring.errors.KeyringError as error:
        raise Unavailable(
            f"the keyring does not answer: {error}", hint="store the token in a file: torc login URL --no-keyring"
        ) from None


def _write(credentials: Mapping[str, Credential], path: Path) -> None:
    write_private(path, json.dumps({server: asdict(item) for server, item in credentials.items()}, indent=1))
