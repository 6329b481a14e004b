"""Scaling policies on a real cloud: what is measured becomes an alarm, a capacity, and instances in service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from minicloud.client import Client
from minicloud.client.group_models import Step
from minicloud.client.metric_models import Metric, MetricDatum
from tests.group_site import Site
from tests.real_cloud import until

pytestmark = [pytest.mark.timeout(240), pytest.mark.ray]

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
