"""What is stored in several transactions, because others could not write meanwhile, and how much one account may store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from torc.api.base import Request
from torc.errors import Forbidden, Invalid
from torc.operations.transaction import ReservedIds, Tx
from torc.store import sliced_storage, workflows
from torc.store.sliced_storage import Batch

Q = TypeVar("Q", bound=Request[Any])


class WorkflowLoad(Protocol):
    """A workflow that is to be stored."""

    @property
    def num_rows(self) -> int:
        """About how many rows it has."""
        ...

    @property
    def num_jobs(self) -> int:
        """How many jobs it has."""
        ...

    @property
    def is_dry(self) -> bool:
        """Whether nothing of it is to stay."""
        ...

    def user(self, tx: Tx) -> str:
        """To whom it is to belong. Raises Forbidden."""
        ...

    def take_ids(self, tx: Tx) -> ReservedIds:
        """Take the ids of all its rows."""
        ...

    def batches(self, ticket: ReservedIds) -> Iterator[Batch]:
        """Its rows, but for that of the workflow itself and the counts of its jobs. Raises Invalid."""
        ...

    def settle(self, tx: Tx, ticket: ReservedIds) -> None:
        """Work out what is kept beside the rows, when all are there. References are not checked in the transaction."""
        ...

    def verify(self, tx: Tx, ticket: ReservedIds) -> None:
        """Refuse what cannot be, in a transaction that reads. Raises Invalid."""
        ...


LOADS: dict[type[Request[Any]], Callable[[Any, Any], WorkflowLoad]] = {}


def loads(kind: type[Q]) -> Callable[[Callable[[Q, Any], WorkflowLoad]], Callable[[Q, Any], WorkflowLoad]]:
    """Function decorator: enter what makes a Load of a kind of request and of what was prepared for it."""

    def enter(make: Callable[[Q, Any], WorkflowLoad]) -> Callable[[Q, Any], WorkflowLoad]:
        LOADS[kind] = make
        return make

    return enter


def large_load(request: Request[Any], prepared: Any) -> WorkflowLoad | None:
    """What a request stores, where that is too much for one transaction."""
    make = LOADS.get(type(request))
    load = None if make is None or prepared is None else make(request, prepared)
    return load if load is not None and load.num_rows > sliced_storage.SLICE else None


def contradiction(error: BaseException) -> Invalid:
    """What the database says of rows that cannot be side by side."""
    return Invalid(f"the content is inconsistent: {error}", hint="the file is damaged")


def begin(tx: Tx, load: WorkflowLoad) -> ReservedIds:
    """Begin to store a workflow. Raises Forbidden for more than the account may have."""
    user = load.user(tx)
    check_quota(tx, user, load.num_jobs)
    ticket = load.take_ids(tx)
    sliced_storage.begin(tx.db, ticket.workflow_id, user, load.num_jobs, tx.now)
    return ticket


def check_quota(tx: Tx, user: str, num_jobs: int) -> None:
    """Refuse more jobs than an account may have stored, whoever else stores some for it now. Raises Forbidden."""
    if _is_limited(tx):
        tx.dialect.lock_account(tx.db, user)
    left = jobs_left(tx, user)
    if left is not None and num_jobs > left:
        raise Forbidden(
            f"{user} may have {tx.quota.max_jobs:,} jobs stored on this server: there is room for {left:,} more, "
            f"and this makes {num_jobs:,}",
            hint="delete workflows that are no longer needed, or ask an administrator of the server",
        )


def _is_limited(tx: Tx) -> bool:
    return tx.quota.max_jobs is not None and tx.rights is not None and not tx.rights.sees_all


def jobs_left(tx: Tx, user: str) -> int | None:
    """How many more jobs an account may have stored. None: as many as it likes."""
    if tx.quota.max_jobs is None or not _is_limited(tx):
        return None
    stored = workflows.num_jobs_of_user(tx.db, user) + sliced_storage.num_jobs(tx.db, user)
    return max(0, tx.quota.max_jobs - stored)


def room_for(tx: Tx, request: Request[Any]) -> int | None:
    """How many jobs a request may make, as far as can be told before it is looked at. None: as many as it likes."""
    workflow_id = getattr(request, "workflow_id", None)
    if tx.rights is None or workflow_id is None:
        return None if tx.rights is None else jobs_left(tx, tx.rights.user)
    owner = workflows.owner(tx.db, workflow_id)
    left = None if owner is None else jobs_left(tx, owner)
    return None if left is None else left + workflows.num_jobs(tx.db, workflow_id)
