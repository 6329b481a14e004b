"""Function URLs: from a request of HTTP to the event that a function is given, and from its result to the answer.

Source: guide, "Invoking Lambda function URLs" (payload format 2.0) and "Configuring CORS". A result that is an object
with a statusCode says what is answered; any other is the body, as JSON. A streamed answer may begin with such an object
and eight zero bytes, where its content type says so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from minicloud.function.model import Cors, Url

JSON_TYPE = "application/json"
PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
PRELUDE_END = bytes(8)
_TEXT = ("text/", "application/json", "application/javascript", "application/xml", "application/x-www-form-urlencoded")
HELD_BACK = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "trailer", "te"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `path`, `query`: as sent. `headers`: names in lower case. `account`: who signed it, '' nobody."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str
    account: str = ""


@dataclass(slots=True)
class Told:
    """An answer, its cookies among the headers."""

    status: int
    content_type: str
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)


def event(asked: Asked, url: Url, request_id: str, now: float) -> bytes:
    """The payload of the invocation."""
    headers = {name: value for name, value in asked.headers.items() if name != "cookie"}
    cookies = [one.strip() for one in asked.headers.get("cookie", "").split(";") if one.strip()]
    query: dict[str, str] = {}
    for name, value in parse_qsl(asked.query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    body, is_base64 = _body(asked)
    found: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": asked.path,
        "rawQueryString": asked.query,
        "headers": headers,
        "requestContext": _context(asked, url, request_id, now),
        "isBase64Encoded": is_base64,
    }
    if cookies:
        found["cookies"] = cookies
    if query:
        found["queryStringParameters"] = query
    if asked.body:
        found["body"] = body
    return json.dumps(found).encode()


def _body(asked: Asked) -> tuple[str, bool]:
    if asked.headers.get("content-type", "").lower().startswith(_TEXT):
        try:
            return asked.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(asked.body).decode(), True


def _context(asked: Asked, url: Url, request_id: str, now: float) -> dict[str, Any]:
    host = asked.headers.get("host", "")
    at = datetime.fromtimestamp(now, UTC)
    found: dict[str, Any] = {
        "accountId": asked.account or "anonymous",
        "apiId": url.id,
        "domainName": host,
        "domainPrefix": url.id,
        "http": {
            "method": asked.method,
            "path": asked.path,
            "protocol": "HTTP/1.1",
            "sourceIp": asked.headers.get("x-forwarded-for", asked.peer).rpartition(",")[2].strip(),
            "userAgent": asked.headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(now * 1000),
    }
    if asked.account:
        found["authorizer"] = {"iam": {"accountId": asked.account}}
    return found


def told(payload: bytes) -> Told:
    """What a function's result means."""
    try:
        result = json.loads(payload) if payload else None
    except (ValueError, RecursionError):
        return Told(200, "application/octet-stream", payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        return Told(200, JSON_TYPE, payload)
    return _by_result(result)


def _by_result(result: Mapping[str, Any]) -> Told:
    status = result.get("statusCode")
    text = result.get("body", "")
    text = text if isinstance(text, str) else json.dumps(text)
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        return broken()
    try:
        body = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
    except ValueError:
        return broken()
    content_type, headers = _headers(result)
    return Told(status, content_type or JSON_TYPE, body, headers)


def _headers(result: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The content type ('' for none), and what else may be passed on."""
    content_type, headers = "", []
    given = result.get("headers")
    for name, value in given.items() if isinstance(given, dict) else ():
        text = value if isinstance(value, str) else json.dumps(value)
        if not is_field(str(name), text):
            continue
        if name.lower() == "content-type":
            content_type = text
        else:
            headers.append((name, text))
    cookies = result.get("cookies")
    headers += [("Set-Cookie", one) for one in cookies if is_field("c", one)] if isinstance(cookies, list) else []
    return content_type, headers


def is_field(name: str, value: object) -> bool:
    if not isinstance(value, str) or name.lower() in HELD_BACK:
        return False
    clean = value.isprintable() and name.isascii() and value.isascii()
    return clean and bool(name) and all(char.isalnum() or char in "-_.!#$%&'*+^`|~" for char in name)


def prelude(head: bytes) -> Told | None:
    """Of a streamed answer: None where the object does not say how it is answered."""
    try:
        result = json.loads(head)
    except ValueError:
        return None
    return _by_result({"statusCode": 200, **result, "body": ""}) if isinstance(result, dict) else None


def refusal(status: int, message: str) -> Told:
    return Told(status, JSON_TYPE, json.dumps({"Message": message}).encode())


def broken() -> Told:
    """The function failed, or its result cannot be answered."""
    return Told(502, "text/plain", b"Internal Server Error")


# --- CORS


def is_preflight(asked: Asked) -> bool:
    return asked.method == "OPTIONS" and "origin" in asked.headers and "access-control-request-method" in asked.headers


def cors_headers(cors: Cors, asked: Asked) -> list[tuple[str, str]]:
    """Of an answer to this origin; none where it is not allowed."""
    origin = asked.headers.get("origin", "")
    if not origin or not ({"*", origin} & set(cors.origins)):
        return []
    wide = "*" in cors.origins and not cors.credentials
    found = [("Access-Control-Allow-Origin", "*" if wide else origin)] + ([] if wide else [("Vary", "Origin")])
    if cors.credentials:
        found.append(("Access-Control-Allow-Credentials", "true"))
    if is_preflight(asked):
        lists = (("Allow-Methods", cors.methods), ("Allow-Headers", cors.headers))
        found += [("Access-Control-Max-Age", str(cors.max_age_s))] if cors.max_age_s else []
    else:
        lists = (("Expose-Headers", cors.expose),)  # type: ignore[assignment]
    return found + [(f"Access-Control-{name}", ",".join(values)) for name, values in lists if values]
