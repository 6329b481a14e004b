"""What a rule looks at. Source: botocore's text of RuleCondition and its configs; ALB guide, "Rule conditions".

Regular expressions (RegexValues) are not taken: a stranger's pattern in a backtracking engine could stop the proxy for
everybody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_network

from minicloud.balancer import limits
from minicloud.balancer.errors import invalid
from minicloud.balancer.model import Condition

HOST, PATH, HEADER = "host-header", "path-pattern", "http-header"
METHOD, QUERY, SOURCE = "http-request-method", "query-string", "source-ip"
FIELDS = (HOST, PATH, HEADER, METHOD, QUERY, SOURCE)
_ONCE = (HOST, PATH, METHOD, SOURCE)  # "each rule can optionally include up to one of each"
_HOST = re.compile(r"[A-Za-z0-9*?-]*(?:\.[A-Za-z0-9*?-]*)*\.[A-Za-z*?]+\Z")
_PATH = re.compile(r"[A-Za-z0-9_.$/~\"'@:+&*?\\%=,!;()-]+\Z")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+\Z")  # AWS: RFC 7230's tokens; nobody's headers are named with "!" or "|"
_METHOD = re.compile(r"[A-Z_-]+\Z")
_CIDR = re.compile(r"[0-9A-Fa-f.:]+/[0-9]{1,3}\Z")


def checked(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Raises ValidationError."""
    if not conditions:
        raise invalid("A rule must have at least one condition", "conditions")
    fields = [one.field for one in conditions]
    for field in _ONCE:
        if fields.count(field) > 1:
            raise invalid(f"Rule cannot have more than one '{field}' condition", "conditions")
    values = [value for one in conditions for value in one.values]
    if len(values) > limits.CONDITION_VALUES_MAX:
        raise invalid(f"A rule can only have '{limits.CONDITION_VALUES_MAX}' condition values", "conditions")
    if sum(len(re.findall(r"(?<!\\)[*?]", value)) for value in values) > limits.WILDCARDS_MAX:
        raise invalid(f"A rule can only have '{limits.WILDCARDS_MAX}' condition wildcards", "conditions")
    for one in conditions:
        _check(one)
    return tuple(conditions)


def _check(condition: Condition) -> None:
    field = condition.field
    if field not in FIELDS:
        raise invalid(f"Condition field '{field[:64]}' must be one of '[{', '.join(FIELDS)}]'", "conditions")
    if not condition.values:
        raise invalid(f"A condition value must be specified for '{field}'", "conditions")
    if bool(condition.header) != (field == HEADER):
        raise invalid("A header name belongs to an 'http-header' condition", "conditions")
    if field == HEADER:
        _check_header(condition.header)
    for value in condition.values:
        if not 1 <= len(value) <= limits.CONDITION_CHARS_MAX or not value.isascii() or not value.isprintable():
            most = limits.CONDITION_CHARS_MAX
            raise invalid(f"Condition value '{value[:most]}' must have 1 to {most} printable characters", "conditions")
        _CHECKS[field](value)


def _check_header(name: str) -> None:
    if len(name) > limits.HEADER_NAME_CHARS_MAX or not _TOKEN.match(name):
        raise invalid(f"HTTP header name '{name[:64]}' is not valid", "conditions")
    if name.lower() == "host":
        raise invalid("The host header must be matched by a 'host-header' condition", "conditions")


def _check_host(value: str) -> None:
    if not _HOST.match(value):
        raise invalid(f"Condition value '{value}' contains a character that is not valid", "conditions")


def _check_path(value: str) -> None:
    if not _PATH.match(value):
        raise invalid(f"Condition value '{value}' contains a character that is not valid", "conditions")


def _check_method(value: str) -> None:
    if len(value) > limits.METHOD_CHARS_MAX or not _METHOD.match(value):
        raise invalid(f"HTTP request method '{value[:64]}' is not valid", "conditions")


def _check_query(value: str) -> None:
    if "=" not in value:
        raise invalid(f"A query string value is 'key=value' or '=value', not '{value}'", "conditions")
    if "&" in value or "#" in value or " " in value:
        raise invalid(f"Condition value '{value}' contains a character that is not valid", "conditions")


def _check_source(value: str) -> None:
    try:
        if not _CIDR.match(value):
            raise ValueError
        ip_network(value)
    except ValueError:
        raise invalid(f"Condition value '{value}' is not a valid CIDR block", "conditions") from None


_CHECKS = {
    HOST: _check_host,
    PATH: _check_path,
    HEADER: lambda _value: None,
    METHOD: _check_method,
    QUERY: _check_query,
    SOURCE: _check_source,
}


def pattern(value: str, any_char: str = ".") -> str:
    """The regular expression of a value with AWS's wildcards: `*` any run, `?` one character, `\\` takes their meaning.

    `any_char`: what a wildcard stands for.
    """
    parts = []
    escaped = False
    for char in value:
        if escaped or char not in "*?\\":
            parts.append(_literal(char))
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            parts.append(f"{any_char}*" if char == "*" else any_char)
    return "".join(parts)


def _literal(char: str) -> str:
    return char if char.isalnum() or char in "_-/" else "\\" + char


def is_plain(value: str) -> bool:
    return not any(char in value for char in "*?\\")
