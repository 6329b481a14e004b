"""Functions behind load balancers: from a request to the event that a function is given, from its result to the answer.

Source: ALB guide, "Lambda functions as targets": headers and parameters as they were sent, names of headers in lower
case, the last value of one that came more than once or, where the target group says so, each; a body is text where its
content type says so and it is not encoded. Whatever a function does wrong is a 502.

Where we differ: statusDescription is not passed on (HTTP/2 has none); the names of a result's headers stay as they are.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from minicloud.function.web import HELD_BACK, Asked, Told, is_field

BYTES_MAX = 1024 * 1024  # ALB guide: of a request's body, and of the JSON of a response
UNTYPED = "application/octet-stream"
_TEXT = ("text/", "application/json", "application/javascript", "application/xml")
_BODILESS = (204, 304)
_PHRASES = {400: "Bad Request", 403: "Forbidden", 413: "Request Entity Too Large", 502: "Bad Gateway"}

Repeated = Mapping[str, list[str]]


def event(asked: Asked, repeated: Repeated, group: str, multi: bool) -> bytes:
    """The payload of the invocation. `repeated`: the values of headers that came more than once. Raises ValueError for
    a body that is to be text, and is none.
    """
    found: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": asked.method,
        "path": asked.path,
    }
    parameters = _parameters(asked.query)
    headers = {name: repeated.get(name, [value]) for name, value in asked.headers.items()}
    if multi:
        found["multiValueQueryStringParameters"] = parameters
        found["multiValueHeaders"] = headers
    else:
        found["queryStringParameters"] = {name: values[-1] for name, values in parameters.items()}
        found["headers"] = {name: values[-1] for name, values in headers.items()}
    text = not asked.body or _is_text(asked.headers)
    found["body"] = asked.body.decode() if text else base64.b64encode(asked.body).decode()
    found["isBase64Encoded"] = not text
    return json.dumps(found).encode()


def _parameters(query: str) -> dict[str, list[str]]:
    """Still quoted: the function undoes that."""
    found: dict[str, list[str]] = defaultdict(list)
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        found[name].append(value)
    return found


def _is_text(headers: Mapping[str, str]) -> bool:
    return "content-encoding" not in headers and headers.get("content-type", "").lower().startswith(_TEXT)


def told(payload: bytes, multi: bool) -> Told | None:
    """What a function's result says; None: it is none that can be answered."""
    try:
        result = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(result, dict) or not _has_form(result):
        return None
    try:
        text = result.get("body") or ""
        body = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
        headers = list(_headers(result, multi))
    except ValueError:
        return None
    types = [value for name, value in headers if name.lower() == "content-type"]
    rest = [(name, value) for name, value in headers if name.lower() != "content-type"]
    status: int = result["statusCode"]
    return Told(status, types[-1] if types else UNTYPED, b"" if status in _BODILESS else body, rest)


def _has_form(result: Mapping[str, Any]) -> bool:
    status, body = result.get("statusCode"), result.get("body")
    right = isinstance(status, int) and not isinstance(status, bool) and 200 <= status <= 599
    return right and isinstance(body, str | None) and isinstance(result.get("isBase64Encoded", False), bool)


def _headers(result: Mapping[str, Any], multi: bool) -> Iterator[tuple[str, str]]:
    """Those that may be passed on. Raises ValueError where one is not of its form."""
    given = result.get("multiValueHeaders" if multi else "headers") or {}
    if not isinstance(given, dict):
        raise ValueError("headers are an object")
    for name, value in given.items():
        values = value if multi else [value]
        if name.lower() in HELD_BACK:
            continue
        if not isinstance(values, list) or not all(is_field(name, one) for one in values):
            raise ValueError(f"the header {name} is not of its form")
        yield from ((name, one) for one in values)


def page(status: int) -> Told:
    """A load balancer's own answer."""
    title = f"{status} {_PHRASES[status]}"
    text = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return Told(status, "text/html", f"{text}</body>\r\n</html>\r\n".encode())
