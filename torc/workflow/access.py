"""Access rules: one pure function, and the types that it decides about.

Levels are ordered: read, job, run, write, admin each include those before them; `job` is what a job needs of its own workflow: to
read it, and to write user data. What a caller may do to a workflow is the lesser of two levels: the one that the token carries
(`Rights.scope`) and the one that the account has on the workflow (as its owner or through an access group). Looking these up in
the database is done by `torc.operations.access`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Access = Literal["read", "job", "run", "write", "admin"]
LEVELS: tuple[Access, ...] = ("read", "job", "run", "write", "admin")
#: levels that an access group can have on a workflow; the database stores their indexes
SHARED: tuple[Access, ...] = ("read", "run", "write")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request over the network: `actor` appears in the event log, `address` is where it comes from.

    Without an account it is the owner of the database, who may do everything, or a job of a runner.
    """

    actor: str
    address: str
    account_id: int | None = None
    token_id: int | None = None  # None: signed in by password
    runner_id: int | None = None  # sent by a job of this runner

    @property
    def is_owner(self) -> bool:
        return self.account_id is None and self.runner_id is None


@dataclass(frozen=True, slots=True)
class Rights:
    """What an account may do with the token that it presents, or a job of a runner (`account_id` 0, which no account has)."""

    user: str
    account_id: int
    is_admin: bool
    scope: Access
    workflow_id: int | None = None  # the token is valid for this workflow only
    token_id: int | None = None
    expires_at: float | None = None

    @property
    def sees_all(self) -> bool:
        """Return whether these are the rights of an administrator whose token is not restricted."""
        return self.is_admin and self.scope == "admin"


class AccessDecision(Enum):
    ALLOWED = "allowed"
    HIDDEN = "hidden"  # answered as if it did not exist
    REFUSED = "refused"


def level(access: Access) -> int:
    """Return the rank of a level."""
    return LEVELS.index(access)


def includes(held: Access | None, needed: Access) -> bool:
    return held is not None and level(held) >= level(needed)


def decide(needed: Access, rights: Rights, workflow: tuple[int, Access | None] | None) -> AccessDecision:
    """Decide about a request that needs a level.

    `workflow`: the id of the workflow that it concerns and the account's level on it (None: no access, so its existence is hidden);
    None if it concerns no workflow.
    """
    if workflow is not None:
        number, held = workflow
        if rights.workflow_id not in {None, number} or (held is None and not rights.sees_all):
            return AccessDecision.HIDDEN
        if not rights.sees_all and not includes(held, needed):
            return AccessDecision.REFUSED
    elif rights.workflow_id is not None and needed != "read":
        return AccessDecision.REFUSED
    if needed == "admin" and not rights.sees_all:
        return AccessDecision.REFUSED
    return AccessDecision.ALLOWED if includes(rights.scope, needed) else AccessDecision.REFUSED
