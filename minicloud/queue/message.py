"""Messages at the door: body characters, attributes, sizes, ids.

Attributes are stored as: count (1 byte), then for each attribute three parts, each a 4-byte length and its bytes:
name, type and value.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minicloud.base.errors import InvalidParameterValue
from minicloud.queue import errors, limits

_BAD_BYTES = bytes(code for code in range(32) if code not in (9, 10, 13))
_BAD_WIDE = re.compile("[\ufffe\uffff]")
_NAME = re.compile(r"^[A-Za-z0-9_\-.]{1,256}\Z")
_TYPE = re.compile(r"^(String|Number|Binary)(\..+)?\Z", re.S)
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\Z")
_TOKEN = re.compile(rb"^[!-~]{1,128}\Z")
_TRACE = re.compile(rf"^[ -~]{{1,{limits.TRACE_HEADER_CHARS_MAX}}}\Z")
_CHECKED_AT_ONCE = 64  # as much as fits into a processor's cache, at 1 KiB each
_LENGTH = struct.Struct(">I")
_SEQUENCE_BASE = 10**19  # 20 digits from the first message on
SYSTEM_NAMES = ("AWSTraceHeader", "SenderId")


class Attribute(NamedTuple):
    """A message attribute: type `String`, `Number` or `Binary` with an optional `.label`; the value as bytes."""

    type: str
    value: bytes


@dataclass(slots=True)
class SendEntry:
    """One message to send. Empty strings and None mean: not given. `id`: within a batch."""

    body: bytes
    id: str = ""
    delay_s: int | None = None
    attributes: Mapping[str, Attribute] | None = None
    trace_header: str = ""
    group_id: str = ""
    deduplication_id: str = ""


def check_body(body: bytes) -> None:
    """Raises MissingParameter (empty), InvalidMessageContents."""
    if not body:
        raise errors.missing("MessageBody")
    _check_text(body)


def check_bodies(bodies: list[bytes]) -> None:
    """The same for many; the text check runs over some of them in one go. Raises as check_body."""
    if not all(bodies):
        raise errors.missing("MessageBody")
    for start in range(0, len(bodies), _CHECKED_AT_ONCE):
        some = bodies[start : start + _CHECKED_AT_ONCE]
        whole = b" ".join(some)
        if not whole.isascii() or np.frombuffer(whole, np.uint8).min() < 32:  # many are one line of ASCII
            for body in some:
                _check_text(body)


def _check_text(body: bytes) -> None:
    if body.isascii() and len(body.translate(None, _BAD_BYTES)) == len(body):
        return
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise errors.bad_contents("Text that is not UTF-8") from None
    bad = next((char for char in text if ord(char) < 32 and char not in "\t\n\r"), None)
    wide = _BAD_WIDE.search(text)
    if bad is not None or wide is not None:
        code = ord(bad if bad is not None else wide.group())  # type: ignore[union-attr]
        raise errors.bad_contents(f"Invalid binary character '#x{code:X}'")


def check_token(name: str, value: str) -> bytes:
    """A group, deduplication or attempt id as bytes. Raises InvalidParameterValue."""
    raw = value.encode("utf-8", "surrogatepass")
    if not _TOKEN.match(raw):
        reason = (
            f"{name} can only include alphanumeric and punctuation characters. 1 to {limits.TOKEN_CHARS_MAX} in length"
        )
        raise errors.bad_value(name, value, reason + ".")
    return raw


def check_trace_header(value: str) -> str:
    """Raises InvalidParameterValue."""
    if not _TRACE.match(value):
        reason = f"It must be an X-Ray trace header of at most {limits.TRACE_HEADER_CHARS_MAX} characters."
        raise errors.bad_value("AWSTraceHeader", value, reason)
    return value


def encode_attributes(attributes: Mapping[str, Attribute] | None, system: Mapping[str, str]) -> bytes:
    """Check and encode; user attributes and system ones (under the reserved prefix 'AWS.'). b'' for none.

    Raises InvalidParameterValue.
    """
    if not attributes and not system:
        return b""
    if attributes and len(attributes) > limits.MESSAGE_ATTRIBUTES_MAX:
        most = limits.MESSAGE_ATTRIBUTES_MAX
        text = f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{most}]."
        raise InvalidParameterValue(text, field="MessageAttributes")
    for name, attribute in (attributes or {}).items():
        _check_attribute(name, attribute)
    return pack_attributes({**(attributes or {}), **{f"AWS.{name}": _text(value) for name, value in system.items()}})


def pack_attributes(attributes: Mapping[str, Attribute]) -> bytes:
    """Without a check: of somebody who has made his own. Up to 255."""
    parts: list[bytes] = [bytes([len(attributes)])]
    for name, attribute in attributes.items():
        parts += _encoded(name, attribute)
    return b"".join(parts)


def decode_attributes(data: bytes) -> tuple[dict[str, Attribute], dict[str, str]]:
    """User attributes and system attributes (without the prefix)."""
    user: dict[str, Attribute] = {}
    system: dict[str, str] = {}
    at = 1
    for _ in range(data[0] if data else 0):
        pieces = []
        for _ in range(3):
            (size,) = _LENGTH.unpack_from(data, at)
            pieces.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        name = pieces[0].decode()
        if name.startswith("AWS."):
            system[name[4:]] = pieces[2].decode()
        else:
            user[name] = Attribute(pieces[1].decode(), pieces[2])
    return user, system


def size_of(attributes: Mapping[str, Attribute] | None) -> int:
    """What attributes add to a message's size: names, types and values."""
    items = (attributes or {}).items()
    return sum(len(name.encode()) + len(item.type.encode()) + len(item.value) for name, item in items)


def size_of_encoded(data: bytes) -> int:
    """The same, of encoded ones; system attributes count nothing."""
    return size_of(decode_attributes(data)[0]) if data else 0


def message_id(tag: int, seq: int) -> str:
    """A UUID (version 8, RFC 9562): 58 bits of the queue's tag and the sequence number. The same for a whole life."""
    low = f"{0x8000000000000000 | (seq & 0x3FFFFFFFFFFFFFFF):016x}"
    return f"{_id_prefix(tag)}{low[:4]}-{low[4:]}"


@lru_cache(maxsize=4096)
def _id_prefix(tag: int) -> str:
    high = f"{(tag >> 16 & 0xFFFFFFFFFFFF) << 16 | 0x8000 | (tag & 0xFFF):016x}"
    return f"{high[:8]}-{high[8:12]}-{high[12:]}-"


def sequence_number(seq: int) -> str:
    """20 digits, increasing within a queue."""
    return str(_SEQUENCE_BASE + seq)


def matching(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """The attribute names that a receive asked for: exact, `All`, `.*`, or `prefix.*`."""
    asked = list(wanted)
    if "All" in asked or ".*" in asked:
        return list(names)
    prefixes = tuple(item[:-1] for item in asked if item.endswith(".*"))
    return [name for name in names if name in asked or (prefixes and name.startswith(prefixes))]


def _text(value: str) -> Attribute:
    return Attribute("String", value.encode())


def _encoded(name: str, attribute: Attribute) -> list[bytes]:
    pieces: list[bytes] = []
    for part in (name.encode(), attribute.type.encode(), attribute.value):
        pieces += (_LENGTH.pack(len(part)), part)
    return pieces


def _check_attribute(name: str, attribute: Attribute) -> None:
    field = "MessageAttributes"
    if not _NAME.match(name) or name[0] == "." or name[-1] == "." or ".." in name:
        text = f"Can only include alphanumeric characters, hyphens, underscores, or dots: '{name[:100]}'"
        raise InvalidParameterValue(text, field=field)
    if name.lower().startswith(("aws.", "amazon.")):
        text = "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'."
        raise InvalidParameterValue(text, field=field)
    if not _TYPE.match(attribute.type) or len(attribute.type) > limits.ATTRIBUTE_TYPE_CHARS_MAX:
        text = f"The type of message (user) attribute '{name}' is invalid. You must use only the following supported "
        raise InvalidParameterValue(text + "type prefixes: Binary, Number, String.", field=field)
    if not attribute.value:
        text = f"Message (user) attribute '{name}' must contain a non-empty value of type '{attribute.type}'."
        raise InvalidParameterValue(text, field=field)
    if attribute.type.startswith("Binary"):
        return
    _check_text(attribute.value)
    if attribute.type.startswith("Number") and not _NUMBER.match(attribute.value.decode().strip()):
        text = f"Can't cast the value of message (user) attribute '{name}' to a number."
        raise InvalidParameterValue(text, field=field)
