"""Metric math: the guide's tables, a plain twin on random expressions, errors with their position."""

from __future__ import annotations

import math
import operator as op
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minicloud.base.errors import CloudError
from minicloud.metric.arithmetic import Line, Value, World, evaluate
from minicloud.metric.expression import parse
from minicloud.metric.query import Query, StatisticsQuery, get_data, get_statistics, plan
from tests.pure.metric_world import NOW, datum, metric
from tests.pure.metric_world import World as Cloud

_ = math.nan


def line(*values: float, id: str = "") -> Line:
    return Line(np.array(values, np.float64), id, id, 60 if id else 0)


def world(**lines: list[float]) -> World:
    known = {name: line(*values, id=name) for name, values in lines.items()}
    count = len(next(iter(lines.values()))) if lines else 3
    return World(known, list(known.values()), 60, count)


def shown(value: Value) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Line):
        return [None if np.isnan(one) else float(one) for one in value.values]
    return [shown(one) for one in value]


def run(text: str, **lines: list[float]) -> Any:
    return shown(evaluate(parse(text), world(**lines)))


# guide, "Comparison and logical operators" and "Using IF expressions"
@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("metric1 < metric2", [0, 0, 1, 0]),
        ("metric1 >= 30", [1, 0, 0, 0]),
        ("metric1 > 15 AND metric2 > 15", [1, 0, 0, 0]),
        ("metric1 > 15 && metric2 > 15", [1, 0, 0, 0]),
        ("metric1 > 25 OR metric2 > 15", [1, 0, 1, 0]),
    ],
)
def test_comparison_of_the_guide(text: str, result: list[float]) -> None:
    assert run(text, metric1=[30, 20, 0, 0], metric2=[20, _, 20, _]) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("IF(metric1, metric2, metric3)", [30, 0, 20, None, None]),
        ("IF(metric1, 5, metric3)", [5, 5, 20, None, None]),
        ("IF(metric1, metric2, 5)", [30, 0, 5, 5, None]),
        ("IF(metric1, metric2)", [30, 0, None, None, None]),
        ("IF(1, metric2, metric3)", [30, None, 0, 0, 30]),
        ("IF(0, metric2, metric3)", [0, 0, 20, None, 20]),
        ("IF(0, metric2)", [None] * 5),
        ("IF(MAX(metric1 / 0), metric2)", [None] * 5),
        ("IF(metric2 < 10, 1, 2)", [2, None, 1, 1, 2]),
    ],
)
def test_if_of_the_guide(text: str, result: list[float | None]) -> None:
    assert run(text, metric1=[1, 1, 0, 0, _], metric2=[30, _, 0, 0, 30], metric3=[0, 0, 20, _, 20]) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("m1 + m2", [11, 2, 20, None]),
        ("m1 - 1", [0, 1, None, None]),
        ("-m1", [-1, -2, None, None]),
        ("-5*m1", [-5, -10, None, None]),
        ("m1 / m2", [0.1, None, 0, None]),
        ("10 / m1", [10, 5, None, None]),
        ("m1 ^ 2", [1, 4, None, None]),
        ("2 ^ m1 ^ 2", [2, 16, None, None]),
        ("m2 ^ 400", [None, None, None, None]),
        ("SUM(m1)", 3),
        ("AVG(m1)", 1.5),
        ("MIN(m2)", 10),
        ("MAX(m2)", 20),
        ("STDDEV(m2)", 5),
        ("DATAPOINT_COUNT(m1)", 2),
        ("SUM(METRICS())", [11, 2, 20, None]),
        ("AVG([m1, m2])", [5.5, 1, 10, None]),
        ("MIN([m1, m2])", [1, 2, 20, None]),
        ("MAX([m1, m2])", [10, 2, 20, None]),
        ("DATAPOINT_COUNT([m1, m2])", [2, 1, 1, None]),
        ('SUM(METRICS("m1"))', [1, 2, None, None]),
        ("SUM([METRICS('1'), METRICS('2')])", [11, 2, 20, None]),
        ("METRIC_COUNT(METRICS())", 2),
        ("METRICS() * 100", [[100, 200, None, None], [1000, None, 2000, None]]),
        ("SUM(100/[m1, m2])", [110, 50, 5, None]),
        ("SUM(-[m1, m2])", [-11, -2, -20, None]),
        ("m1 / PERIOD(m1)", [1 / 60, 2 / 60, None, None]),
        ("m1 - AVG(m1)", [-0.5, 0.5, None, None]),
        ("FILL(m1, 7)", [1, 2, 7, 7]),
        ("FILL(m1, REPEAT)", [1, 2, 2, 2]),
        ("FILL(m2, LINEAR)", [10, 15, 20, None]),
        ("FILL(m1, m2)", [1, 2, 20, None]),
        ("FILL(METRICS(), 0)", [[1, 2, 0, 0], [10, 0, 20, 0]]),
        ("FILL(m2, MIN(m2))", [10, 10, 20, 10]),
        ("RATE(m2)", [None, None, 10 / 120, None]),
        ("DIFF(m1)", [None, 1, None, None]),
        ("DIFF(m2)", [None, None, 10, None]),
        ("DIFF_TIME(m2)", [None, None, 120, None]),
        ("RUNNING_SUM(m2)", [10, None, 30, None]),
        ("ABS(0 - m1)", [1, 2, None, None]),
        ("CEIL(m1 / 4)", [1, 1, None, None]),
        ("FLOOR(m1 / 4)", [0, 0, None, None]),
        ("LOG10(m2)", [1, None, pytest.approx(math.log10(20)), None]),
        ("LOG(m1 - 1)", [None, 0, None, None]),
        ("TIME_SERIES(3)", [3, 3, 3, 3]),
        ("FIRST([m2, m1])", [10, None, 20, None]),
        ("LAST([m2, m1])", [1, 2, None, None]),
        ("REMOVE_EMPTY([m1, m1 / 0])", [[1, 2, None, None]]),
        ("1 + 2 * 3 == 7", 1),
        ("(1 + 2) * 3 != 9 || 0", 0),
        ("1 - 1 - 1", -1),
        ("8 / 2 / 2", 2),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("1.5e2 + .5", 150.5),
    ],
)
def test_what_expressions_mean(text: str, result: Any) -> None:
    assert run(text, m1=[1, 2, _, _], m2=[10, _, 20, _]) == result


# what, position
@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 0),
        ("m1 +", 4),
        ("m1 m2", 3),
        ("(m1", 3),
        ("m1)", 2),
        ("[m1, ]", 5),
        ("m1 $ 2", 3),
        ("FOO(m1)", 0),
        ("Foo", 0),
        ("m1 + SUM()", 5),
        ("SUM(m1, m2)", 0),
        ("1 < 2 < 3", 6),
        ("'text' + 1", 0),
        ("m9", 0),
        ("1 + SUM(2)", 4),
        ("[1]", 0),
        ("[m1] + [m1]", 5),
        ("PERIOD(m1 + 1)", 0),
        ("METRICS(m1)", 0),
        ("TIME_SERIES(m1)", 0),
        ("FIRST(m1)", 0),
        ("IF([m1], 1, 2)", 0),
        ("FILL(3, 1)", 0),
        ("FILL(m1, [m1])", 0),
        ("2 * ABS(1)", 4),
    ],
)
def test_errors_say_where(text: str, at: int) -> None:
    with pytest.raises(CloudError) as caught:
        run(text, m1=[1])
    assert caught.value.code == "ValidationError"
    assert caught.value.details == {"position": str(at)}, caught.value.message


@pytest.mark.parametrize(
    "text",
    ["SEARCH('{AWS/EC2} CPU', 'Average')", "ANOMALY_DETECTION_BAND(m1)", "INSIGHT_RULE_METRIC('r', 'x')", "SORT(m1)"],
)
def test_functions_that_are_not_here_are_refused_by_name(text: str) -> None:
    with pytest.raises(CloudError) as caught:
        parse(text)
    assert caught.value.code == "UnsupportedOperation"
    assert text.split("(")[0] in caught.value.message


def test_deep_and_long_expressions() -> None:
    with pytest.raises(CloudError, match="levels deep"):
        parse("(" * 60 + "1" + ")" * 60)
    with pytest.raises(CloudError, match="levels deep"):
        parse("-" * 60 + "1")
    with pytest.raises(CloudError, match="levels deep"):
        parse("2^" * 60 + "1")
    with pytest.raises(CloudError, match="characters"):
        parse("1+" * 2_000 + "1")
    assert run("+".join(["m1"] * 600), m1=[1, 2]) == [600, 1200]


leaves = st.sampled_from(["m1", "m2", "2", "0.5", "0"])
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "<", ">=", "==", "AND", "OR"]), inner).map(
            lambda parts: "(" + " ".join(parts) + ")"
        ),
        inner.map(lambda one: f"(-{one})"),
    ),
    max_leaves=8,
)
points = st.lists(st.sampled_from([_, 0.0, 1.0, -3.0, 2.5]), min_size=3, max_size=3)


@settings(max_examples=200, deadline=None)
@given(trees, points, points)
@example("(2 < (2 / 0))", [1.0] * 3, [1.0] * 3)
def test_the_same_point_by_point(text: str, m1: list[float], m2: list[float]) -> None:
    """A twin that computes each point with Python's own arithmetic, None being missing."""
    got = run(text, m1=m1, m2=m2)
    for at in range(3):
        expected = plain(text, {"m1": m1[at], "m2": m2[at]})
        one = got[at] if isinstance(got, list) else got
        assert (one is None) == (expected is None), (text, at, got, expected)
        assert one is None or one == pytest.approx(expected)


class Point:
    """One point of a line (or a number) under the rules of the guide."""

    def __init__(self, value: float | None, line: bool) -> None:
        self.value, self.line = value, line

    def with_(self, other: Any, rule: Any) -> Point:
        other = other if isinstance(other, Point) else Point(float(other), False)
        one, two, both = self.value, other.value, self.line and other.line
        if both and (one is not None or two is not None):
            one, two = one or 0.0, two or 0.0
        if one is None or two is None:
            return Point(None, self.line or other.line)
        try:
            return Point(float(rule(one, two)), self.line or other.line)
        except ZeroDivisionError:
            return Point(None, self.line or other.line)


def plain(text: str, values: dict[str, float]) -> float | None:
    known = {name: Point(None if math.isnan(value) else value, True) for name, value in values.items()}
    rules = {
        "+": op.add,
        "-": op.sub,
        "*": op.mul,
        "/": op.truediv,
        "<": op.lt,
        ">=": op.ge,
        "==": op.eq,
        "AND": lambda one, two: bool(one) and bool(two),
        "OR": lambda one, two: bool(one) or bool(two),
    }
    stack: list[Any] = []
    for token in text.replace("(", " ( ").replace(")", " ) ").replace("(  -", "( neg").replace("( -", "( neg ").split():
        if token != ")":
            stack.append(token)
            continue
        inner: list[Any] = []
        while stack[-1] != "(":
            inner.insert(0, stack.pop())
        stack.pop()
        terms = [one if one in rules or one == "neg" else _point(one, known) for one in inner]
        if terms[0] == "neg":
            stack.append(terms[1].with_(-1.0, op.mul))
        elif len(terms) == 1:
            stack.append(terms[0])
        else:
            stack.append(terms[0].with_(terms[2], rules[terms[1]]))
    return _point(stack[0], known).value


def _point(one: Any, known: dict[str, Point]) -> Point:
    if isinstance(one, Point):
        return one
    return known[one] if one in known else Point(float(one), False)


# --- queries


def cloud() -> Cloud:
    made = Cloud()
    start = int(NOW) // 300 * 300
    made.put(datum("errors", start, 1.0), datum("errors", start + 60, 3.0), datum("requests", start, 10.0, 30.0))
    return made


ERRORS = Query("e", metric("errors"), "Sum", 60, returned=False)
REQUESTS = Query("r", metric("requests"), "Sum", 60, returned=False)


def test_queries_may_refer_to_each_other_in_any_order() -> None:
    made, start = cloud(), int(NOW) // 300 * 300
    queries = [
        Query("x", expression="100 * rate", label="percent"),
        Query("rate", expression="e / r"),
        ERRORS,
        REQUESTS,
    ]
    results = get_data(made.store, queries, start, start + 120, NOW, newest_first=False)
    assert [(one.id, one.label, one.times, one.values) for one in results] == [
        ("x", "percent", [start], [2.5]),
        ("rate", "rate", [start], [0.025]),
    ]
    [both] = get_data(made.store, [Query("e", metric("errors"), "Sum", 60)], start, start + 120, NOW)
    assert both.times == [start + 60, start]
    assert both.values == [3.0, 1.0]
    many = get_data(made.store, [ERRORS, REQUESTS, Query("all", expression="METRICS()")], start, start + 120, NOW)
    assert [one.label for one in many] == ["errors", "requests"]


@pytest.mark.parametrize(
    ("queries", "text"),
    [
        ([], "required"),
        ([Query("E", metric("m"), "Sum", 60)], "small letter"),
        ([Query("e", metric("m"), "Sum", 60), Query("e", metric("m"), "Sum", 60)], "not unique"),
        ([ERRORS], "ReturnData"),
        ([Query("e")], "either"),
        ([Query("e", metric("m"), "Sum", 61)], "multiple of 60"),
        ([Query("e", metric("m"), "Sum", 60), Query("f", metric("m"), "Sum", 300)], "same period"),
        ([Query("a", expression="b"), Query("b", expression="a")], "refer to each other"),
        ([Query("a", expression="a")], "refer to each other"),
        ([Query("a", expression="z")], "no id 'z'"),
        ([Query("a", metric("m"), "tm90", 60)], "not supported"),
    ],
)
def test_queries_that_are_refused(queries: list[Query], text: str) -> None:
    with pytest.raises(CloudError, match=text):
        plan(queries)


def test_what_is_not_returned_is_bounded_too() -> None:
    made = cloud()
    hidden = [Query(f"m{number}", metric("m"), "Sum", 1, returned=False) for number in range(20)]
    with pytest.raises(CloudError, match="1,110,000 datapoints together"):
        get_data(made.store, [*hidden[:-1], Query("a", metric("m"), "Sum", 1)], NOW - 55_500, NOW, NOW)


def test_results_must_be_series_and_bounded() -> None:
    made = cloud()
    with pytest.raises(CloudError, match="dynamic label"):
        get_data(made.store, [Query("a", metric("m"), "Sum", 60, label="most: ${MAX}")], NOW - 60, NOW, NOW)
    with pytest.raises(CloudError, match="time series, not a number"):
        get_data(made.store, [ERRORS, Query("a", expression="SUM(e)")], NOW - 60, NOW, NOW)
    with pytest.raises(CloudError, match="must be less"):
        get_data(made.store, [Query("e", metric("m"), "Sum", 60)], NOW, NOW, NOW)
    with pytest.raises(CloudError, match="100,800"):
        get_data(made.store, [Query("e", metric("m"), "Sum", 1)], NOW - 2 * 86_400, NOW, NOW)


def test_statistics_of_a_metric() -> None:
    made, start = cloud(), int(NOW) // 300 * 300
    asked = StatisticsQuery(metric("requests"), ("Average", "Maximum", "p50"), 300, start, start + 300)
    [point] = get_statistics(made.store, asked, NOW)
    assert (point.time, point.unit) == (start, "None")
    assert point.values == {"Average": 20.0, "Maximum": 30.0, "p50": pytest.approx(10.0, rel=0.01)}
    with pytest.raises(CloudError) as caught:
        get_statistics(made.store, StatisticsQuery(metric("m"), ("Sum",), 60, start - 2 * 86_400, start), NOW)
    assert caught.value.code == "InvalidParameterCombination"
    assert "You have requested up to 2,880 datapoints, which exceeds the limit of 1,440." in caught.value.message
    with pytest.raises(CloudError) as caught:
        get_statistics(made.store, StatisticsQuery(metric("m"), (), 60, start, start + 60), NOW)
    assert caught.value.code == "MissingParameter"
