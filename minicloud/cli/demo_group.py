"""The part of `minicloud demo` in which a group behind a balancer follows its load, and loses a host.

    clients ask at a constant rate --> balancer --> instances of the group
       | each second: how many requests there were, as a metric
       v
    two alarms on ten seconds of it --> two step policies --> capacity

Ten seconds is the shortest period that an alarm can have, here as at AWS; groups that follow the average CPU take
minutes on purpose.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minicloud.base.errors import Internal
from minicloud.cli.demo_story import Story

if TYPE_CHECKING:
    from minicloud.client import Client

NAME = "demo"
TYPE = "t2.nano"
SERVE = "#!/bin/sh\nexec setsid python3 -m minicloud_workers.http_server --port {port} </dev/null &\n"
METRIC = ("Demo/Web", "RequestsPerSecond")
CALM, BUSY, QUIET = 10, 30, 2  # requests a second: at first, tripled, at night
SMALL, LARGE = 2, 4  # instances
HIGH, LOW = 20.0, 5.0  # requests a second
PERIOD_S = 10
WAIT_S_MAX = 60.0
ASK_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Failure:
    began: float
    ended: float
    text: str


class Clients:
    """Ask at a constant rate, each request on a connection of its own; report how many there were each second."""

    def __init__(self, url: str, report: Callable[[float], None]) -> None:
        self.rate = CALM
        self.served: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self._url, self._report = url, report
        self._over = threading.Event()
        self._asking: list[threading.Thread] = []
        self._threads = [threading.Thread(target=run) for run in (self._ask_on, self._report_on)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in (*self._threads, *self._asking):
            thread.join()

    @property
    def asked(self) -> int:
        return self.served.total() + len(self.failures)

    def _ask_on(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += 1 / self.rate
            one = threading.Thread(target=self._ask)
            one.start()
            self._asking = [each for each in self._asking if each.is_alive()] + [one]

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=ASK_S_MAX) as reply:
                reply.read()
            self.served[reply.headers.get("Server", "")] += 1
        except OSError as error:
            self.failures.append(Failure(began, time.monotonic(), str(error)))

    def _report_on(self) -> None:
        before, at = 0, time.monotonic()
        while not self._over.wait(1.0):
            count, now = self.asked, time.monotonic()
            self._report((count - before) / (now - at))
            before, at = count, now


def follow_the_load(story: Story, client: Client, port: int, lose_a_host: Callable[[], None]) -> None:
    """Raises Internal where something is not as it should be."""
    url = _make(client, port)
    _await(client, SMALL)
    story.say(f"{SMALL} instances of a group serve behind a balancer at {url}")
    with Clients(url, lambda value: client.metrics.put(*METRIC, value, resolution_s=1)) as clients:
        _until(lambda: clients.asked >= CALM, "the first requests")
        began = time.monotonic()
        clients.rate = BUSY
        _await(client, LARGE)
        story.done("scale out", f"the load triples: {LARGE} instances serve {time.monotonic() - began:.1f} s later")
        killed = time.monotonic()
        lose_a_host()
        told = time.monotonic()
        _await(client, LARGE)
        story.done("heal", f"{LARGE} instances serve again {time.monotonic() - killed:.1f} s after the host was killed")
        began = time.monotonic()
        clients.rate = QUIET
        _await(client, SMALL)
        story.done(
            "scale in", f"the load is gone: {SMALL} instances {time.monotonic() - began:.1f} s later, drained first"
        )
    _judge(story, clients, killed, told)
    _clean(client)


def _make(client: Client, port: int) -> str:
    """Template, target group, balancer, group, policies, alarms. Returns the balancer's URL."""
    from minicloud.client.balancer_models import forward
    from minicloud.client.group_models import Step
    from minicloud.client.metric_models import Metric
    from minicloud.client.models import TemplateData

    client.templates.create(NAME, TemplateData("base", TYPE, user_data=SERVE.format(port=port)))
    targets = client.target_groups.create(NAME, port, path="/health", interval_s=5, timeout_s=2, healthy=2, unhealthy=2)
    client.balancers.set_attributes(targets.arn, {"deregistration_delay.timeout_seconds": "2"})
    balancer = client.balancers.create(NAME)
    client.balancers.listen(NAME, 80, forward(NAME))
    client.groups.create(
        NAME, NAME, min_size=SMALL, max_size=LARGE, health_types=["EC2", "ELB"], grace_s=30, warmup_s=0,
        target_groups=[targets.arn],
    )  # fmt: skip
    out = client.policies.put_steps(NAME, "out", [Step(LARGE, 0.0)], adjustment_type="ExactCapacity")
    back = client.policies.put_steps(NAME, "in", [Step(SMALL, None, 0.0)], adjustment_type="ExactCapacity")
    metric = Metric(*METRIC)
    client.alarms.put(
        "demo-busy", "GreaterThanThreshold", HIGH, metric=metric, stat="Maximum", period_s=PERIOD_S,
        alarm_actions=[out.arn],
    )  # fmt: skip
    client.alarms.put(
        "demo-quiet", "LessThanThreshold", LOW, metric=metric, stat="Minimum", period_s=PERIOD_S,
        alarm_actions=[back.arn],
    )  # fmt: skip
    return f"http://{balancer.address}"


def _await(client: Client, count: int) -> None:
    """So many are in service, all of them healthy targets, and there are no others."""

    def whole() -> bool:
        if not (group := client.groups.get(NAME)).stable or group.desired != count:
            return False
        return [one.state for one in client.target_groups.health(NAME)] == ["healthy"] * count

    _until(whole, f"{count} instances that serve")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise Internal(f"{what}: not within {WAIT_S_MAX:g} s")
        time.sleep(0.1)


def _judge(story: Story, clients: Clients, killed: float, told: float) -> None:
    """What was under way on the host when it was killed may fail, and nothing else."""
    others = [one for one in clients.failures if not one.began <= told or not one.ended >= killed]
    if others:
        raise Internal(f"{len(others)} requests failed that no dead instance had: {others[0].text}")
    lost = len(clients.failures)
    which = ": under way on the host that was killed" if lost else ""
    story.done("traffic", f"{clients.asked} requests, {lost} failed{which}")


def _clean(client: Client) -> None:
    client.alarms.delete("demo-busy", "demo-quiet")
    client.groups.delete(NAME, force=True)
    client.groups.wait_gone(NAME)
    client.balancers.delete(NAME)
    client.target_groups.delete(NAME)
