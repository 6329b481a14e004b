"""AddPermission and RemovePermission: statements of a topic's access policy (stored and shown, not enforced)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from minicloud.base.arn import ACCOUNT
from minicloud.topic import errors

_ACTIONS = frozenset(
    (
        "Publish",
        "RemovePermission",
        "SetTopicAttributes",
        "DeleteTopic",
        "ListSubscriptionsByTopic",
        "GetTopicAttributes",
        "AddPermission",
        "Subscribe",
        "Receive",
    )
)


def added(policy: str, arn: str, label: str, accounts: Sequence[str], actions: Sequence[str]) -> str:
    """The policy with one more statement. Raises InvalidParameter."""
    document: dict[str, Any] = json.loads(policy)
    if any(one.get("Sid") == label for one in document["Statement"]):
        raise errors.invalid("Statement already exists", "Label")
    if not accounts or not all(ACCOUNT.match(account) for account in accounts):
        raise errors.invalid("Policy statement principal does not match", "AWSAccountId")
    if not actions or not _ACTIONS.issuperset(actions):
        raise errors.invalid("Policy statement action out of service scope!", "ActionName")
    principals = [f"arn:aws:iam::{account}:root" for account in accounts]
    named = [f"SNS:{action}" for action in actions]
    statement = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": principals[0] if len(principals) == 1 else principals},
        "Action": named[0] if len(named) == 1 else named,
        "Resource": arn,
    }
    document["Statement"].append(statement)
    return json.dumps(document, separators=(",", ":"))


def removed(policy: str, label: str) -> str:
    """The policy without that statement; as in AWS it is no error that there is none."""
    document: dict[str, Any] = json.loads(policy)
    document["Statement"] = [one for one in document["Statement"] if one.get("Sid") != label]
    return json.dumps(document, separators=(",", ":"))
