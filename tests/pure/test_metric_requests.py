"""PutMetricData's checks, statistics' names: what is refused, with which code and of which field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minicloud.base.errors import CloudError
from minicloud.metric import limits
from minicloud.metric.requests import GivenDatum, Summary, check_period, check_put
from minicloud.metric.statistics import Statistic, parse

NOW = 1_700_000_000.0
PLAIN = GivenDatum("Load", {"Host": "a"}, value=1.0)
FIRST = "MetricData.member.1"


def refused(call: Any, *args: Any) -> tuple[str, str | None, str]:
    with pytest.raises(CloudError) as caught:
        call(*args)
    return caught.value.code, caught.value.field, caught.value.message


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"name": ""}, "MissingParameter", f"{FIRST}.MetricName"),
        ({"name": "x" * 256}, "InvalidParameterValue", f"{FIRST}.MetricName"),
        ({"name": "a\n"}, "InvalidParameterValue", f"{FIRST}.MetricName"),
        ({"dimensions": {f"d{n}": "v" for n in range(31)}}, "InvalidParameterValue", f"{FIRST}.Dimensions"),
        ({"dimensions": {":d": "v"}}, "InvalidParameterValue", f"{FIRST}.Dimensions.member.1.Name"),
        ({"dimensions": {"d": ""}}, "InvalidParameterValue", f"{FIRST}.Dimensions.member.1.Value"),
        ({"dimensions": {"d": "v" * 1025}}, "InvalidParameterValue", f"{FIRST}.Dimensions.member.1.Value"),
        ({"unit": "Furlongs"}, "InvalidParameterValue", f"{FIRST}.Unit"),
        ({"width": 30}, "InvalidParameterValue", f"{FIRST}.StorageResolution"),
        ({"timestamp": NOW - 14 * 86_400 - 1}, "InvalidParameterValue", f"{FIRST}.Timestamp"),
        ({"timestamp": NOW + 7_201}, "InvalidParameterValue", f"{FIRST}.Timestamp"),
        ({"value": float("nan")}, "InvalidParameterValue", f"{FIRST}.Value"),
        ({"value": float("inf")}, "InvalidParameterValue", f"{FIRST}.Value"),
        ({"value": -(2.0**361)}, "InvalidParameterValue", f"{FIRST}.Value"),
        ({"value": None}, "MissingParameter", f"{FIRST}.Value"),
        ({"values": (1.0,)}, "InvalidParameterCombination", f"{FIRST}.Values"),
        ({"summary": Summary(1, 1, 1, 1)}, "InvalidParameterCombination", f"{FIRST}.StatisticValues"),
        ({"value": None, "values": (1.0,) * 151}, "InvalidParameterValue", f"{FIRST}.Values"),
        ({"value": None, "values": (1.0,), "counts": (1.0, 2.0)}, "InvalidParameterValue", f"{FIRST}.Counts"),
        ({"value": None, "values": (1.0,), "counts": (0.0,)}, "InvalidParameterValue", f"{FIRST}.Counts"),
        ({"value": None, "counts": (1.0,)}, "MissingParameter", f"{FIRST}.Values"),
        (
            {"value": None, "summary": Summary(0, 1, 1, 1)},
            "InvalidParameterValue",
            f"{FIRST}.StatisticValues.SampleCount",
        ),
        ({"value": None, "summary": Summary(1, 1, 2, 1)}, "InvalidParameterValue", f"{FIRST}.StatisticValues.Maximum"),
    ],
)
def test_what_a_datum_may_not_be(change: dict[str, Any], code: str, field: str) -> None:
    assert refused(check_put, "N", [replace(PLAIN, **change)], NOW)[:2] == (code, field)


def test_what_a_request_may_not_be() -> None:
    assert refused(check_put, "", [PLAIN], NOW)[:2] == ("MissingParameter", "Namespace")
    assert refused(check_put, ":x", [PLAIN], NOW)[:2] == ("InvalidParameterValue", "Namespace")
    assert refused(check_put, "AWS/EC2", [PLAIN], NOW)[1] == "Namespace"
    assert check_put("AWS/EC2", [PLAIN], NOW, service=True)
    assert refused(check_put, "N", [], NOW)[:2] == ("MissingParameter", "MetricData")
    most = limits.DATA_PER_PUT_MAX
    code, field, text = refused(check_put, "N", [PLAIN] * (most + 1), NOW)
    assert (code, field) == ("InvalidParameterValue", "MetricData")
    assert text == "The collection MetricData must not have a size greater than 1,000."
    assert len(check_put("N", [PLAIN] * most, NOW)) == most


def test_what_a_datum_becomes() -> None:
    [one] = check_put("N", [replace(PLAIN, dimensions={"b": "2", "a": "1"})], NOW)
    assert one.dimensions == (("a", "1"), ("b", "2"))
    assert (one.unit, one.time, one.values, one.counts, one.width) == ("None", NOW, (1.0,), (1.0,), 60)
    given = GivenDatum("x", values=(1, 2), counts=(3, 4), unit="Bytes", timestamp=NOW - 5, width=1)
    [two] = check_put("N", [given], NOW)
    assert (two.unit, two.time, two.values, two.counts, two.width) == ("Bytes", NOW - 5, (1.0, 2.0), (3.0, 4.0), 1)
    [three] = check_put("N", [GivenDatum("x", summary=Summary(2, 5, 1, 4))], NOW)
    assert three.summary == (2.0, 5.0, 1.0, 4.0)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Average", Statistic("Average")),
        ("p0", Statistic("p", 0.0)),
        ("p99.9", Statistic("p", 0.9990000000000001)),
        ("p100", Statistic("p", 1.0)),
    ],
)
def test_names_of_statistics(name: str, meant: Statistic) -> None:
    kind, quantile = parse(name)
    assert kind == meant.kind
    assert quantile == pytest.approx(meant.quantile)


@pytest.mark.parametrize("name", ["tm90", "TM(10%:90%)", "wm98", "PR(:100)", "tc90", "ts90", "IQM"])
def test_statistics_that_need_single_values_are_refused_by_name(name: str) -> None:
    code, _, text = refused(parse, name)
    assert code == "UnsupportedOperation"
    assert name in text


@pytest.mark.parametrize("name", ["", "average", "p", "p101", "p-1", "p99.9x", "Sum "])
def test_no_statistics(name: str) -> None:
    assert refused(parse, name)[0] == "InvalidParameterValue"


@pytest.mark.parametrize("period", [1, 5, 10, 20, 30, 60, 300, 86_400])
def test_periods(period: int) -> None:
    assert check_period(period) == period


@pytest.mark.parametrize("period", [0, -60, 2, 15, 45, 61, 90, 86_460])
def test_no_periods(period: int) -> None:
    assert refused(check_period, period)[:2] == ("InvalidParameterValue", "Period")
