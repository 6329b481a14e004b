"""Event patterns: the EventBridge guide's examples as a table, refusals with AWS's texts."""

from __future__ import annotations

import json
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import CloudError
from minicloud.event.patterns import compile_pattern, event_of
from minicloud.shell.operators import EVENTS
from minicloud.shell.patterns import TooMuch, Whole, compile_object

# Guide, "Events": an EC2 instance's state change.
STOPPED: dict[str, Any] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "111122223333",
    "time": "2017-12-22T18:43:48Z",
    "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {"instance-id": "i-1234567890abcdef0", "state": "terminated"},
}


def of(**detail: Any) -> dict[str, Any]:
    return {**STOPPED, "detail": detail}


def detail(**conditions: Any) -> dict[str, Any]:
    return {"detail": conditions}


# Guide: "Event patterns", "Comparison operators".
EXAMPLES: list[tuple[Any, Any, bool]] = [
    ({"source": ["aws.ec2"]}, STOPPED, True),
    ({"source": ["aws.ec2", "aws.fargate"]}, STOPPED, True),
    ({"source": ["aws.s3"]}, STOPPED, False),
    ({"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]}, STOPPED, True),
    (
        {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance State-change Notification"],
            "detail": {"state": ["running", "terminated"]},
        },
        STOPPED,
        True,
    ),
    (detail(state=["running"]), STOPPED, False),
    ({"resources": [{"suffix": "i-1234567890abcdef0"}]}, STOPPED, True),
    ({"resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1"]}, STOPPED, False),
    ({"time": [{"prefix": "2017-12-22"}]}, STOPPED, True),
    ({"region": [{"prefix": "us-"}]}, STOPPED, True),
    (detail(service=[{"prefix": {"equals-ignore-case": "EventB"}}]), of(service="eventbridge"), True),
    (detail(service=[{"prefix": {"equals-ignore-case": "EventB"}}]), of(service="bridge"), False),
    (detail(FileName=[{"suffix": ".png"}]), of(FileName="a.png"), True),
    (detail(FileName=[{"suffix": {"equals-ignore-case": ".png"}}]), of(FileName="a.PNG"), True),
    (detail(FileName=[{"suffix": ".png"}]), of(FileName="a.PNG"), False),
    (detail(name=[{"equals-ignore-case": "alice"}]), of(name="ALICE"), True),
    (detail(EventBusArn=[{"wildcard": "*:bus/*"}]), of(EventBusArn="arn:x:bus/y"), True),
    (detail(FilePath=[{"wildcard": "dir/*.png"}]), of(FilePath="dir/sub/a.png"), True),
    (detail(FilePath=[{"wildcard": "dir/*.png"}]), of(FilePath="other/a.png"), False),
    (detail(state=[{"anything-but": "initializing"}]), of(state="running"), True),
    (detail(state=[{"anything-but": "initializing"}]), of(state="initializing"), False),
    (detail(state=[{"anything-but": ["stopped", "overloaded"]}]), of(state="overloaded"), False),
    (detail(limit=[{"anything-but": [100, 200, 300]}]), of(limit=150), True),
    (detail(limit=[{"anything-but": 123}]), of(limit=123), False),
    (detail(state=[{"anything-but": {"equals-ignore-case": "initializing"}}]), of(state="INITIALIZING"), False),
    (detail(state=[{"anything-but": {"equals-ignore-case": ["a", "b"]}}]), of(state="B"), False),
    (detail(state=[{"anything-but": {"prefix": "init"}}]), of(state="initializing"), False),
    (detail(state=[{"anything-but": {"prefix": ["init", "error"]}}]), of(state="running"), True),
    (detail(FileName=[{"anything-but": {"suffix": ".txt"}}]), of(FileName="a.txt"), False),
    (detail(FileName=[{"anything-but": {"suffix": [".txt", ".rtf"]}}]), of(FileName="a.jpg"), True),
    (detail(FilePath=[{"anything-but": {"wildcard": "*/lib/*"}}]), of(FilePath="a/lib/b"), False),
    (detail(FilePath=[{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}]), of(FilePath="a/src/b"), True),
    (detail(x=[{"numeric": [">", 0, "<=", 5]}]), of(x=5), True),
    (detail(x=[{"numeric": [">", 0, "<=", 5]}]), of(x=0), False),
    (detail(x=[{"numeric": ["<", 10]}]), of(x=9.5), True),
    (detail(x=[{"numeric": ["=", 3.018e2]}]), of(x=301.8), True),
    (detail(x=[{"numeric": ["=", 3.018e2]}]), of(x="301.8"), False),
    (detail(x=[{"numeric": [">", 4_999_999_998]}]), of(x=4_999_999_999), True),  # to 5 * 10^9, unlike topics
    (detail(x=[{"numeric": ["=", 0.000001]}]), of(x=0.000002), False),  # six digits
    (detail(x=[300]), of(x=300.0), True),
    (detail(ip=[{"cidr": "10.0.0.0/24"}]), of(ip="10.0.0.42"), True),
    (detail(ip=[{"cidr": "10.0.0.0/24"}]), of(ip="10.0.1.42"), False),
    (detail(state=[{"exists": True}]), of(state="x"), True),
    (detail(state=[{"exists": True}]), of(other="x"), False),
    (detail(state=[{"exists": True}]), of(state=None), True),
    (detail(state=[{"exists": True}]), of(state=""), True),
    (detail(state=[{"exists": False}]), of(other="x"), True),
    (detail(state=[{"exists": False}]), of(state=None), False),
    (detail(state=[None]), of(state=None), True),
    (detail(state=[""]), of(state=""), True),
    (detail(state=[""]), of(state=None), False),
    (detail(tags=["b"]), of(tags=["a", "b"]), True),
    (detail(tags=["b"]), of(tags=[]), False),
    (detail(a={"b": ["x"], "c": ["y"]}), of(a=[{"b": "x", "c": "n"}, {"b": "n", "c": "y"}]), False),
    (detail(a={"b": ["x"]}), of(a="x"), False),
    (detail(**{"$or": [{"c": [{"numeric": [">", 0]}]}, {"d": [{"numeric": ["<", 10]}]}]}), of(d=8), True),
    (detail(**{"$or": [{"c": [{"numeric": [">", 0]}]}, {"d": [{"numeric": ["<", 10]}]}]}), of(c=0, d=10), False),
    ({"$or": [{"source": ["aws.s3"]}, {"detail": {"state": ["terminated"]}}], "region": ["us-west-1"]}, STOPPED, True),
    ({"nothing": ["x"]}, STOPPED, False),
]


@pytest.mark.parametrize(("pattern", "event", "matches"), EXAMPLES)
def test_what_matches(pattern: Any, event: Any, matches: bool) -> None:
    assert compile_pattern(json.dumps(pattern))(event) is matches


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[]", "Filter is not an object"),
        ("{", "it is no JSON object"),
        ('{"a": [NaN]}', "it is no JSON object"),
        ("{}", "Empty objects are not allowed"),
        ('{"detail": {}}', "Empty objects are not allowed"),
        ('{"source": []}', "Empty arrays are not allowed"),
        ('{"source": "aws.ec2"}', '"source" must be an object or an array'),
        ('{"source": ["a"], "source": ["b"]}', "Path `source` cannot be allowed multiple times"),
        ('{"source": [["a"]]}', "Match value must be String, number, true, false, or null"),
        ('{"source": [{"like": "a"}]}', "Unrecognized match type like"),
        ('{"source": [{"prefix": "a", "suffix": "b"}]}', "Only one key allowed in match expression"),
        ('{"source": [{"prefix": 1}]}', "prefix match pattern must be a string"),
        ('{"source": [{"prefix": {"suffix": "a"}}]}', "Unsupported prefix pattern: suffix"),
        ('{"source": [{"wildcard": "a**b"}]}', "Consecutive wildcard characters at pos 2"),
        ('{"detail": {"x": [{"numeric": ["=", 6e9]}]}}', "Value must be between -5.0E9 and 5.0E9, inclusive"),
        ('{"detail": {"x": [{"numeric": [">", 5, "<", 1]}]}}', "Bottom must be less than top"),
        ('{"detail": {"x": [{"exists": "yes"}]}}', "exists match pattern must be either true or false."),
        ('{"detail": {"x": [{"cidr": "10.0.0.0"}]}}', "Malformed CIDR, one '/' required"),
        ('{"$or": [{"a": ["x"]}, {"b": []}]}', "Empty arrays are not allowed"),
        ('{"a":' * 5000 + "[1]" + "}" * 5000, "Value"),
    ],
)
def test_what_is_no_pattern(pattern: str, reason: str) -> None:
    with pytest.raises(CloudError) as caught:
        compile_pattern(pattern)
    code = "ValidationException" if reason == "Value" else "InvalidEventPatternException"
    assert (caught.value.code, reason in caught.value.message) == (code, True), caught.value
    assert reason == "Value" or caught.value.message.startswith("Event pattern is not valid. Reason: ")


def test_an_event_to_try_a_pattern_on_has_its_fields() -> None:
    assert event_of(json.dumps(STOPPED)) == STOPPED
    for text in ("", "[]", "{", json.dumps({name: value for name, value in STOPPED.items() if name != "time"})):
        with pytest.raises(CloudError, match=r"Parameter Event is not valid\.") as caught:
            event_of(text)
        assert caught.value.code == "ValidationException"


# --- what it costs


def test_absence_is_looked_for_once_however_many_elements_ask() -> None:
    check = compile_object({"a": {"b": [{"exists": False}], "c": [2]}}, dialect=EVENTS)
    many = 1_000
    whole = Whole({"a": [{"c": 1}] * many}, left=10 * many)
    assert not check(whole.body, whole) and whole.left > 0


@pytest.mark.parametrize(
    "pattern",
    [
        {"a": [{"numeric": ["<", -number]} for number in range(1, 9)]},
        {"$or": [{"a": [{"prefix": "x"}]} for _ in range(8)]},
        {"o": {"b": [{"prefix": str(number)} for number in range(8)]}},
    ],
)
def test_elements_of_lists_are_counted_with_the_conditions_on_them(pattern: dict[str, Any]) -> None:
    check = compile_object(pattern, dialect=EVENTS)
    body = {"a": [1] * 100, "o": [{"b": "x"}] * 100}
    assert not check(body, Whole(body, left=3_000))
    with pytest.raises(TooMuch):
        check(body, Whole(body, left=799))


TERMS = st.one_of(
    st.tuples(st.sampled_from(["<", "<=", "=", ">", ">="]), st.integers(-6, 6)),
    st.tuples(st.sampled_from([">", ">="]), st.integers(-6, 0), st.sampled_from(["<", "<="]), st.integers(1, 6)),
)
HOLDS = {"<": operator.lt, "<=": operator.le, "=": operator.eq, ">": operator.gt, ">=": operator.ge}


@given(st.lists(TERMS, min_size=1, max_size=5), st.integers(-60, 60), st.sampled_from([1.0, 0.1, 0.000_001]))
def test_many_ranges_are_the_same_as_one_after_the_other(
    terms: list[tuple[Any, ...]], number: int, unit: float
) -> None:
    leaf = number * unit
    matches = compile_pattern(json.dumps(detail(n=[{"numeric": list(one)} for one in terms])))
    expected = any(
        all(HOLDS[sign](round(leaf, 6), bound) for sign, bound in zip(one[::2], one[1::2], strict=True))
        for one in terms
    )
    assert matches(of(n=leaf)) is expected
