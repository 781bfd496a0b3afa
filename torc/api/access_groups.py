"""Access groups, the workflows that they share, and the record of who did what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from torc.api.base import Page, Request, Value, request
from torc.api.users import Label, UserName

Shared = Annotated[
    Literal["read", "run", "write"],
    Field(description="what members may do; members who can write can change commands that others then run"),
]


class Member(Value):
    """An account in a group."""

    user_id: int
    name: str


class AccessGroup(Value):
    """Accounts that workflows are shared with."""

    id: int
    name: str
    description: str | None = None
    owner: str | None = Field(description="who may add and remove members; absent: only administrators")
    members: list[Member]
    created_at: float


@request("POST", "/access-groups", access="write")
class CreateAccessGroup(Request[AccessGroup]):
    """Create an access group; its creator owns it and becomes its first member."""

    name: Label
    description: str | None = Field(None, max_length=10_000)


@request("GET", "/access-groups")
class ListAccessGroups(Request[Page[AccessGroup]]):
    """List the access groups that the caller is a member of, or all for an administrator."""

    name: str | None = Field(None, description="exact, or with * and ?")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/access-groups/{access_group_id}")
class GetAccessGroup(Request[AccessGroup]):
    """Get one access group."""

    access_group_id: int


@request("DELETE", "/access-groups/{access_group_id}", access="write")
class DeleteAccessGroup(Request[None]):
    """Delete an access group, which ends all sharing through it."""

    access_group_id: int


@request("POST", "/access-groups/{access_group_id}/members", access="write")
class AddMembers(Request[AccessGroup]):
    """Add accounts to a group, all or none."""

    access_group_id: int
    users: list[UserName] = Field(min_length=1, max_length=10_000)


@request("DELETE", "/access-groups/{access_group_id}/members/{user_id}", access="write")
class RemoveMember(Request[None]):
    """Remove an account from a group. Members may remove themselves."""

    access_group_id: int
    user_id: int


class Share(Value):
    """A workflow shared with a group."""

    workflow_id: int
    access_group_id: int
    access_group: str
    permission: Shared


@request("GET", "/workflows/{workflow_id}/shares")
class ListShares(Request[list[Share]]):
    """List the groups that a workflow is shared with."""

    workflow_id: int


@request("PUT", "/workflows/{workflow_id}/shares/{access_group_id}", access="write")
class ShareWorkflow(Request[Share]):
    """Share a workflow with a group that its owner is a member of, or change what the members may do."""

    workflow_id: int
    access_group_id: int
    permission: Shared = "read"


@request("DELETE", "/workflows/{workflow_id}/shares/{access_group_id}", access="write")
class UnshareWorkflow(Request[None]):
    """Stop sharing a workflow with a group."""

    workflow_id: int
    access_group_id: int


class AuditRecord(Value):
    """Something that was done or attempted through a server."""

    id: int
    time: float
    actor: str
    address: str = Field(description="where the call came from")
    token_id: int | None = None
    action: str = Field(description="name of the request, or sign_in_failed")
    workflow_id: int | None = None
    data: dict[str, Any]


@request("GET", "/audit", access="admin")
class ListAudit(Request[Page[AuditRecord]]):
    """List who did what through a server, and from where, newest first. Records outlive what they are about."""

    actor: str | None = Field(None, description="exact, or with * and ?, such as user:alice")
    action: str | None = Field(None, description="exact, or with * and ?, such as Delete*")
    workflow_id: int | None = None
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None
