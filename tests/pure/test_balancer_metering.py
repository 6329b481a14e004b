"""Times of answers: lines of HAProxy's, samples that stand for more, and what is reported of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from minicloud.balancer import commands as ask
from minicloud.balancer import groups, listeners
from minicloud.balancer.commands import HealthSpec
from minicloud.balancer.metering import Meter
from minicloud.proxy.timing import BUSY_RATE, ONE_OF, Ring, Sampled, count
from tests.pure.balancer_bench import HOME, Bench, forward


def counted(*lines: bytes) -> dict[str, dict[int, int]]:
    into: dict[str, Counter[int]] = {}
    count(lines, into)
    return {backend: dict(times) for backend, times in into.items()}


def test_a_line_is_a_request_or_stands_for_many() -> None:
    busy = b"- tg-a 5 %d" % (BUSY_RATE + 1)
    assert counted(b"- tg-a 5 3", b"- tg-a 5 %d" % BUSY_RATE, busy, b"- tg-b_open 0 1") == {
        "tg-a": {5: 2 + ONE_OF},
        "tg-b_open": {0: 1},
    }
    assert counted(b"- tg-a 1234 1", b"- tg-a 98765 1") == {"tg-a": {1230: 1, 98800: 1}}


def test_an_access_log_line_has_the_same_numbers_whatever_was_asked_for() -> None:
    head = b"http 2026-01-01T00:00:00Z app/web/1 10.0.0.1:5 10.0.0.2:80 0 17 1 200 10 20 "
    assert counted(head + b'"GET http://1.2.3.4:80/a b c HTTP/1.1" tg-a --') == {"tg-a": {17: 1}}


@pytest.mark.parametrize("line", [b"", b"- ", b"- a b", b"- tg-a -1 5", b"- tg-a x 5", b"\xff\xfe", b"a b c d e f g"])
def test_what_is_no_time_is_passed_over(line: bytes) -> None:
    assert counted(line) == {}


def test_the_rule_for_a_rate_is_the_weight_of_its_line() -> None:
    assert Sampled().render().endswith(f"if {{ fe_req_rate gt {BUSY_RATE} }} !{{ rand({ONE_OF}) -m int 0 }}")


def test_a_ring_is_a_section_with_a_quoted_socket() -> None:
    lines = list(Ring("/tmp/it's/x").render())
    assert lines[0] == "ring times" and lines[-1] == "server reader 'unix@/tmp/it'\\''s/x' log-proto legacy"


def stat(proxy: str, server: str, **counters: int) -> Any:
    names = ("req_tot", "stot", "conn_tot", "bin", "bout", "econ", "dcon", "dses", "scur", "rtime")
    empty = dict.fromkeys((*names, *(f"hrsp_{one}xx" for one in range(2, 6))), "")
    return {**empty, "pxname": proxy, "svname": server, **{name: str(value) for name, value in counters.items()}}


def test_a_function_has_no_connections_and_without_checks_no_health() -> None:
    bench = Bench()
    group = bench.group("f", "", port=0, target_type="lambda")
    bench.listener(bench.balancer(), forward(group))
    section, meter = groups.section(group), Meter()
    for checked in (False, True):
        bench.submit(ask.ModifyGroup(HOME, group.arn, HealthSpec(enabled=checked)))
        meter.read(1, [stat(section, "function", hrsp_2xx=3, econ=1)])
        names = {one.name for one in meter.report(bench.state, {}, 60.0)[0].readings}
        assert ("HealthyHostCount" in names) == checked
        assert "RequestCount" in names and "TargetConnectionErrorCount" not in names


def test_a_sample_stands_for_every_answer_that_was_counted() -> None:
    bench = Bench()
    group = bench.group()
    bench.listener(bench.balancer(), forward(group))
    section, meter = groups.section(group), Meter()
    meter.read(1, [stat(section, "a", hrsp_2xx=900), stat(section + "_open", "a", hrsp_5xx=100)])
    reports = meter.report(bench.state, {section: {2: 30, 4: 10}, section + "_open": {1_000: 10}}, 60.0)
    of_group = [one for one in reports if ("TargetGroup", group.arn.split(":", 5)[5]) in one.dimensions]
    assert len(of_group) == 2 and all(one.time == 60.0 for one in of_group)
    (times,) = [reading for reading in of_group[0].readings if reading.name == "TargetResponseTime"]
    assert dict(zip(times.values, times.counts, strict=True)) == {0.002: 600.0, 0.004: 200.0, 1.0: 200.0}
    names = {reading.name for reading in meter.report(bench.state, {}, 120.0)[0].readings}
    assert names == {"RequestCount", "RequestCountPerTarget", "HealthyHostCount", "UnHealthyHostCount"}


def test_what_is_open_is_counted_once_however_often_it_was_read() -> None:
    bench = Bench()
    balancer = bench.balancer()
    section, meter = listeners.section(bench.listener(balancer, forward(bench.group()))), Meter()
    for _ in range(3):
        meter.read(1, [stat(section, "FRONTEND", scur=4, conn_tot=6)])
    values = {each.name: each.values for one in meter.report(bench.state, {}, 60.0) for each in one.readings}
    assert (values["ActiveConnectionCount"], values["NewConnectionCount"]) == ((4.0,), (6.0,))
