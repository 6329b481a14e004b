"""Messages as they are published: attributes, subject, sizes, and what MessageStructure json holds.

Source: SNS API, Publish; guide, "Message attributes". Where we differ: a message may hold only the characters that a
queue takes (XML's), so that raw delivery never meets one that it cannot store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minicloud.topic import errors, limits

PROTOCOLS = ("sqs", "lambda", "http", "https")
_BAD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_CHECKED_AT_ONCE = 64  # as much as fits into a processor's cache, at 1 KiB each
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME_CHAR = re.compile(r"[A-Za-z0-9_\-.]")
_TYPE = re.compile(r"^(String|Number|Binary)(\..+)?\Z", re.S)
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\Z", re.ASCII)
_TOKEN = re.compile(r"^[!-~]{1,128}\Z")
_ENTRY_ID = re.compile(r"^[A-Za-z0-9_-]{1,80}\Z")


class Attribute(NamedTuple):
    """Type `String`, `String.Array`, `Number` or `Binary`, with an optional `.label`; the value as bytes."""

    type: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One message to publish. Empty strings mean: not given. `id`: within a batch of the AWS door."""

    message: bytes
    subject: str = ""
    attributes: Mapping[str, Attribute] | None = None
    json: bool = False
    group_id: str = ""
    deduplication_id: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Texts:
    """What each protocol gets: `of(protocol)`."""

    default: bytes
    special: Mapping[str, bytes]

    def of(self, protocol: str) -> bytes:
        return self.special.get(protocol, self.default)


def size_of(entry: Entry) -> int:
    """Bytes that count against the topic's MaximumMessageSize: message, names, types and values of attributes."""
    if not entry.attributes:
        return len(entry.message)
    items = entry.attributes.items()
    return len(entry.message) + sum(
        len(name.encode()) + len(item.type.encode()) + len(item.value) for name, item in items
    )


def check_entry(entry: Entry, bytes_max: int) -> Texts:
    """Everything that does not depend on the kind of topic. Raises InvalidParameter, ParameterValueInvalid."""
    _check_text(entry.message)
    if entry.subject and (len(entry.subject) > limits.SUBJECT_CHARS_MAX or _CONTROL.search(entry.subject)):
        raise errors.invalid("Subject", "Subject")
    if entry.attributes:
        _check_attributes(entry.attributes)
    if size_of(entry) > bytes_max:
        raise errors.too_long()
    return _texts(entry.message) if entry.json else Texts(entry.message, {})


def check_bulk(messages: list[bytes], bytes_max: int) -> bool:
    """Plain messages, all at once; are all of them lines of printable ASCII? Raises InvalidParameter."""
    if not 1 <= len(messages) <= limits.BULK_MESSAGES_MAX:
        raise errors.invalid(f"1 to {limits.BULK_MESSAGES_MAX} messages a call", "messages")
    if max(map(len, messages)) > bytes_max:
        raise errors.too_long()
    simple = True
    for start in range(0, len(messages), _CHECKED_AT_ONCE):
        some = messages[start : start + _CHECKED_AT_ONCE]
        whole = b" ".join(some)
        one_line = whole.isascii() and np.frombuffer(whole, np.uint8).min(initial=32) >= 32  # as many are
        if not one_line or not all(map(bytes.strip, some)):
            simple = False
            for message in some:
                _check_text(message)
    return simple


def check_tokens(entry: Entry, *, fifo: bool, content_dedup: bool) -> None:
    """MessageGroupId and MessageDeduplicationId. Raises InvalidParameter."""
    if fifo and not entry.group_id:
        raise errors.invalid("The MessageGroupId parameter is required for FIFO topics", "MessageGroupId")
    if not fifo and entry.deduplication_id:
        name = "MessageDeduplicationId"
        text = f"{name} Reason: The request includes {name} parameter that is not valid for this topic type"
        raise errors.invalid(text, name)
    if fifo and not entry.deduplication_id and not content_dedup:
        text = (
            "The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
            "explicitly"
        )
        raise errors.invalid(text, "MessageDeduplicationId")
    for name, value in (("MessageGroupId", entry.group_id), ("MessageDeduplicationId", entry.deduplication_id)):
        if value and not _TOKEN.match(value):
            text = f"{name} Reason: {name} can only include alphanumeric and punctuation characters. 1 to 128 in length"
            raise errors.invalid(text, name)


def check_batch(ids: list[str]) -> None:
    """The laws of the AWS door's batches. Raises EmptyBatchRequest and the others of its kind."""
    if not ids:
        raise errors.empty_batch()
    if len(ids) > limits.BATCH_ENTRIES_MAX:
        raise errors.too_many_entries()
    if not all(_ENTRY_ID.match(entry_id) for entry_id in ids):
        raise errors.bad_entry_id()
    if len(set(ids)) != len(ids):
        raise errors.repeated_id()


def _check_text(message: bytes) -> None:
    if not message or message.isspace():
        raise errors.invalid("Empty message", "Message")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        raise errors.invalid("Message Reason: it must be UTF-8 text", "Message") from None
    bad = _BAD.search(text)
    if bad is not None:
        raise errors.invalid(f"Message Reason: character #x{ord(bad.group()):X} is not allowed", "Message")


def _texts(message: bytes) -> Texts:
    try:
        parsed = json.loads(message, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise errors.invalid("Message Structure - JSON message body failed to parse", "Message")
    if not isinstance(parsed.get("default"), str):
        raise errors.invalid("Message Structure - No default entry in JSON message body", "Message")
    texts = {
        name: parsed[name].encode("utf-8", "replace") for name in ("default", *PROTOCOLS) if _is_text(parsed, name)
    }
    if any(_BAD.search(text.decode()) for text in texts.values()):
        raise errors.invalid("Message Structure - a text holds a character that is not allowed", "Message")
    return Texts(texts.pop("default"), texts)


def _is_text(parsed: dict[str, Any], name: str) -> bool:
    return isinstance(parsed.get(name), str)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


# --- attributes


def _check_attributes(attributes: Mapping[str, Attribute]) -> None:
    if len(attributes) > limits.ATTRIBUTES_MAX:
        raise errors.bad_value(f"A message has at most {limits.ATTRIBUTES_MAX} attributes.", "MessageAttributes")
    for name, attribute in attributes.items():
        _check_name(name)
        _check_value(name, attribute)


def _check_name(name: str) -> None:
    field = "MessageAttributes"
    if not name:
        raise errors.bad_value("Message attribute name can not be empty.", field)
    if len(name) > limits.ATTRIBUTE_NAME_CHARS_MAX:
        raise errors.bad_value("Length of message attribute name must be less than 256 bytes.", field)
    if name[0] == ".":
        raise errors.bad_value("Invalid message attribute name starting with character '.' was found.", field)
    if name[-1] == ".":
        raise errors.bad_value("Invalid message attribute name ending with character '.' was found.", field)
    bad = next((char for char in name if not _NAME_CHAR.match(char)), None)
    if bad is not None:
        text = (
            f"Invalid non-alphanumeric character '#x{ord(bad):X}' was found in the message attribute name. "
            "Can only include alphanumeric characters, hyphens, underscores, or dots."
        )
        raise errors.bad_value(text, field)
    if ".." in name:
        raise errors.bad_value("Message attribute name can not have successive '.' character.", field)
    if name.lower().startswith(("aws.", "amazon.")):
        text = "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'."
        raise errors.bad_value(text, field)


def _check_value(name: str, attribute: Attribute) -> None:
    field = "MessageAttributes"
    kind, value = attribute
    if not _TYPE.match(kind) or len(kind) > limits.ATTRIBUTE_TYPE_CHARS_MAX:
        text = (
            f"The message attribute '{name}' has an invalid message attribute type, "
            "the set of supported type prefixes is Binary, Number, and String."
        )
        raise errors.bad_value(text, field)
    if not value:
        text = (
            f"The message attribute '{name}' must contain non-empty message attribute value "
            f"for message attribute type '{kind}'."
        )
        raise errors.bad_value(text, field)
    if kind.startswith("Binary"):
        return
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise errors.bad_value(f"The message attribute '{name}' must be UTF-8 text.", field) from None
    if _BAD.search(text):
        raise errors.bad_value(f"The message attribute '{name}' holds a character that is not allowed.", field)
    if kind.startswith("Number") and not _NUMBER.match(text.strip()):
        raise errors.bad_value(f"Could not cast message attribute '{name}' value to number.", field)
