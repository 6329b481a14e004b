"""Scaling policies on a real cloud: what is measured becomes an alarm, a capacity, and instances in service."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from minicloud.client import Client
from minicloud.client.group_models import Step
from minicloud.client.metric_models import Metric, MetricDatum
from minicloud.client.models import TemplateData
from tests.group_site import Site
from tests.real_cloud import until

pytestmark = [pytest.mark.timeout(480), pytest.mark.ray]

NAMESPACE = "Tests/Scaling"


@pytest.fixture
def site(client: Client) -> Iterator[Site]:
    made = Site.make(client, 1, 4, warmup_s=1)
    made.await_whole(1)
    yield made
    made.end()


class Feed:
    """One value of a metric of ten seconds' resolution, once a second, until told to stop."""

    def __init__(self, client: Client, name: str, value: Callable[[], float]) -> None:
        self._client, self._name, self._value = client, name, value
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(1.0):
            self._client.metrics.put_data(NAMESPACE, [MetricDatum(self._name, self._value(), resolution_s=1)])

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def test_an_alarm_s_breach_becomes_an_instance_in_service(client: Client, site: Site) -> None:
    name = site.name
    topic = client.topics.create(name)
    queue = client.queues.create(name)
    client.topics.subscribe(topic.arn, "sqs", queue.arn)
    policy = client.policies.put_steps(name, "out", [Step(1, 0.0, 30.0), Step(2, 30.0)])
    client.alarms.put(
        name, "GreaterThanThreshold", 50.0, metric=Metric(NAMESPACE, name, {}), period_s=10,
        alarm_actions=[policy.arn, topic.arn],
    )  # fmt: skip
    began = time.monotonic()
    feed = Feed(client, name, lambda: 90.0)
    try:
        (message,) = until(lambda: client.queues.receive(queue.name, wait_s=5), 40, "the topic is told")
        told = json.loads(json.loads(message.body)["Message"])
        alarmed = time.monotonic()
        assert (told["AlarmName"], told["NewStateValue"]) == (name, "ALARM")
        site.await_whole(3)
        print(f"alarm {alarmed - began:.1f} s after the first value, serving {time.monotonic() - alarmed:.1f} s later")
    finally:
        feed.stop()
        client.alarms.delete(name)
        client.topics.delete(topic.arn)
        client.queues.delete(queue.name)
    causes = [one.cause for one in client.groups.activities(name)]
    assert any(f"{name} in state ALARM triggered policy out" in cause for cause in causes), causes


def test_target_tracking_follows_a_load(client: Client, site: Site) -> None:
    name = site.name
    metric = {"MetricName": name, "Namespace": NAMESPACE, "Statistic": "Average", "Period": 10}
    client.policies.put_target_tracking(name, "even", 50.0, customized=metric, warmup_s=20)
    feed = Feed(client, name, lambda: 150.0 / max(1, len(site.in_service())))
    try:
        until(lambda: len(site.in_service()) == 3, 90, "the load of three has three")
        until(lambda: used(client, name), 90, "the group's own CPU is measured")
    finally:
        feed.stop()
    assert len(site.in_service()) == 3


def used(client: Client, group: str) -> bool:
    dimensions = {"AutoScalingGroupName": group}
    found = client.metrics.statistics("AWS/EC2", "CPUUtilization", ["Average", "SampleCount"], dimensions=dimensions)
    return bool(found)


def test_two_weeks_of_history_become_a_forecast_and_a_group_that_is_ahead_of_it(client: Client) -> None:
    name = f"ahead{time.time_ns() % 10**10}"
    now = time.time() // 900 * 900
    times = [now - back * 900 for back in range(14 * 96 - 8, 0, -1)]
    data = [MetricDatum(name, wave(at), time=at) for at in times]
    for first in range(0, len(data), 1_000):
        client.metrics.put_data(NAMESPACE, data[first : first + 1_000])
    query = {"Id": "all", "MetricStat": {"Metric": {"Namespace": NAMESPACE, "MetricName": name}, "Stat": "Average"}}
    load = {"CustomizedLoadMetricSpecification": {"MetricDataQueries": [query]}}
    client.templates.create(name, TemplateData("base", "t3.nano"))
    client.groups.create(name, name, min_size=0, max_size=4)
    try:
        client.policies.put_predictive(name, "ahead", 100.0, customized=load, mode="ForecastAndScale", buffer_s=900)
        forecast = until(lambda: seen if (seen := client.policies.forecast(name, "ahead")).times else None, 30)
        assert len(forecast.times) == 192 and abs(forecast.times[0] - now) <= 900
        truth = [wave(at) for at in forecast.times]
        assert sum(abs(one - other) for one, other in zip(forecast.load, truth, strict=True)) < 0.05 * sum(truth)
        group = client.groups.wait_stable(name)
        assert group.desired in forecast.capacity[:3] and group.desired >= 2
        assert any("the forecast asks for" in one.cause for one in client.groups.activities(name))
    finally:
        client.groups.delete(name, force=True)
        client.groups.wait_gone(name)
        client.templates.delete(name)


def wave(at: float) -> float:
    """Of a day: two to three times what one instance bears."""
    return 240 - 50 * math.cos(2 * math.pi * at / 86_400)
