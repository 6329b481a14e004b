"""What callers name: queues by name, URL or ARN; message move tasks by handles. Both doors read them here."""

from __future__ import annotations

from minicloud.base import pages
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidPageToken
from minicloud.queue import errors


def name_of(reference: str, scope: Scope) -> str:
    """The queue's name in this scope. Raises QueueDoesNotExist where the reference names another scope."""
    if reference.startswith("arn:"):
        name = reference.removeprefix(scope.arn("sqs", ""))
        if name == reference:
            raise errors.no_such_queue()
        return name
    if "://" in reference:
        account, _, name = reference.partition("://")[2].partition("/")[2].rpartition("/")
        if account.rpartition("/")[2] != scope.account:
            raise errors.no_such_queue()
        return name
    return reference


def check_own(arn: str, scope: Scope) -> None:
    """Raises MissingParameter, ResourceNotFoundException (another account's, or another region's)."""
    if not arn:
        raise errors.missing("SourceArn")
    if not arn.startswith(scope.arn("sqs", "")):
        raise errors.no_such_resource()


def issue_task(secret: bytes, number: int, source_arn: str) -> str:
    """The handle of a task."""
    return pages.issue(secret, "move task", f"{number} {source_arn}")


def redeem_task(secret: bytes, handle: str) -> tuple[int, str]:
    """Number and source ARN. Raises MissingParameter, InvalidParameterValue."""
    if not handle:
        raise errors.missing("TaskHandle")
    try:
        number, _, arn = pages.redeem(secret, "move task", handle).partition(" ")
    except InvalidPageToken:
        raise errors.bad_value("TaskHandle", handle, "It is not a task handle.") from None
    return int(number), arn
