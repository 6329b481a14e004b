"""Metric math, the meaning: a tree over lines of numbers, all on the same periods. NaN is a missing value.

What is missing (guide, "Metric math syntax and functions"):

    line op line            missing on one side counts as 0, on both sides stays missing
    line op number          stays missing
    x / 0, LOG(0), 2^5000   the point is dropped
    AVG, SUM of lines       a line without a value counts as 0 where another line has one
    MIN, MAX, STDDEV of lines   of those that have a value
    AVG(line) and friends   of the values that are there: a number
    IF                      condition missing: dropped; true and value missing: 0; false and value missing: dropped
    RATE, DIFF              against the value before, however far back; the first is dropped
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minicloud.metric import errors
from minicloud.metric.expression import Array, Call, Chain, Name, Node, Number, Text
from minicloud.metric.sketch import Floats


@dataclass(frozen=True, slots=True)
class Line:
    """A time series. `id`: the metric's, "" for a result; `period`: its length in seconds (0 for a result)."""

    values: Floats
    id: str = ""
    label: str = ""
    period: int = 0


Value = float | Line | tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class World:
    """What an expression may refer to. `metrics`: those of the request, in its order; `step`, `count`: the periods."""

    lines: Mapping[str, Value]
    metrics: Sequence[Line]
    step: int
    count: int
    field: str = "Expression"


def evaluate(node: Node, world: World) -> Value:
    """Raises ValidationError where a function does not take what it is given."""
    with np.errstate(all="ignore"):
        return _value(node, world)


def _value(node: Node, world: World) -> Value:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        if node.id not in world.lines:
            raise _wrong(f"there is no id '{node.id}' in the request", node.at, world)
        return world.lines[node.id]
    if isinstance(node, Array):
        return _array(node, world)
    if isinstance(node, Text):
        raise _wrong("a text stands for no number", node.at, world)
    if isinstance(node, Chain):
        left = _value(node.first, world)
        for sign, right, at in node.rest:
            left = _operate(sign, left, _value(right, world), at, world)
        return left
    if node.name in _OPERATORS:
        one, two = (_value(argument, world) for argument in node.arguments)
        return _operate(node.name, one, two, node.at, world)
    return _call(node, world)


def _array(node: Array, world: World) -> Value:
    lines: list[Line] = []
    for item in node.items:
        value = _value(item, world)
        if isinstance(value, float):
            raise _wrong("an array holds time series, not numbers", node.at, world)
        lines += [value] if isinstance(value, Line) else value
    return tuple(lines)


# --- operators


def _divide(left: Floats, right: Floats) -> Floats:
    return np.where(right == 0, np.nan, left / right)


def _truth(found: np.typing.NDArray[np.bool_]) -> Floats:
    return found.astype(np.float64)


_OPERATORS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divide,
    "^": np.power,
    "==": lambda left, right: _truth(left == right),
    "!=": lambda left, right: _truth(left != right),
    "<": lambda left, right: _truth(left < right),
    ">": lambda left, right: _truth(left > right),
    "<=": lambda left, right: _truth(left <= right),
    ">=": lambda left, right: _truth(left >= right),
    "AND": lambda left, right: _truth((left != 0) & (right != 0)),
    "OR": lambda left, right: _truth((left != 0) | (right != 0)),
}


def _operate(sign: str, left: Value, right: Value, at: int, world: World) -> Value:
    if isinstance(left, tuple) and isinstance(right, tuple):
        raise _wrong(f"'{sign}' takes one array of time series at most", at, world)
    if isinstance(left, tuple):
        return tuple(_named(_operate(sign, one, right, at, world), one) for one in left)
    if isinstance(right, tuple):
        return tuple(_named(_operate(sign, left, one, at, world), one) for one in right)
    rule = _OPERATORS[sign]
    one, two = _values(left), _values(right)
    if isinstance(left, Line) and isinstance(right, Line):
        there = ~(np.isnan(one) & np.isnan(two))
        one, two = np.nan_to_num(one, nan=0.0), np.nan_to_num(two, nan=0.0)
    else:
        there = ~(np.isnan(one) | np.isnan(two))
    result = np.where(there, _finite(rule(one, two)), np.nan)
    return float(result[0]) if isinstance(left, float) and isinstance(right, float) else Line(result)


def _values(value: Value) -> Floats:
    return value.values if isinstance(value, Line) else np.array([value])


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _named(value: Value, source: Line) -> Line:
    """One line of a result that is an array keeps the name of what it came from."""
    assert isinstance(value, Line)
    return Line(value.values, source.id, source.label)


# --- functions


def _call(node: Call, world: World) -> Value:
    if node.name == "METRICS":
        return _metrics(node, world)
    if node.name == "FILL":
        return _fill(node, world)
    arguments = [_value(one, world) for one in node.arguments]
    if node.name == "IF":
        return _if(arguments, node, world)
    if node.name == "neg":
        return _operate("*", -1.0, arguments[0], node.at, world)
    given = arguments[0]
    if node.name in _OVER:
        return _over(node, given, world)
    if node.name in _EACH:
        return _each(node, given, world)
    return _special(node, given, world)


def _special(node: Call, given: Value, world: World) -> Value:
    if node.name == "TIME_SERIES":
        if not isinstance(given, float):
            raise _wrong("TIME_SERIES takes a number", node.at, world)
        return Line(np.full(world.count, given))
    if node.name == "PERIOD":
        if not isinstance(given, Line) or not given.period:
            raise _wrong("PERIOD takes a metric, no result of another expression", node.at, world)
        return float(given.period)
    if not isinstance(given, tuple):
        raise _wrong(f"{node.name} takes an array of time series", node.at, world)
    if node.name == "METRIC_COUNT":
        return float(len(given))
    if node.name == "REMOVE_EMPTY":
        return tuple(one for one in given if not np.isnan(one.values).all())
    if not given:
        raise _wrong(f"{node.name} takes an array that is not empty", node.at, world)
    return given[0 if node.name == "FIRST" else -1]


def _metrics(node: Call, world: World) -> Value:
    if not node.arguments:
        return tuple(world.metrics)
    [part] = node.arguments
    if not isinstance(part, Text):
        raise _wrong("METRICS takes a text in quotes", node.at, world)
    return tuple(line for line in world.metrics if part.value in line.id)


def _total(values: Floats) -> float:
    return float(np.nansum(values))


def _or_nan(rule: Callable[[Floats], float]) -> Callable[[Floats], float]:
    """Of no values there is neither mean nor extreme."""
    return lambda values: float(rule(values[~np.isnan(values)])) if not np.isnan(values).all() else math.nan


_Over = tuple[Callable[[Floats], float], Callable[[Floats], Floats]]
# name -> (of the values of one line, of the columns of many)
_OVER: dict[str, _Over] = {
    "SUM": (_total, lambda table: np.nansum(table, 0)),
    "AVG": (_or_nan(lambda values: float(values.mean())), lambda table: np.nansum(table, 0) / len(table)),
    "MIN": (_or_nan(lambda values: float(values.min())), lambda table: np.fmin.reduce(table, 0)),
    "MAX": (_or_nan(lambda values: float(values.max())), lambda table: np.fmax.reduce(table, 0)),
    "STDDEV": (_or_nan(lambda values: float(values.std())), lambda table: _deviation(table)),
    "DATAPOINT_COUNT": (
        lambda values: float((~np.isnan(values)).sum()),
        lambda table: (~np.isnan(table)).sum(0).astype(np.float64),
    ),
}


def _deviation(table: Floats) -> Floats:
    count = (~np.isnan(table)).sum(0)
    mean = np.nansum(table, 0) / count
    deviation: Floats = np.sqrt(np.nansum((table - mean) ** 2, 0) / count)
    return deviation


def _over(node: Call, given: Value, world: World) -> Value:
    of_line, of_many = _OVER[node.name]
    if isinstance(given, Line):
        return of_line(given.values)
    if isinstance(given, float):
        raise _wrong(f"{node.name} takes time series, not a number", node.at, world)
    if not given:
        return Line(np.full(world.count, np.nan))
    table = np.stack([line.values for line in given])
    empty = np.isnan(table).all(0)
    return Line(np.where(empty, np.nan, of_many(table)))


def _against_before(values: Floats, rule: Callable[[Floats, Floats], Floats]) -> Floats:
    """rule(difference, periods between) of each value and the one before it."""
    at = np.flatnonzero(~np.isnan(values))
    found = np.full(len(values), np.nan)
    found[at[1:]] = rule(np.diff(values[at]), np.diff(at).astype(np.float64))
    return found


def _running(values: Floats, step: int) -> Floats:
    sums: Floats = np.where(np.isnan(values), np.nan, np.nancumsum(values))
    return sums


_EACH: dict[str, Callable[[Floats, int], Floats]] = {
    "ABS": lambda values, step: np.abs(values),
    "CEIL": lambda values, step: np.ceil(values),
    "FLOOR": lambda values, step: np.floor(values),
    "LOG": lambda values, step: _finite(np.log(values)),
    "LOG10": lambda values, step: _finite(np.log10(values)),
    "DIFF": lambda values, step: _against_before(values, lambda change, gap: change),
    "DIFF_TIME": lambda values, step: _against_before(values, lambda change, gap: gap * step),
    "RATE": lambda values, step: _against_before(values, lambda change, gap: change / (gap * step)),
    "RUNNING_SUM": _running,
}


def _each(node: Call, given: Value, world: World) -> Value:
    rule = _EACH[node.name]
    if isinstance(given, float):
        raise _wrong(f"{node.name} takes time series, not a number", node.at, world)
    if isinstance(given, Line):
        return Line(rule(given.values, world.step))
    return tuple(Line(rule(line.values, world.step), line.id, line.label) for line in given)


def _if(arguments: list[Value], node: Call, world: World) -> Value:
    condition = arguments[0]
    if any(isinstance(one, tuple) for one in arguments):
        raise _wrong("IF takes time series and numbers, no arrays", node.at, world)
    yes = arguments[1]
    no = arguments[2] if len(arguments) > 2 else math.nan
    if isinstance(condition, float):
        chosen = math.nan if math.isnan(condition) else yes if condition != 0 else no
        if isinstance(chosen, float):
            return chosen if not math.isnan(chosen) else Line(np.full(world.count, np.nan))
        return Line(_values(chosen))
    known = ~np.isnan(_values(condition))
    true = _values(condition) != 0
    found = np.where(true, np.nan_to_num(_values(yes), nan=0.0), _values(no))
    return Line(np.where(known, found, np.nan))


def _fill(node: Call, world: World) -> Value:
    given, filler = _value(node.arguments[0], world), node.arguments[1]
    if isinstance(given, float):
        raise _wrong("FILL takes time series, not a number", node.at, world)
    if isinstance(filler, Name) and filler.id in ("REPEAT", "LINEAR"):
        rule = _repeat if filler.id == "REPEAT" else _linear
    else:
        value = _value(filler, world)
        if isinstance(value, tuple):
            raise _wrong("FILL fills with a number, a time series, REPEAT or LINEAR", node.at, world)

        def rule(values: Floats) -> Floats:
            return np.where(np.isnan(values), _values(value), values)

    if isinstance(given, Line):
        return Line(rule(given.values))
    return tuple(Line(rule(line.values), line.id, line.label) for line in given)


def _repeat(values: Floats) -> Floats:
    at = np.where(np.isnan(values), -1, np.arange(len(values)))
    last = np.maximum.accumulate(at)
    return np.where(last < 0, np.nan, values[np.maximum(last, 0)])


def _linear(values: Floats) -> Floats:
    at = np.flatnonzero(~np.isnan(values))
    if not len(at):
        return values
    everywhere = np.arange(len(values))
    inside = (everywhere >= at[0]) & (everywhere <= at[-1])
    return np.where(inside, np.interp(everywhere, at, values[at]), np.nan)


def _wrong(text: str, at: int, world: World) -> Exception:
    return errors.bad_expression(text, at, world.field)
