"""Attributes of topics and subscriptions: AWS's names and texts, checked, and shown with their defaults.

Policies are stored and shown, never enforced: within an account every caller may do everything here. What we do not
have is refused by its name: encryption, delivery status roles, archives, data protection, active tracing, Firehose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from minicloud.base.arn import Arn
from minicloud.base.errors import CloudError
from minicloud.topic import errors, limits, retries
from minicloud.topic.filter import ATTRIBUTES, BODY, compile_filter
from minicloud.topic.model import PENDING, Subscription, Topic

_IN_SUBSCRIBE = "Attributes Reason: "
_STANDARD_NAME = re.compile(r"^[A-Za-z0-9_-]{1,256}\Z")
_FEEDBACK = re.compile(r"^(HTTP|SQS|Lambda|Firehose|Application)(Success|Failure)Feedback(RoleArn|SampleRate)\Z")
_CHOICES = {
    "FifoTopic": ("true", "false"),
    "ContentBasedDeduplication": ("true", "false"),
    "FifoThroughputScope": ("Topic", "MessageGroup"),
    "SignatureVersion": ("1", "2"),
    "TracingConfig": ("PassThrough",),
}
_FIFO_ONLY = ("ContentBasedDeduplication", "FifoThroughputScope")
_TOPIC = frozenset((*_CHOICES, "DisplayName", "Policy", "DeliveryPolicy", "MaximumMessageSize"))
_NOT_HERE = {
    "KmsMasterKeyId": "messages are not encrypted on disk here",
    "ArchivePolicy": "topics keep no archive here",
    "DataProtectionPolicy": "messages are not inspected here",
    "SubscriptionRoleArn": "there is no Firehose here",
    "ReplayPolicy": "topics keep no archive here",
}
_SUBSCRIPTION = frozenset(
    ("RawMessageDelivery", "FilterPolicy", "FilterPolicyScope", "RedrivePolicy", "DeliveryPolicy")
)


def check_name(name: str, fifo: bool) -> None:
    """Raises InvalidParameter."""
    if not fifo and not _STANDARD_NAME.match(name):
        raise errors.invalid("Topic Name", "Name")
    stem = name.removesuffix(".fifo")
    if fifo and (stem == name or not _STANDARD_NAME.match(stem) or len(name) > limits.TOPIC_NAME_CHARS_MAX):
        text = (
            "Fifo Topic names must end with .fifo and must be made up of only uppercase and lowercase ASCII letters, "
            "numbers, underscores, and hyphens, and must be between 1 and 256 characters long."
        )
        raise errors.invalid(text, "Name")


# --- topics


def check_topic(given: Mapping[str, str], *, creating: bool, fifo: bool) -> dict[str, str]:
    """What to store of the attributes given; an empty text takes an attribute away. Raises InvalidParameter."""
    prefix = _IN_SUBSCRIBE if creating else ""
    return {name: _topic_value(name, value, prefix, creating=creating, fifo=fifo) for name, value in given.items()}


def _topic_value(name: str, value: str, prefix: str, *, creating: bool, fifo: bool) -> str:
    if name in _NOT_HERE or _FEEDBACK.match(name):
        _refuse(name, value)
        return ""
    if name not in _TOPIC or (name == "FifoTopic" and not creating):
        raise _unknown(name, creating)
    if name in _FIFO_ONLY and not fifo:
        text = f"{prefix}{name}: it can be set on FIFO topics only"
        raise errors.invalid(text, name)
    if name in _CHOICES:
        return _choice(name, value, prefix)
    if name == "DisplayName":
        if len(value) > limits.DISPLAY_NAME_CHARS_MAX:
            raise errors.invalid(f"{prefix}DisplayName", name)
    elif name == "MaximumMessageSize":
        _check_size(value, prefix)
    elif value and name == "DeliveryPolicy":
        return retries.check_topic_policy(value, prefix)
    elif value:
        _check_policy(value, prefix)
    return value


def _choice(name: str, value: str, prefix: str) -> str:
    choices = _CHOICES[name]
    if name == "TracingConfig" and value == "Active":
        raise errors.not_supported("TracingConfig Active: messages are not traced here", name)
    if value not in choices:
        raise errors.invalid(f"{prefix}{name}: Invalid value [{value[:100]}]. Must be {' or '.join(choices)}.", name)
    return value


def _check_size(value: str, prefix: str) -> None:
    name, least, most = "MaximumMessageSize", limits.MESSAGE_BYTES_MIN, limits.MESSAGE_BYTES_MAX
    if not re.match(r"^[0-9]{1,9}\Z", value) or not least <= int(value) <= most:
        raise errors.invalid(f"{prefix}{name}: it must be an integer from {least} to {most}", name)


def _check_policy(value: str, prefix: str) -> None:
    if len(value.encode()) > limits.POLICY_BYTES_MAX or not isinstance(_json(value), dict):
        raise errors.invalid(f"{prefix}Policy Error: null", "Policy")


def _refuse(name: str, value: str) -> None:
    if value not in ("", "false"):
        reason = _NOT_HERE.get(name, "delivery status is not logged here; see the topic's metrics")
        raise errors.not_supported(f"{name}: {reason}", name)


def _unknown(name: str, creating: bool) -> CloudError:
    return errors.invalid(
        f"Attributes Reason: Unknown attribute {name[:100]}" if creating else "AttributeName", name[:100]
    )


def merged(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Stored attributes after a change: empty texts are gone, FifoTopic false is as if not given."""
    both = {name: value for name, value in {**old, **given}.items() if value != ""}
    if both.get("FifoTopic") == "false":
        del both["FifoTopic"]
    return both


def shown_of_topic(topic: Topic, counts: Mapping[str, int]) -> dict[str, str]:
    """As GetTopicAttributes answers. counts: of its subscriptions by state."""
    stored = topic.attributes
    fifo = {"ContentBasedDeduplication": "false"} if topic.fifo else {}
    return {
        "TopicArn": topic.arn,
        "Owner": topic.account,
        "DisplayName": "",
        "Policy": default_policy(topic),
        "EffectiveDeliveryPolicy": retries.effective_of_topic(stored.get("DeliveryPolicy", "")),
        "SubscriptionsConfirmed": str(counts.get("confirmed", 0)),
        "SubscriptionsPending": str(counts.get("pending", 0)),
        "SubscriptionsDeleted": str(topic.deleted),
        **fifo,
        **stored,
    }


def default_policy(topic: Topic) -> str:
    """The access policy that SNS gives a new topic."""
    actions = ("GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic")
    more = ("Subscribe", "ListSubscriptionsByTopic", "Publish")
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"SNS:{action}" for action in (*actions, *more)],
        "Resource": topic.arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": topic.account}},
    }
    policy = {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}
    return json.dumps(policy, separators=(",", ":"))


# --- subscriptions


def check_subscription(
    given: Mapping[str, str], old: Mapping[str, str], topic: Topic, to: tuple[str, str], *, subscribing: bool
) -> dict[str, str]:
    """The attributes after the change. to: protocol and endpoint. Raises InvalidParameter."""
    prefix = _IN_SUBSCRIBE if subscribing else ""
    checked = {name: _subscription_value(name, value, to, prefix) for name, value in given.items()}
    after = merged(old, checked)
    if after.get("FilterPolicy"):
        compile_filter(after["FilterPolicy"], after.get("FilterPolicyScope", ATTRIBUTES), prefix)
    if checked.get("RedrivePolicy"):
        _check_redrive(checked["RedrivePolicy"], topic, to, prefix)
    return after


def _subscription_value(name: str, value: str, to: tuple[str, str], prefix: str) -> str:
    if name in ("SubscriptionRoleArn", "ReplayPolicy"):
        _refuse(name, value)
        return ""
    if name not in _SUBSCRIPTION:
        raise errors.invalid(f"{prefix}AttributeName", name[:100])
    if name == "RawMessageDelivery":
        if value.lower() not in ("true", "false"):
            text = f"{prefix}RawMessageDelivery: Invalid value [{value[:100]}]. Must be true or false."
            raise errors.invalid(text, name)
        if to[0] == "lambda" and value.lower() == "true":
            text = f"{prefix}Delivery protocol [lambda] does not support raw message delivery."
            raise errors.invalid(text, name)
        return value.lower()
    if name == "FilterPolicyScope" and value not in (ATTRIBUTES, BODY):
        text = f"{prefix}{name}: Invalid value [{value[:100]}]. Please use either {BODY} or {ATTRIBUTES}"
        raise errors.invalid(text, name)
    if name == "DeliveryPolicy" and value:
        if to[0] in ("sqs", "lambda"):
            raise errors.invalid(f"{prefix}DeliveryPolicy: it can be set on http and https subscriptions only", name)
        return retries.check_subscription_policy(value, prefix)
    return value


def _check_redrive(value: str, topic: Topic, to: tuple[str, str], prefix: str) -> None:
    head, name = f"{prefix}RedrivePolicy: ", "RedrivePolicy"
    policy = _json(value)
    if not isinstance(policy, dict):
        raise errors.invalid(f"{head}failed to parse JSON.", name)
    target = policy.get("deadLetterTargetArn")
    try:
        arn = Arn.parse(str(target))
    except CloudError:
        raise errors.invalid(f"{head}deadLetterTargetArn is an invalid arn", name) from None
    if arn.service != "sqs" or set(policy) != {"deadLetterTargetArn"}:
        raise errors.invalid(f"{head}deadLetterTargetArn must be the ARN of a queue", name)
    if (arn.account, arn.region) != (topic.account, topic.region):
        raise errors.invalid(f"{head}the dead-letter queue must be of the topic's account and region", name)
    fifo = topic.fifo and to[1].endswith(".fifo")
    if fifo and not arn.resource.endswith(".fifo"):
        text = "must use a FIFO queue as DLQ for a FIFO Subscription to a FIFO Topic."
        raise errors.invalid(head + text, name)
    if not fifo and arn.resource.endswith(".fifo"):
        raise errors.invalid(f"{head}must use a standard queue as DLQ for this subscription.", name)


def dead_letter_arn(subscription: Subscription) -> str:
    """'' without a RedrivePolicy."""
    policy = subscription.attributes.get("RedrivePolicy", "")
    return str(json.loads(policy)["deadLetterTargetArn"]) if policy else ""


def shown_of_subscription(subscription: Subscription, topic: Topic) -> dict[str, str]:
    """As GetSubscriptionAttributes answers."""
    stored = dict(subscription.attributes)
    if "FilterPolicy" in stored:
        stored.setdefault("FilterPolicyScope", ATTRIBUTES)
    else:
        stored.pop("FilterPolicyScope", None)
    delivery = {}
    if subscription.http and subscription.protocol != "lambda":
        texts = (topic.attributes.get("DeliveryPolicy", ""), stored.get("DeliveryPolicy", ""))
        delivery["EffectiveDeliveryPolicy"] = retries.effective_of_subscription(*texts)
    return {
        "SubscriptionArn": subscription.arn,
        "TopicArn": subscription.topic_arn,
        "Owner": subscription.account,
        "Protocol": subscription.protocol,
        "Endpoint": subscription.endpoint,
        "PendingConfirmation": _word(subscription.state == PENDING),
        "ConfirmationWasAuthenticated": _word(subscription.authenticated),
        "RawMessageDelivery": "false",
        **delivery,
        **stored,
    }


def _word(value: bool) -> str:
    return "true" if value else "false"


def _json(text: str) -> Any:
    """None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
