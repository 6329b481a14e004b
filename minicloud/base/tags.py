"""Tags: up to 50 a resource, keys of 1-128 and values of 0-256 characters, no `aws:` prefix.

Source: AWS "Tag restrictions" (EC2 User Guide, Using_Tags).
"""

from __future__ import annotations

from collections.abc import Mapping

from minicloud.base import limits
from minicloud.base.errors import InvalidParameterValue, LimitExceeded

RESERVED = "aws:"


def check_tags(
    tags: Mapping[str, str], field: str = "tags", *, kept: Mapping[str, str] | None = None, service: bool = False
) -> dict[str, str]:
    """`kept` and `tags` together. Tags of the cloud's own services are not counted; only they (`service`) set some.

    Raises InvalidParameterValue or LimitExceeded (TagLimitExceeded), naming the field.
    """
    for key, value in tags.items():
        check_tag(key, value, field, service=service)
    after = {**(kept or {}), **tags}
    if sum(not key.startswith(RESERVED) for key in after) > limits.TAGS_PER_RESOURCE_MAX:
        raise LimitExceeded(
            f"a resource can have at most {limits.TAGS_PER_RESOURCE_MAX} tags", code="TagLimitExceeded", field=field
        )
    return after


def check_tag(key: str, value: str, field: str = "tags", *, service: bool = False) -> None:
    if not 1 <= len(key) <= limits.TAG_KEY_CHARS_MAX:
        raise InvalidParameterValue(
            f"tag key must have 1 to {limits.TAG_KEY_CHARS_MAX} characters, not {len(key)}", field=f"{field}.key"
        )
    if key.lower().startswith(RESERVED) and not service:
        raise InvalidParameterValue(f"tag keys starting with 'aws:' are reserved: '{key}'", field=f"{field}.key")
    if len(value) > limits.TAG_VALUE_CHARS_MAX:
        raise InvalidParameterValue(
            f"tag value of '{key}' must have at most {limits.TAG_VALUE_CHARS_MAX} characters, not {len(value)}",
            field=f"{field}.value",
        )
