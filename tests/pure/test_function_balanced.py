"""Functions behind load balancers: events out of requests, answers out of results."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.function.balanced import UNTYPED, Repeated, event, page, told
from minicloud.function.web import Asked

GROUP = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/f/0123456789abcdef"


def asked(
    query: str = "", body: bytes = b"", repeated: Repeated | None = None, multi: bool = False, **more: str
) -> Any:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    headers |= {name: ",".join(values) for name, values in (repeated or {}).items()}
    request = Asked("POST", "/a%20b", query, headers, body, "127.0.0.1")
    return json.loads(event(request, repeated or {}, GROUP, multi))


def answered(multi: bool = False, **result: Any) -> Any:
    return told(json.dumps(result).encode(), multi)


def test_the_event_is_awss() -> None:
    assert asked("a=%20b&c", b"hi", accept="*/*", content_type="text/plain") == {
        "requestContext": {"elb": {"targetGroupArn": GROUP}},
        "httpMethod": "POST",
        "path": "/a%20b",
        "queryStringParameters": {"a": "%20b", "c": ""},
        "headers": {"accept": "*/*", "content-type": "text/plain"},
        "body": "hi",
        "isBase64Encoded": False,
    }
    assert (asked()["queryStringParameters"], asked()["body"], asked()["isBase64Encoded"]) == ({}, "", False)


def test_what_comes_more_than_once_is_the_last_or_all_of_it() -> None:
    twice = {"x-a": ["1", "2,3"]}
    one = asked("k=1&k=2&l=3", repeated=twice, host="h")
    assert one["headers"] == {"host": "h", "x-a": "2,3"} and one["queryStringParameters"] == {"k": "2", "l": "3"}
    each = asked("k=1&k=2&l=3", repeated=twice, multi=True, host="h")
    assert each["multiValueHeaders"] == {"host": ["h"], "x-a": ["1", "2,3"]}
    assert each["multiValueQueryStringParameters"] == {"k": ["1", "2"], "l": ["3"]}
    assert "headers" not in each and "queryStringParameters" not in each


@pytest.mark.parametrize(
    ("content_type", "encoding", "is_base64"),
    [
        ("text/html; charset=utf-8", "", False),
        ("Application/JSON", "", False),
        ("application/javascript", "", False),
        ("application/xml", "", False),
        ("application/x-www-form-urlencoded", "", True),
        ("image/png", "", True),
        ("", "", True),
        ("text/html", "gzip", True),
    ],
)
def test_bodies_are_text_where_they_say_so(content_type: str, encoding: str, is_base64: bool) -> None:
    named = {"content_type": content_type} if content_type else {}
    found = asked(body=b"{}", **named, **({"content_encoding": encoding} if encoding else {}))
    assert (found["body"], found["isBase64Encoded"]) == (("e30=", True) if is_base64 else ("{}", False))


def test_a_text_that_is_none_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        asked(body=b"\xff", content_type="text/plain")


def test_answers() -> None:
    whole = answered(
        statusCode=201, statusDescription="201 Created", isBase64Encoded=True, body="/wA=",
        headers={"Content-Type": "image/png", "X-A": "1", "Connection": "close", "Content-Length": "9"},
    )  # fmt: skip
    assert (whole.status, whole.content_type, whole.body) == (201, "image/png", b"\xff\0")
    assert whole.headers == [("X-A", "1")]
    bare = answered(statusCode=200)
    assert (bare.content_type, bare.body, bare.headers) == (UNTYPED, b"", [])
    assert answered(statusCode=204, body="x").body == b"", "204 has no body"
    many = answered(True, statusCode=200, body="ü", multiValueHeaders={"Set-Cookie": ["a=1", "b=2"], "X": []})
    assert many.headers == [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")] and many.body == "ü".encode()
    assert answered(True, statusCode=200, headers={"X": "1"}).headers == [], "the other form is not looked at"


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"statusCode": "200"},
        {"statusCode": True},
        {"statusCode": 199},
        {"statusCode": 600},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "body": "???", "isBase64Encoded": True},
        {"statusCode": 200, "isBase64Encoded": "no"},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"X": 1}},
        {"statusCode": 200, "headers": {"X": "a\r\nB: c"}},
        {"statusCode": 200, "headers": {"X y": "a"}},
        {"statusCode": 200, "headers": {"X": "a"}, "multi": True, "multiValueHeaders": {"X": "a"}},
    ],
)
def test_results_that_cannot_be_answered(result: dict[str, Any]) -> None:
    assert answered(result.pop("multi", False), **result) is None


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"x"', b"{", b"[" * 100_000])
def test_results_that_are_none(payload: bytes) -> None:
    assert told(payload, False) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "a\r\nb: c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
RESULTS = st.fixed_dictionaries(
    {"statusCode": st.integers(190, 610) | JSON},
    optional={"body": JSON, "isBase64Encoded": JSON, "headers": JSON, "multiValueHeaders": JSON},
)


@settings(max_examples=400, deadline=None)
@given(RESULTS | JSON, st.booleans())
def test_whatever_a_function_says_is_an_answer_or_none(result: Any, multi: bool) -> None:
    found = told(json.dumps(result).encode(), multi)
    if found is not None:
        assert 200 <= found.status <= 599 and isinstance(found.body, bytes)
        head = [("content-type", found.content_type), *found.headers]
        assert all(name.isascii() and value.isascii() and value.isprintable() for name, value in head)


def test_a_page_of_the_balancers_own() -> None:
    assert (page(502).status, page(502).content_type) == (502, "text/html") and b"502 Bad Gateway" in page(502).body
