"""What may stand in haproxy.cfg and in a runtime command: each value is checked against its form, or quoted.

Raises InvalidParameterValue.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from minicloud.base.errors import InvalidParameterValue

NAME_CHARS_MAX = 64
VALUE_CHARS_MAX = 4096
FETCH = re.compile(r"^[A-Za-z0-9_.,()\-/]+$")
HEADER = re.compile(r"^[A-Za-z0-9-]+$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")
_HOSTNAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")


def quote(value: str) -> str:
    """HAProxy's strong quotes. Raises InvalidParameterValue for control characters and absurd lengths."""
    if len(value) > VALUE_CHARS_MAX:
        raise InvalidParameterValue(f"longer than {VALUE_CHARS_MAX} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise InvalidParameterValue(f"holds a control character: {value[:80]!r}")
    return "'" + value.replace("'", "'\\''") + "'"


def name(value: str, field: str) -> str:
    if len(value) > NAME_CHARS_MAX:
        raise InvalidParameterValue(f"longer than {NAME_CHARS_MAX} characters: {value[:NAME_CHARS_MAX]!r}", field=field)
    return matching(_NAME, value, field)


def matching(form: re.Pattern[str], value: str, field: str) -> str:
    if not form.fullmatch(value):
        raise InvalidParameterValue(f"not a valid {field}: {value[:80]!r}", field=field)
    return value


def whole(value: int, low: int, high: int, field: str) -> int:
    if not low <= value <= high:
        raise InvalidParameterValue(f"must be between {low} and {high}, not {value}", field=field)
    return int(value)


def endpoint(address: str, port: int) -> str:
    """`address:port`; an IPv6 address in brackets. The address is numeric, '*' or a host name."""
    number = whole(port, 1, 65535, "port")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"{address if address == '*' else matching(_HOSTNAME, address, 'address')}:{number}"
    return f"[{parsed}]:{number}" if parsed.version == 6 else f"{parsed}:{number}"


def distinct(names: Sequence[str], field: str) -> None:
    if len(set(names)) != len(names):
        raise InvalidParameterValue(f"a {field} name is used twice: {sorted(names)}", field=field)
