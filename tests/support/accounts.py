"""People with accounts around one workflow: its owner, those whom it is shared with, strangers and an administrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.workflows import create, spec
from torc.api.access_groups import AddMembers, CreateAccessGroup, ShareWorkflow
from torc.api.base import Torc
from torc.api.users import CreateToken, CreateUser, NewToken
from torc.workflow.access import Access, Caller

PASSWORD = "correct horse battery"
#: member of a group -> what the group may do
SHARED = {"rita": "read", "rune": "run", "wim": "write"}


@dataclass
class People:
    """Ids of accounts, tokens and groups; `wf` belongs to ada."""

    torc: Torc
    wf: int
    accounts: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)

    def token(self, user: str, scope: Access = "write", **more: Any) -> NewToken:
        """Make a token."""
        return self.torc.send(CreateToken(name=f"{user}'s", user=user, scope=scope, **more))

    def caller(self, user: str, scope: Access = "write", **more: Any) -> Caller:
        """Make a token and give who shows it."""
        return Caller(f"user:{user}", "192.0.2.7", self.accounts[user], self.token(user, scope, **more).id)


def gather(torc: Torc, **fields: Any) -> People:
    """Make the accounts, the workflow and the groups."""
    made = create(torc, spec("a b -> c", user="ada", **fields))
    people = People(torc, made.id)
    for name in ("ada", "rita", "rune", "wim", "eve", "root"):
        is_admin = name == "root"
        people.accounts[name] = torc.send(CreateUser(name=name, is_admin=is_admin, password=PASSWORD)).id
    for name, permission in SHARED.items():
        people.groups[name] = torc.send(CreateAccessGroup(name=f"{name}s")).id
        torc.send(AddMembers(access_group_id=people.groups[name], users=[name]))
        share = {"workflow_id": made.id, "access_group_id": people.groups[name], "permission": permission}
        torc.send(ShareWorkflow.model_validate(share))
    return people
