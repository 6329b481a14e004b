"""Load balancers of a real cloud: traffic to instances that come, die, stop and drain; processes that are killed."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from minicloud.base.errors import InvalidRequest
from minicloud.client import Client
from minicloud.client.balancer_models import Balancer, fixed_response, forward
from minicloud.client.models import Instance
from tests.doors.test_functions import package
from tests.group_site import killed
from tests.real_cloud import RealCloud, kill, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]

PORT = 8080
SERVE = f"#!/bin/sh\nsetsid python3 -m minicloud_workers.http_server --port {PORT} </dev/null &\n"


@dataclass
class Load:
    """Requests one after the other until told to stop: who answered, and what failed, with the moment when it was asked
    (monotonic seconds)."""

    url: str
    served: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.005):
            asked = time.monotonic()
            try:
                self.served[ask(self.url)] += 1
            except OSError as error:
                self.failed.append((asked, repr(error)))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def ask(url: str) -> str:
    with urllib.request.urlopen(f"{url}/info", timeout=10) as reply:
        return str(json.load(reply)["instance_id"])


@pytest.fixture
def site(client: Client) -> Iterator[tuple[Balancer, str, list[Instance]]]:
    """A balancer in front of two healthy instances; their group is `app-...`."""
    name = f"t{time.time_ns() % 10**10}"
    instances = list(client.instances.launch("t3.nano", count=2, user_data=SERVE, wait=True, strategy="spread"))
    client.target_groups.create(name, PORT, path="/health", interval_s=5, timeout_s=2, healthy=2, unhealthy=2)
    client.target_groups.register(name, *[one.id for one in instances])
    made = client.balancers.create(name)
    client.balancers.listen(name, 80, forward(name))
    until(lambda: states(client, name) == {one.id: "healthy" for one in instances}, 20, "both are healthy")
    yield made, name, instances
    client.balancers.delete(name)
    client.target_groups.delete(name)
    client.instances.terminate(*[one.id for one in instances])


def states(client: Client, group: str) -> dict[str, str]:
    return {one.id: one.state for one in client.target_groups.health(group)}


def test_requests_go_round_and_an_instance_that_dies_is_not_missed(
    cloud: RealCloud, client: Client, site: tuple[Balancer, str, list[Instance]]
) -> None:
    balancer, group, (one, two) = site
    url = f"http://{balancer.address}"
    assert Counter(ask(url) for _ in range(20)) == {one.id: 10, two.id: 10}
    load = Load(url)
    try:
        until(lambda: len(load.served) == 2, 5)
        guests = cloud.guest_pids(one.id)
        death = killed(guests[0], guests)
        until(lambda: states(client, group)[one.id] == "unused", 15, "the dead instance is out")
        ejected = time.monotonic()
        before = load.served[two.id]
        until(lambda: load.served[two.id] > before + 50, 10)
    finally:
        load.stop()
    print(f"ejected after {ejected - death.killed:.2f} s; {len(load.failed)} failed, {load.served.total()} served")
    assert not [error for asked, error in load.failed if asked > death.over]
    (target,) = client.target_groups.health(group, one.id)
    assert (target.reason, target.address) == ("Target.InvalidState", "")
    client.instances.start(one.id)
    until(lambda: client.target_groups.health(group, one.id)[0].address, 15, "it is a target again by itself")


def test_what_is_deregistered_drains(client: Client, site: tuple[Balancer, str, list[Instance]]) -> None:
    balancer, group, (one, two) = site
    url = f"http://{balancer.address}"
    took: list[float] = []

    def work() -> None:
        with urllib.request.urlopen(f"{url}/work?ms=3000", timeout=60) as reply:
            reply.read()
        took.append(time.monotonic())

    slow = [threading.Thread(target=work) for _ in range(2)]  # round robin: one on each
    for each in slow:
        each.start()
    time.sleep(1)  # until they are there: each burns three seconds of CPU
    (left,) = client.target_groups.deregister(group, one.id)
    assert (left.state, left.reason) == ("draining", "Target.DeregistrationInProgress")
    assert {ask(url) for _ in range(10)} == {two.id}
    assert not took  # requests in flight go on
    for each in slow:
        each.join()
    assert len(took) == 2
    until(lambda: states(client, group) == {two.id: "healthy"}, 10, "it is gone once nothing is in flight")


def test_terminated_instances_leave_stopped_ones_stay(
    client: Client, site: tuple[Balancer, str, list[Instance]]
) -> None:
    _, group, (one, two) = site
    client.instances.stop(one.id)
    until(lambda: states(client, group)[one.id] == "unused", 10)
    client.instances.terminate(two.id)
    until(lambda: states(client, group) == {one.id: "unused"}, 10, "the terminated one is no target any more")
    with pytest.raises(InvalidRequest, match="not in a running state"):
        client.target_groups.register(group, two.id)


def test_a_balancer_process_that_dies_costs_no_request(
    cloud: RealCloud, client: Client, site: tuple[Balancer, str, list[Instance]]
) -> None:
    balancer, _, (one, two) = site
    load = Load(f"http://{balancer.address}")
    try:
        until(lambda: len(load.served) == 2, 5)
        kill(cloud.actor_pids("Balancer")[0])
        assert client.balancers.get(balancer.arn).name == balancer.name  # waits for it
        before = load.served.total()
        until(lambda: load.served.total() > before + 50, 10)
    finally:
        load.stop()
    assert not load.failed and set(load.served) == {one.id, two.id}


def test_processes_that_die_are_back_within_two_seconds(cloud: RealCloud, client: Client) -> None:
    name = f"k{time.time_ns() % 10**10}"
    made = client.balancers.create(name)
    client.balancers.listen(name, 80, fixed_response(200, "here"))
    url = f"http://{made.address}/"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=20) as reply:
                return bool(reply.read() == b"here")
        except OSError:
            return False

    def haproxy() -> int:
        rows = json.loads((cloud.data / "run" / "balancer-0.json").read_text())["processes"]
        return int(rows[-1]["pid"]) if rows else 0

    def back(victim: Callable[[], int]) -> float:
        before, pid, began = haproxy(), victim(), time.monotonic()
        kill(pid)
        until(lambda: haproxy() not in (0, before) and answers(), 10, "it is back")
        return time.monotonic() - began

    try:
        for victim in (haproxy, lambda: cloud.actor_pids("Balancer")[0]):
            took = [back(victim)]
            while min(took) > 5 and len(took) < 4:  # this machine may have been busy
                took.append(back(victim))
            print(f"back after {min(took):.2f} s")
            assert min(took) < 5, took
        assert client.balancers.get(name) == made
    finally:
        client.balancers.delete(name)


def test_no_haproxy_crashes_at_its_start(cloud: RealCloud, client: Client) -> None:
    """Children of a process that speaks gRPC: its fork handlers must leave them alone (cluster/actors.py)."""
    name = f"r{time.time_ns() % 10**10}"
    client.balancers.create(name)
    try:
        for port in range(9000, 9016):
            client.balancers.listen(name, port, fixed_response(200, "up"))
    finally:
        client.balancers.delete(name)
    assert "ended with status -11" not in (cloud.data / "log" / "balancer-0.log").read_text()


def test_status_shows_the_balancer_process(cloud: RealCloud) -> None:
    shown: dict[str, Any] = json.loads(cloud.cli("status", "--data-dir", str(cloud.data), "-o", "json").stdout)
    assert [(one["name"], one["state"]) for one in shown["balancers"]] == [("balancer-0", "up")]


def test_the_command_line_puts_a_function_behind_a_balancer(cloud: RealCloud, client: Client) -> None:
    name = f"l{time.time_ns() % 10**10}"
    code = package('def handler(event, context): return {"statusCode": 200, "body": event["path"]}')
    arn = client.functions.create(name, code, runtime="python3.11", handler="app.handler").arn
    try:
        assert cloud.cli("target-group", "create", name, check=False).returncode == 2, "instances need a port"
        cloud.cli("target-group", "create", name, "--type", "lambda")
        cloud.cli("target-group", "register", name, arn)
        cloud.cli("target-group", "register", name, arn)
        address = client.balancers.create(name).address
        cloud.cli("balancer", "listen", name, "80", "--to", name)
        with urllib.request.urlopen(f"http://{address}/hello", timeout=20) as answer:
            assert answer.read() == b"/hello"
        (target,) = json.loads(cloud.cli("target-group", "health", name, "-o", "json").stdout)
        assert (target["id"], target["state"]) == (arn, "unavailable")
        cloud.cli("target-group", "modify", name, "--health", "--interval", "5", "--timeout", "2")
        until(lambda: client.target_groups.health(name)[0].state == "healthy", 20, "its checks")
        cloud.cli("target-group", "deregister", name, arn)
        assert client.target_groups.health(name) == ()
    finally:
        client.balancers.delete(name)
        client.target_groups.delete(name)
        client.functions.delete(name)


def test_the_command_line(cloud: RealCloud, client: Client) -> None:
    name = f"c{time.time_ns() % 10**10}"
    try:
        cloud.cli("target-group", "create", name, "--port", "80", "--type", "ip", "--path", "/up")
        cloud.cli("target-group", "register", name, "127.0.0.1:9")
        cloud.cli("balancer", "create", name)
        cloud.cli("balancer", "listen", name, "80", "--to", f"{name}=3")
        cloud.cli("balancer", "rule", f"{name}:80", "10", "--path", "/old/*", "--redirect", "https://#{host}:443/new")
        rules = json.loads(cloud.cli("balancer", "rules", f"{name}:80", "-o", "json").stdout)
        assert [one["priority"] for one in rules] == [10, 0]
        assert rules[0]["action"]["protocol"] == "HTTPS" and rules[0]["action"]["path"] == "/new"
        assert "127.0.0.1" in cloud.cli("target-group", "health", name).stdout
        wrong = cloud.cli("balancer", "listen", name, "80", "--fixed", "200", check=False)
        assert wrong.returncode == 1 and "DuplicateListener" in wrong.stderr
    finally:
        client.balancers.delete(name)
        client.target_groups.delete(name)
