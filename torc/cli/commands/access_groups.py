"""`torc access-groups`: share workflows."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api import access_groups as api
from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.connection import torc, workflow_id
from torc.cli.named_objects import Limit, Workflow, checked, done
from torc.errors import NotFound
from torc.units import whole_number

access_groups = App("Manage groups of users that share workflows.")

Group = Annotated[str, typer.Argument(metavar="GROUP", help="Name or id.")]
_GROUPS = [
    *rendering.columns("id", "name", "description", "owner"),
    ("members", lambda g: ", ".join(member.name for member in g.members)),
]
_SHARES = [("workflow", rendering.attribute("workflow_id")), *rendering.columns("access_group", "permission")]


@access_groups.command("create")
def create(name: str, description: Annotated[str | None, typer.Option("--description")] = None) -> None:
    """Create an access group. You are its owner and first member.

    Example: torc access-groups create climate
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(checked(api.CreateAccessGroup, name=name, description=description)), _GROUPS)


@access_groups.command("list")
def list_(limit: Limit = 1000) -> None:
    """List your access groups, or as an administrator, all of them.

    Example: torc access-groups list
    """
    with torc(create=False) as opened:
        items, more = rendering.all_pages(
            lambda cursor: opened.send(api.ListAccessGroups(limit=min(limit, 10_000), cursor=cursor)), limit
        )
    rendering.show_list(items, _GROUPS, empty="there are no access groups", more=more)


@access_groups.command("get")
def get(group: Group) -> None:
    """Show an access group and its members.

    Example: torc access-groups get climate
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(api.GetAccessGroup(access_group_id=_group_id(opened, group))), _GROUPS)


@access_groups.command("delete")
def delete(group: Group) -> None:
    """Delete an access group. Its workflows are no longer shared with it.

    Example: torc access-groups delete climate
    """
    with torc(create=False) as opened:
        opened.send(api.DeleteAccessGroup(access_group_id=_group_id(opened, group)))
    done({"deleted": group}, f"deleted access group {group}")


@access_groups.command("add-user")
def add_user(group: Group, users: Annotated[list[str], typer.Argument(metavar="USER...")]) -> None:
    """Add users to a group of yours.

    Example: torc access-groups add-user climate alice bob
    """
    with torc(create=False) as opened:
        request = checked(api.AddMembers, access_group_id=_group_id(opened, group), users=users)
        rendering.show_one(opened.send(request), _GROUPS)


@access_groups.command("remove-user")
def remove_user(group: Group, user: str) -> None:
    """Remove a user from a group of yours, or yourself from any group.

    Example: torc access-groups remove-user climate bob
    """
    with torc(create=False) as opened:
        found = opened.send(api.GetAccessGroup(access_group_id=_group_id(opened, group)))
        numbers = [member.user_id for member in found.members if user in {member.name, str(member.user_id)}]
        if not numbers:
            raise NotFound(
                f"`{user}` is no member of {found.name}", hint=f"`torc access-groups get {group}` shows who is"
            )
        opened.send(api.RemoveMember(access_group_id=found.id, user_id=numbers[0]))
    done({"removed": user, "access_group": found.name}, f"removed {user} from {found.name}")


@access_groups.command("add-workflow")
def add_workflow(
    group: Group,
    workflow: Workflow,
    permission: Annotated[
        str,
        typer.Option(
            "--permission", help="read, run or write. With write, members can change the commands that others run."
        ),
    ] = "read",
) -> None:
    """Share a workflow of yours with a group.

    Example: torc access-groups add-workflow climate 12 --permission run
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        fields = {"workflow_id": number, "access_group_id": _group_id(opened, group), "permission": permission}
        rendering.show_one(opened.send(checked(api.ShareWorkflow, **fields)), _SHARES)


@access_groups.command("remove-workflow")
def remove_workflow(group: Group, workflow: Workflow) -> None:
    """Stop sharing a workflow with a group.

    Example: torc access-groups remove-workflow climate 12
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        opened.send(api.UnshareWorkflow(workflow_id=number, access_group_id=_group_id(opened, group)))
    done({"workflow_id": number, "access_group": group}, f"workflow {number} is shared with {group} no more")


@access_groups.command("list-workflow-groups")
def list_workflow_groups(workflow: Workflow) -> None:
    """List the groups with which a workflow is shared.

    Example: torc access-groups list-workflow-groups 12
    """
    with torc(create=False) as opened:
        found = opened.send(api.ListShares(workflow_id=workflow_id(opened, workflow)))
    rendering.show_list(found, _SHARES, empty="it is shared with nobody")


def _group_id(opened: Torc, named: str) -> int:
    found = opened.send(api.ListAccessGroups(name=named, limit=1)).items if not set(named) & set("*?") else ()
    if found:
        return int(found[0].id)
    number = whole_number(named)
    if number is not None:
        return number
    raise NotFound(f"there is no access group `{named}` that you can see", hint="`torc access-groups list` shows them")
