"""Authenticates callers by token or password, and slows down guessing.

The account of a secret never changes, so it is cached; whether the secret is still valid is checked in the database with each
request. Passwords are only for signing in: comparing one takes 50 ms on purpose.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy.exc import DBAPIError
from starlette.requests import HTTPConnection

from torc.client.embedded import Embedded
from torc.errors import TorcError, Unauthorized
from torc.operations import audit, tokens
from torc.operations.dispatch import Tx
from torc.operations.passwords import hash_password, is_outdated, is_password
from torc.operations.users import is_name
from torc.server.caller import Authenticator, OwnerOnLoopback, digest_of, shown_secret, user_name
from torc.server.job_tokens import JobTokens
from torc.server.rate_limit import BoundedQueue, FailureDelay, RequestRate, network_of, region_of
from torc.store import users as user_rows
from torc.store.engine import Store
from torc.store.tokens import TokenOwner
from torc.workflow.access import Caller

_LOG = logging.getLogger(__name__)
#: requests that may be authenticated by password
BY_PASSWORD = {"CreateToken", "SetPassword"}
_MOST_REMEMBERED = 50_000
_NOTE_SECONDS = 3600.0
_HINT = "send a token: torc login URL, or `Authorization: Bearer TOKEN`"
_FREE_MISSES, _LONGEST_WAIT_SECONDS = 5, 300.0
#: tokens cannot be guessed: this only protects the database, and many runners may share an address
_FREE_MISSES_OF_TOKENS, _LONGEST_WAIT_OF_TOKENS_SECONDS = 100, 10.0
#: guessing a user's password from many addresses must not lock the user out
_FREE_MISSES_OF_USER, _LONGEST_WAIT_OF_USER_SECONDS = 20, 8.0
#: one is compared while the others wait: a second in total
MOST_SIGN_INS = 20
_LOOKUPS = 2
CALLS_PER_SECOND, CALLS_AT_ONCE = 2_000.0, 10_000.0


@dataclass(frozen=True, slots=True)
class Authentication:
    """How a server authenticates callers. `owner_token` is the token of the server's owner."""

    owner_token: str = field(repr=False)
    auth: bool = False
    calls_per_second: float = CALLS_PER_SECOND

    def identity(self, store: Store) -> Authenticator:
        """Return the authenticator."""
        if not self.auth:
            return OwnerOnLoopback(self.owner_token, JobTokens(store).find)
        return Accounts(store, owner_token=self.owner_token, calls_per_second=self.calls_per_second)


class Accounts:
    """Identifies callers by the accounts in the database, and the server's owner by the token in `.torc/server.json`."""

    def __init__(
        self, store: Store, *, owner_token: str | None = None, calls_per_second: float = CALLS_PER_SECOND
    ) -> None:
        self._embedded = Embedded(store, "server")
        self._owner = None if owner_token is None else digest_of(owner_token)
        # a separate pool, so that tokens never wait for passwords: comparing one takes 50 ms and 64 MiB on purpose
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "torc-token")
        self._jobs = JobTokens(store, self._lookups)
        self._notes = ThreadPoolExecutor(1, "torc-token-use")
        self._sign_ins = BoundedQueue(MOST_SIGN_INS, "torc-sign-in", "are signing in")
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._tokens = FailureDelay(_FREE_MISSES_OF_TOKENS, _LONGEST_WAIT_OF_TOKENS_SECONDS)
        self._addresses = FailureDelay(_FREE_MISSES, _LONGEST_WAIT_SECONDS)
        self._users = FailureDelay(_FREE_MISSES_OF_USER, _LONGEST_WAIT_OF_USER_SECONDS)
        self._regions = FailureDelay(_FREE_MISSES, _LONGEST_WAIT_SECONDS)
        self._rate = None
        if calls_per_second > 0:
            self._rate = RequestRate(calls_per_second, CALLS_AT_ONCE / CALLS_PER_SECOND * calls_per_second)

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return the caller. Raises Unauthorized or TooMany."""
        client = connection.scope.get("client")
        address = client[0] if client else ""
        kind, shown = shown_secret(connection)
        if kind == "bearer":
            caller = await self._by_token(shown, address)
        elif kind == "basic":
            caller = await self._by_password(shown, address, connection.scope.get("torc.kind", ""))
        else:
            raise Unauthorized("this server requires authentication", hint=_HINT)
        if self._rate is not None and not caller.is_owner:
            self._rate.take(f"{caller.account_id or caller.actor} {network_of(address)}")
        return caller

    def confirm(self, connection: HTTPConnection) -> None:
        """Do nothing: the token identifies the caller, not the connection."""

    async def _by_token(self, shown: str, address: str) -> Caller:
        digest = digest_of(shown)
        if self._owner is not None and hmac.compare_digest(digest, self._owner):
            return Caller(f"user:{user_name(os.geteuid())}", address)
        known, noted = self._known.get(digest, (None, 0.0))
        if known is None or time.monotonic() > noted + _NOTE_SECONDS:
            known = await self._look_up(shown, digest, address)
        else:
            self._known.move_to_end(digest)
        return replace(known, address=address)

    async def _look_up(self, shown: str, digest: bytes, address: str) -> Caller:
        """Look up a token in the database, and record its use."""
        network = network_of(address)
        self._tokens.check(network)
        if (job := await self._jobs.find(shown, address)) is not None:
            return job
        read = tokens.read_token(shown)
        found = None
        if read is not None:
            found = await asyncio.get_running_loop().run_in_executor(self._lookups, partial(self._find, *read))
        if found is None or read is None:
            self._tokens.miss(network)
            raise Unauthorized("this token is not a token of this server", hint=_HINT)
        if found.used_at is None or time.time() > found.used_at + _NOTE_SECONDS:
            self._notes.submit(self._note_use, read[0])  # in the background: another process may hold the database
        caller = Caller(f"user:{found.user}", address, found.account_id, read[0])
        self._known[digest] = caller, time.monotonic()
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def _find(self, token_id: int, shown_hash: str) -> TokenOwner | None:
        find = partial(tokens.owner_of_token, token_id=token_id, shown_hash=shown_hash)
        return self._embedded.transact(find, None, writes=False)

    def _note_use(self, token_id: int) -> None:
        try:
            self._embedded.transact(partial(tokens.note_use, token_id=token_id), None, writes=True)
        except (TorcError, DBAPIError) as error:
            _LOG.info("cannot record that token %d was used: %s", token_id, error)

    async def _by_password(self, shown: str, address: str, kind: str) -> Caller:
        if kind not in BY_PASSWORD:
            raise Unauthorized("a password can only be used for signing in", hint=_HINT)
        try:
            user, _, password = base64.b64decode(shown, validate=True).decode().partition(":")
        except ValueError:
            raise Unauthorized(
                "the credentials are not a name and a password", hint="send base64 of NAME:PASSWORD"
            ) from None
        network, region = network_of(address), region_of(address)
        self._addresses.check(network)
        if self._regions.knows(region):  # otherwise others are guessing elsewhere, which must not lock the user out
            self._users.check(user)
        comparing = self._sign_ins.begin(partial(self._compare, user, password, address))
        # counted before it is compared: many concurrent attempts count as well
        self._addresses.miss(network)
        self._regions.miss(region)
        self._users.miss(user)
        account_id = await comparing
        if account_id is None:
            _LOG.warning("a wrong password came from %s", address)
            raise Unauthorized("wrong name or password", hint="an administrator can set a new password")
        self._addresses.hit(network)
        self._regions.hit(region)
        self._users.hit(user)
        return Caller(f"user:{user}", address, account_id)

    def _compare(self, user: str, password: str, address: str) -> int | None:
        """Return the account with this name and password, or None."""
        account_id, stored = None, None
        if is_name(user):
            account_id, stored = self._embedded.transact(partial(_password_of, user=user), None, writes=False)
        if not is_password(stored, password):
            # an unknown name may be a password typed into the wrong field
            caller = Caller(f"user:{user}" if account_id else "somebody", address)
            self._embedded.transact(lambda tx: audit.record(tx, "sign_in_failed", {}), caller, writes=True)
            return None
        if account_id is not None and stored is not None and is_outdated(stored):
            store = partial(_store, account_id=account_id, old=stored, new=hash_password(password))
            self._embedded.transact(store, None, writes=True)
        return account_id


def _password_of(tx: Tx, user: str) -> tuple[int | None, str | None]:
    row = user_rows.password(tx.db, user)
    return (None, None) if row is None else (row["id"], row["password_hash"])


def _store(tx: Tx, account_id: int, old: str, new: str) -> None:
    user_rows.replace_password_hash(tx.db, account_id, old, new)
