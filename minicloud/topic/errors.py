"""The errors of topics: classes of the one tree (base/errors.py) with SNS's codes and texts."""

from __future__ import annotations

from minicloud.base.errors import (
    AccessDenied,
    CloudError,
    InvalidParameterValue,
    InvalidRequest,
    LimitExceeded,
    MessageTooLarge,
    NotFound,
    UnsupportedOperation,
)


def invalid(text: str, field: str) -> InvalidParameterValue:
    """`Invalid parameter: TEXT`, SNS's commonest answer."""
    return InvalidParameterValue(f"Invalid parameter: {text}", code="InvalidParameter", field=field)


def bad_value(text: str, field: str) -> InvalidParameterValue:
    """What SNS says of message attributes: another code, and a text without a head."""
    return InvalidParameterValue(text, code="ParameterValueInvalid", field=field)


def no_such_topic() -> NotFound:
    return NotFound("Topic does not exist", code="NotFound", field="topic")


def no_such_subscription() -> NotFound:
    return NotFound("Subscription does not exist", code="NotFound", field="subscription_arn")


def not_supported(text: str, field: str) -> CloudError:
    return UnsupportedOperation(text, code="InvalidParameter", field=field)


def too_many_topics(most: int) -> LimitExceeded:
    text = f"The maximum number of topics, {most}, is reached"
    return LimitExceeded(text, code="TopicLimitExceeded", field="name")


def too_many_subscriptions(most: int) -> LimitExceeded:
    text = f"The maximum number of subscriptions of this topic, {most}, is reached"
    return LimitExceeded(text, code="SubscriptionLimitExceeded", field="topic")


def too_many_filters(most: int, whose: str) -> LimitExceeded:
    text = f"The maximum number of filter policies of {whose}, {most}, is reached"
    return LimitExceeded(text, code="FilterPolicyLimitExceeded", field="FilterPolicy")


def too_costly() -> InvalidParameterValue:
    text = "Message Reason: it takes too long to match it against the filter policies of the topic's subscriptions"
    return invalid(text, "Message")


def not_authorized(text: str, field: str) -> AccessDenied:
    return AccessDenied(text, code="AuthorizationError", field=field)


def too_long() -> MessageTooLarge:
    return MessageTooLarge("Invalid parameter: Message too long", code="InvalidParameter", field="Message")


def batch_too_long() -> MessageTooLarge:
    text = "The length of all the messages put together is more than the limit."
    return MessageTooLarge(text, code="BatchRequestTooLong", field="entries")


def empty_batch() -> InvalidRequest:
    return InvalidRequest("The batch request doesn't contain any entries.", code="EmptyBatchRequest", field="entries")


def too_many_entries() -> InvalidRequest:
    text = "The batch request contains more entries than permissible."
    return InvalidRequest(text, code="TooManyEntriesInBatchRequest", field="entries")


def repeated_id() -> InvalidRequest:
    text = "Two or more batch entries in the request have the same Id."
    return InvalidRequest(text, code="BatchEntryIdsNotDistinct", field="entries")


def bad_entry_id() -> InvalidRequest:
    text = "The Id of a batch entry in a batch request doesn't abide by the specification."
    return InvalidRequest(text, code="InvalidBatchEntryId", field="entries")
