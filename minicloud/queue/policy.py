"""AddPermission and RemovePermission: statements of a queue's access policy (stored and shown, not enforced)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from minicloud.base.arn import ACCOUNT
from minicloud.base.errors import InvalidParameterValue
from minicloud.queue import errors

_LABEL = re.compile(r"^[A-Za-z0-9_-]{1,80}\Z")
_ACTIONS = (
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
)


def added(policy: str, arn: str, label: str, accounts: Sequence[str], actions: Sequence[str]) -> str:
    """The policy with one more statement. Raises InvalidParameterValue, MissingParameter."""
    _check(label, accounts, actions)
    document = _parsed(policy, arn)
    if any(one.get("Sid") == label for one in document["Statement"]):
        raise errors.bad_value("Label", label, "Already exists.")
    principals = [f"arn:aws:iam::{account}:root" for account in accounts]
    named = [f"SQS:{action}" for action in actions]
    statement = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": principals[0] if len(principals) == 1 else principals},
        "Action": named[0] if len(named) == 1 else named,
        "Resource": arn,
    }
    document["Statement"].append(statement)
    return _text(document)


def removed(policy: str, arn: str, label: str) -> str:
    """The policy without that statement; '' where none is left. Raises InvalidParameterValue."""
    document = _parsed(policy, arn)
    kept = [one for one in document["Statement"] if one.get("Sid") != label]
    if len(kept) == len(document["Statement"]):
        raise errors.bad_value("Label", label, "can't find label on existing policy.")
    document["Statement"] = kept
    return _text(document) if kept else ""


def _check(label: str, accounts: Sequence[str], actions: Sequence[str]) -> None:
    if not _LABEL.match(label):
        raise errors.bad_value("Label", label, "Can only include alphanumeric characters, hyphens, or underscores.")
    if not accounts:
        raise errors.missing("AWSAccountIds")
    if not actions:
        raise errors.missing("Actions")
    for account in accounts:
        if not ACCOUNT.match(account):
            text = f"Value {account[:100]} for parameter PrincipalId is invalid. Reason: Unable to verify."
            raise InvalidParameterValue(text, field="AWSAccountIds")
    for action in actions:
        if action not in _ACTIONS:
            reason = f"Only the queue owner is allowed to invoke this action, or it is none: {', '.join(_ACTIONS)}."
            raise errors.bad_value("ActionName", action, reason)


def _parsed(policy: str, arn: str) -> dict[str, Any]:
    if not policy:
        return {"Version": "2012-10-17", "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}
    document: dict[str, Any] = json.loads(policy)
    statements = document.get("Statement", [])
    document["Statement"] = list(statements) if isinstance(statements, list) else [statements]
    return document


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
