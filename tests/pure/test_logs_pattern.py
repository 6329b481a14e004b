"""Filter patterns: what the guide's examples match, and what is no pattern."""

from __future__ import annotations

import json

import pytest

from minicloud.base.errors import InvalidParameterValue
from minicloud.logs.pattern import compiled

EVENT = json.dumps(
    {
        "eventType": "UpdateTrail",
        "sourceIPAddress": "111.111.111.111",
        "arrayKey": ["value", "another value"],
        "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
        "SomeObject": None,
        "flag": True,
        "cluster.name": "c",
        "user": {"id": 7, "email": "John.Stiles@example.com"},
        "latency": "12.5",
    }
)
LINE = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "message", "matches"),
    [
        ("", "anything", True),
        ("ERROR", "[ERROR 400] BAD REQUEST", True),
        ("error", "[ERROR 400] BAD REQUEST", False),
        ("ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", True),
        ("ERROR ARGUMENTS", "[ERROR 401] UNAUTHORIZED", False),
        ('"INTERNAL SERVER ERROR"', "[ERROR 500] INTERNAL SERVER ERROR", True),
        ('"INTERNAL SERVER ERROR"', "INTERNAL ERROR SERVER", False),
        ("?ERROR ?ARGUMENTS", "MISSING ARGUMENTS", True),
        ("?ERROR ?ARGUMENTS", "fine", False),
        ("?ERROR ?ARGUMENTS REQUEST", "BAD REQUEST", True),
        ("ERROR -ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", False),
        ("-ARGUMENTS", "anything else", True),
        ('-"a b"', "x a b x", False),
        (r'"say \"hi\""', 'they say "hi" here', True),
        ("%ERR[0-9]{2}%", "xx ERR42", True),
        ("%ERR[0-9]{2}%", "xx ERR4", False),
        ("caf\u00e9", "un caf\u00e9", True),
        ('{ $.eventType = "UpdateTrail" }', EVENT, True),
        ('{ $.eventType = "Update*" }', EVENT, True),
        ('{ $.eventType != "UpdateTrail" }', EVENT, False),
        ("{ $.sourceIPAddress != 123.123.* }", EVENT, True),
        ('{ $.arrayKey[0] = "value" }', EVENT, True),
        ("{ $.arrayKey[5] = value }", EVENT, False),
        ("{ $.objectList[1].id = 2 }", EVENT, True),
        ("{ $.objectList[1].id >= 3 }", EVENT, False),
        ("{ $.SomeObject IS NULL }", EVENT, True),
        ("{ $.SomeOtherObject NOT EXISTS }", EVENT, True),
        ("{ $.SomeObject NOT EXISTS }", EVENT, False),
        ("{ $.flag IS TRUE }", EVENT, True),
        ("{ $.flag IS FALSE }", EVENT, False),
        ('{ $.["cluster.name"] = "c" }', EVENT, False),
        ('{ $["cluster.name"] = "c" }', EVENT, True),
        ("{ $.latency > 12 }", EVENT, True),
        ("{ $.user.email = %stiles@% }", EVENT, False),
        ("{ $.user.email = %[Ss]tiles@% }", EVENT, True),
        ("{ ($.user.id = 1 || $.user.id = 7) && $.flag IS TRUE }", EVENT, True),
        ("{ $.user.id = 1 || $.user.id = 7 && $.flag IS FALSE }", EVENT, False),
        ("{ $.user.id = 7 }", "no json at all", False),
        ("{ $.user.id = 7 }", '"a string"', False),
        ("[ip, user, username, timestamp, request, status_code, bytes]", LINE, True),
        ("[ip, user, username]", LINE, False),
        ("[ip, ..., status_code = 4*, bytes > 1000]", LINE, True),
        ("[ip, ..., status_code = 2*, bytes]", LINE, False),
        ('[..., request = "*html*", status_code, bytes]', LINE, True),
        ("[ip != 127.0.0.1, ...]", LINE, False),
        ("[..., status_code = 404 || status_code = 410, bytes]", LINE, True),
    ],
)
def test_what_a_pattern_matches(pattern: str, message: str, matches: bool) -> None:
    if pattern == '{ $.["cluster.name"] = "c" }':
        with pytest.raises(InvalidParameterValue):
            compiled(pattern)
        return
    assert compiled(pattern)(message) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.a = 1", "{ }", "{ $.a }", "{ $.a = }", "{ a = 1 }", "{ $.a > text }", "{ $.a IS x }", "{ $.a NOT x }",
        "{ $.a = 1 && }", "{ ($.a = 1 }", "{ $.a = 1 $.b = 2 }", "[a, b", "[..., ...]", "[]" + "x" * 2_000,
        "[= 5]", "[a = 1 && a = 2 || a = 3]", "[a = ]", "%(a+)+b%", "%a**%", "%a*b*c*d*e*f*%", "%[%",
        "{ " + "(" * 50 + "$.a = 1" + ")" * 50 + " }",
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused_as_cloudwatch_logs_does(pattern: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        compiled(pattern)
    assert caught.value.code == "InvalidParameterException" and "filter pattern" in caught.value.message
