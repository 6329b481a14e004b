"""Attributes of queues: AWS's names and texts outside, parsed settings inside. Values are echoed as they were given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minicloud.base.arn import Arn
from minicloud.base.errors import InvalidParameterValue
from minicloud.queue import errors, limits

_NAME = re.compile(r"^[A-Za-z0-9_-]{1,80}\Z")
_RANGES = {
    "DelaySeconds": (0, limits.DELAY_S_MAX),
    "MaximumMessageSize": (limits.MESSAGE_BYTES_MAX_MIN, limits.MESSAGE_BYTES_MAX),
    "MessageRetentionPeriod": (limits.RETENTION_S_MIN, limits.RETENTION_S_MAX),
    "ReceiveMessageWaitTimeSeconds": (0, limits.WAIT_S_MAX),
    "VisibilityTimeout": (0, limits.VISIBILITY_S_MAX),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400),
}
DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": str(limits.MESSAGE_BYTES_MAX),
    "MessageRetentionPeriod": str(limits.RETENTION_S_DEFAULT),
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": str(limits.VISIBILITY_S_DEFAULT),
    "SqsManagedSseEnabled": "false",
}
_FIFO_DEFAULTS = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}
_CHOICES = {
    "ContentBasedDeduplication": ("true", "false"),
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
_TEXTS = ("Policy", "RedrivePolicy", "RedriveAllowPolicy")
READ_ONLY = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
)
NAMES = frozenset((*_RANGES, *_CHOICES, *_TEXTS, *READ_ONLY, "FifoQueue", "KmsMasterKeyId", "SqsManagedSseEnabled"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rules read. Seconds and bytes; `dlq_arn` is '' without a redrive policy, `max_receives` 0 then."""

    fifo: bool = False
    delay_s: int = 0
    max_bytes: int = limits.MESSAGE_BYTES_MAX
    retention_s: int = limits.RETENTION_S_DEFAULT
    visibility_s: int = limits.VISIBILITY_S_DEFAULT
    wait_s: int = 0
    content_dedup: bool = False
    dedup_by_group: bool = False
    dlq_arn: str = ""
    max_receives: int = 0
    redrive: str = "allowAll"
    redrive_sources: tuple[str, ...] = ()


def check_name(name: str, fifo: bool) -> None:
    """Raises InvalidParameterValue."""
    stem = name.removesuffix(".fifo") if fifo else name
    if fifo and (not name.endswith(".fifo") or not _NAME.match(stem) or len(name) > limits.QUEUE_NAME_CHARS_MAX):
        text = (
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end "
            "with .fifo suffix and be 1 to 80 in length."
        )
        raise InvalidParameterValue(text, field="QueueName")
    if not _NAME.match(stem):
        text = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        raise InvalidParameterValue(text, field="QueueName")


def check_given(given: Mapping[str, str], *, creating: bool, fifo: bool) -> dict[str, str]:
    """The attributes to store; an empty text takes RedrivePolicy, RedriveAllowPolicy, Policy, KmsMasterKeyId away.

    Raises InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue (redrive), UnsupportedOperation.
    """
    for name, value in given.items():
        if name not in NAMES or name in READ_ONLY:
            raise errors.bad_attribute_name(name)
        _check_one(name, value, creating=creating, fifo=fifo)
    return dict(given)


def _check_one(name: str, value: str, *, creating: bool, fifo: bool) -> None:
    if name in _RANGES:
        low, high = _RANGES[name]
        if not re.match(r"^[0-9]{1,9}\Z", value) or not low <= int(value) <= high:
            raise errors.bad_attribute_value(name, f"Must be an integer from {low} to {high}.")
    elif name == "FifoQueue" or name in _CHOICES:
        _check_fifo(name, value, creating=creating, fifo=fifo)
    elif name in ("KmsMasterKeyId", "SqsManagedSseEnabled"):
        if value not in ("", "false"):
            raise errors.unsupported(f"{name}: messages are not encrypted on disk here.", name)
    elif value:
        _check_text(name, value)


def _check_fifo(name: str, value: str, *, creating: bool, fifo: bool) -> None:
    if not fifo:
        raise errors.bad_attribute_name(name)
    if name == "FifoQueue" and not creating:
        raise errors.bad_attribute_value(name, "It can be given only when the queue is created.")
    if value not in _CHOICES.get(name, ("true",)):
        raise errors.bad_attribute_value(name)


def _check_text(name: str, value: str) -> None:
    if name == "RedrivePolicy":
        redrive_policy(value)
    elif name == "RedriveAllowPolicy":
        redrive_allow(value)
    elif len(value.encode()) > limits.POLICY_BYTES_MAX:
        raise errors.bad_attribute_value(name, f"At most {limits.POLICY_BYTES_MAX} bytes.")
    else:
        _object(name, value)


def merged(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Stored attributes after a change: empty texts are gone."""
    return {name: value for name, value in {**old, **given}.items() if value != ""}


def parse(attributes: Mapping[str, str]) -> Settings:
    """Equal attributes share one object. Raises InvalidAttributeValue where two of them contradict each other."""
    return _parse(frozenset(attributes.items()))


@lru_cache(maxsize=4096)
def _parse(items: frozenset[tuple[str, str]]) -> Settings:
    given = {**DEFAULTS, **dict(items)}
    if given.get("FifoThroughputLimit") == "perMessageGroupId" and given.get("DeduplicationScope") != "messageGroup":
        raise errors.bad_attribute_value(
            "FifoThroughputLimit", "perMessageGroupId needs DeduplicationScope messageGroup."
        )
    target, receives = redrive_policy(given["RedrivePolicy"]) if given.get("RedrivePolicy") else ("", 0)
    allow = given.get("RedriveAllowPolicy")
    permission, sources = redrive_allow(allow) if allow else ("allowAll", ())
    return Settings(
        fifo=given.get("FifoQueue") == "true",
        delay_s=int(given["DelaySeconds"]),
        max_bytes=int(given["MaximumMessageSize"]),
        retention_s=int(given["MessageRetentionPeriod"]),
        visibility_s=int(given["VisibilityTimeout"]),
        wait_s=int(given["ReceiveMessageWaitTimeSeconds"]),
        content_dedup=given.get("ContentBasedDeduplication") == "true",
        dedup_by_group=given.get("DeduplicationScope") == "messageGroup",
        dlq_arn=target,
        max_receives=receives,
        redrive=permission,
        redrive_sources=sources,
    )


def shown(attributes: Mapping[str, str], fifo: bool) -> dict[str, str]:
    """Defaults and what was given, as GetQueueAttributes answers."""
    return {**DEFAULTS, **(_FIFO_DEFAULTS if fifo else {}), **attributes}


def redrive_policy(text: str) -> tuple[str, int]:
    """(dead-letter queue ARN, maxReceiveCount). Raises InvalidParameterValue."""
    policy = _map(text)
    if policy is None:
        raise _bad_redrive(text, "Redrive policy is not a valid JSON map.")
    if "deadLetterTargetArn" not in policy:
        raise _bad_redrive(text, "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
    if set(policy) - {"deadLetterTargetArn", "maxReceiveCount"}:
        reason = "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn]."
        raise _bad_redrive(text, reason)
    try:
        arn = str(Arn.parse(policy["deadLetterTargetArn"]))
    except (InvalidParameterValue, TypeError, ValueError, AttributeError):
        raise _bad_redrive(text, "Dead-letter target ARN should be fully qualified ARN.") from None
    given = policy.get("maxReceiveCount", limits.MAX_RECEIVE_COUNT_DEFAULT)
    receives = int(given) if re.match(r"^[0-9]{1,9}\Z", str(given)) else 0
    if not 1 <= receives <= limits.MAX_RECEIVE_COUNT_MAX:
        valid = f"valid values are from 1 to {limits.MAX_RECEIVE_COUNT_MAX} both inclusive."
        raise _bad_redrive(text, f"Invalid value for maxReceiveCount: {str(given)[:100]}, {valid}")
    return arn, receives


def _bad_redrive(text: str, reason: str) -> InvalidParameterValue:
    return errors.bad_value("RedrivePolicy", text, reason)


def redrive_allow(text: str) -> tuple[str, tuple[str, ...]]:
    """(permission, source queue ARNs). Raises InvalidParameterValue."""
    policy = _map(text) or {}
    permission, sources = policy.get("redrivePermission"), policy.get("sourceQueueArns")
    wrong = ", as it's in an unsupported format."
    if permission in ("allowAll", "denyAll", "byQueue") and not set(policy) - {"redrivePermission", "sourceQueueArns"}:
        wrong = _wrong_sources(permission, sources)
    if wrong:
        reason = "Amazon SQS can't create the redrive allow policy" + wrong
        raise errors.bad_value("RedriveAllowPolicy", text, reason)
    return str(permission), tuple(sources or ())


def _wrong_sources(permission: str, sources: Any) -> str:
    """'': nothing."""
    if sources is not None and not (isinstance(sources, list) and all(isinstance(one, str) for one in sources)):
        return ", as it's in an unsupported format."
    if permission != "byQueue":
        needed = ". To specify one or more source queue ARNs, you must set redrivePermission to byQueue."
        return needed if sources else ""
    if not sources:
        return (
            ". When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values."
        )
    most = limits.REDRIVE_SOURCES_MAX
    return f". The maximum number of source queue ARNs you can specify is {most}." if len(sources) > most else ""


def _map(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _object(name: str, text: str) -> None:
    if _map(text) is None:
        raise errors.bad_attribute_value(name, "It must be a JSON object.")
