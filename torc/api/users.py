"""Accounts of a server, and the tokens that programs use for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from torc.api.base import MEDIUM, Page, Request, Value, request
from torc.workflow.access import Access

UserName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$", description="letters, digits and ._@+-")
]
#: NIST SP 800-63B: at least 8 characters and no composition rules; the upper bound keeps hashing cheap
Password = Annotated[str, Field(min_length=8, max_length=1024)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
_TEN_YEARS = 10 * 366 * 86_400


class User(Value):
    """An account that can sign in."""

    id: int
    name: str
    is_admin: bool
    is_disabled: bool
    has_password: bool = Field(description="false: signs in with tokens created by an administrator")
    created_at: float = Field(description="seconds since the epoch, UTC; likewise the other times")
    num_workflows: int


class Me(Value):
    """The identity of the caller, as known to the server."""

    user: str
    user_id: int | None = Field(description="absent: the owner of the database, who may do everything; 0: a job")
    is_admin: bool
    scope: Access = Field(description="what the caller may do with the token that it presents")
    workflow_id: int | None = Field(None, description="the only workflow that the token is valid for")
    token_id: int | None = None
    expires_at: float | None = None
    access_groups: list[str] = []


@request("GET", "/me")
class GetMe(Request[Me]):
    """Return the identity of the caller and its rights."""


@request("POST", "/users", access="admin")
class CreateUser(Request[User]):
    """Create an account."""

    name: UserName
    password: Password | None = Field(
        None, repr=False, description="default: none, the account signs in with tokens only"
    )
    is_admin: bool = False


@request("GET", "/users", access="admin")
class ListUsers(Request[Page[User]]):
    """List accounts, oldest first."""

    name: str | None = Field(None, description="exact, or with * and ?")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/users/{user_id}", access="admin")
class GetUser(Request[User]):
    """Get one account."""

    user_id: int


@request("PATCH", "/users/{user_id}", access="admin")
class UpdateUser(Request[User]):
    """Change whether an account is an administrator, or disable it: it cannot sign in and its tokens are invalid meanwhile."""

    user_id: int
    is_admin: bool | None = None
    is_disabled: bool | None = None


@request("DELETE", "/users/{user_id}", access="admin")
class DeleteUser(Request[None]):
    """Delete an account with its tokens. Refused (`conflict`) while it owns workflows or access groups."""

    user_id: int


@request("PUT", "/users/{user_id}/password")
class SetPassword(Request[None]):
    """Set a password: one's own after signing in with the old one, or anybody's as an administrator."""

    user_id: int
    password: Password = Field(repr=False)
    revoke_tokens: bool = Field(False, description="also revoke all tokens of the account")


@request("POST", "/users/import", access="admin", largest_body=MEDIUM)
class ImportUsers(Request[list[User]]):
    """Create accounts from the lines of an htpasswd file (bcrypt or argon2), all or none."""

    htpasswd: str = Field(repr=False, max_length=10_000_000)
    replace: bool = Field(False, description="set the passwords of existing accounts")


class Token(Value):
    """A token, without its secret."""

    id: int
    name: str
    user: str
    scope: Access
    workflow_id: int | None = Field(None, description="the only workflow that it is valid for")
    parent_id: int | None = Field(None, description="the token with which it was created and with which it is revoked")
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = Field(None, description="when it was last used, to the hour")


class NewToken(Token):
    """A token with its secret, which is shown only once."""

    token: str = Field(repr=False, description="send it as `Authorization: Bearer TOKEN`")


@request("POST", "/tokens", access="write")
class CreateToken(Request[NewToken]):
    """Create a token. It has no more rights, and no longer lifetime, than the one with which it is created."""

    name: Label
    scope: Access = Field("write", description="each of read, job, run, write and admin includes those before it")
    expires_in_seconds: float | None = Field(None, gt=0, le=_TEN_YEARS, description="default: as long as allowed")
    workflow_id: int | None = Field(None, description="valid for this workflow only")
    user: UserName | None = Field(None, description="the account; administrators only. Default: the caller")


@request("GET", "/tokens")
class ListTokens(Request[Page[Token]]):
    """List the caller's tokens, or those of another account for an administrator."""

    user: str | None = Field(None, description="the account; administrators may omit it to list all")
    include_ended: bool = Field(False, description="include revoked and expired tokens")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("DELETE", "/tokens/{token_id}")
class RevokeToken(Request[None]):
    """Revoke a token and those created with it. A token may revoke itself; others need the right to write."""

    token_id: int
    keep_made: bool = Field(
        False, description="keep tokens created with it valid: for signing out when nothing was stolen"
    )
