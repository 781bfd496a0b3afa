"""Who may do what: one pure function, and the names that it decides about.

Rights are ordered: each of read, job, run, write and admin includes those before it; `job` is what a job needs of its own workflow:
to look at it, and to write user data. What somebody may do to a workflow is the least of
two rights: the one that the token carries (`Rights.scope`) and the one that they hold to the workflow (owner, or by an access group).
Not for finding these out: `torc.operations.access` asks the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Access = Literal["read", "job", "run", "write", "admin"]
LEVELS: tuple[Access, ...] = ("read", "job", "run", "write", "admin")
#: what a group may be given to a workflow, by the numbers that are stored
SHARED: tuple[Access, ...] = ("read", "run", "write")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks over the network: `actor` is what the log of events says, `address` where from.

    Without an account it is the owner of the database, who may do everything, or a job of a runner.
    """

    actor: str
    address: str
    account_id: int | None = None
    token_id: int | None = None  # None: signed in by password
    runner_id: int | None = None  # a job of this runner calls

    @property
    def is_owner(self) -> bool:
        """Return whether it is the owner of the database."""
        return self.account_id is None and self.runner_id is None


@dataclass(frozen=True, slots=True)
class Rights:
    """What an account may do with the token that it shows, or a job of a runner (`account_id` is 0: no account has that)."""

    user: str
    account_id: int
    is_admin: bool
    scope: Access
    workflow_id: int | None = None  # the token is for this workflow alone
    token_id: int | None = None
    expires_at: float | None = None

    @property
    def sees_all(self) -> bool:
        """Return whether these are the rights of an administrator, with a token that says so too."""
        return self.is_admin and self.scope == "admin"


class AccessDecision(Enum):
    """What is answered to a request."""

    ALLOWED = "allowed"
    HIDDEN = "hidden"  # as if it were not there
    REFUSED = "refused"


def level(access: Access) -> int:
    """Return the place of a right in their order."""
    return LEVELS.index(access)


def includes(held: Access | None, needed: Access) -> bool:
    """Return whether one right includes another."""
    return held is not None and level(held) >= level(needed)


def decide(needed: Access, rights: Rights, workflow: tuple[int, Access | None] | None) -> AccessDecision:
    """Decide about a request that needs a right.

    `workflow`: the one that it is about, and the right that the account holds to it (None: none, its existence is hidden);
    None where it is about no workflow.
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
