"""How long from an alarm's breach to the first new instance in service behind the balancer? In parts, on a real cloud.

A group of one instance behind a balancer, and clients that ask without pause. A metric crosses its line; an alarm over
10 s (the shortest that there is) executes a step policy.

    seen        the metric crosses it    -> the period in which it does so has ended: the alarm may look
    alarm       end of the period        -> the alarm is in ALARM
    decision    ALARM                    -> the new desired capacity is on disk
    launch      decision                 -> the launcher has answered: the instance has an id
    running     launch                   -> compute says running
    in service  running                  -> the group has it in service
    healthy     in service               -> the balancer's checks have found it healthy
    served      healthy                  -> the first answer of it that a client has got

The reference, alternating in the same run: an instance that is launched by hand from the same template, registered with
the same target group by hand as soon as it runs, until the first answer. The difference of the totals, from ALARM on,
is what the group costs. The clock is the machine's; states come by streams, health is asked for every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from our_cloud import OurCloud

from minicloud import Client
from minicloud.client.balancer_models import forward
from minicloud.client.group_models import Step
from minicloud.client.metric_models import Metric
from minicloud.client.models import TemplateData

NAME, TYPE, PORT = "reaction", "t3.nano", 8080
SERVE = f"#!/bin/sh\nsetsid python3 -m minicloud_workers.http_server --port {PORT} </dev/null &\n"
METRIC = ("Bench/Reaction", "Load")
PERIOD_S = 10
THRESHOLD = 50.0
LEFT_S = 2.0  # of the period, when the metric crosses its line
INTERVAL_S = 5  # of health checks: the shortest that there is
PARTS = ("seen", "alarm", "decision", "launch", "running", "in service", "healthy", "served")
ASK_S = 0.02
WAIT_S_MAX = 90.0


class Clients:
    """One client that asks without pause; when each instance first answered."""

    def __init__(self, url: str) -> None:
        self.first: dict[str, float] = {}
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(ASK_S):
            try:
                with urllib.request.urlopen(f"{self._url}/info", timeout=5) as reply:
                    found = json.load(reply)["instance_id"]
            except OSError:
                continue
            self.first.setdefault(found, time.time())

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Bench:
    client: Client
    clients: Clients


def make(client: Client) -> Bench:
    client.templates.create(NAME, TemplateData("base", TYPE, user_data=SERVE))
    targets = client.target_groups.create(
        NAME, PORT, path="/health", interval_s=INTERVAL_S, timeout_s=2, healthy=2, unhealthy=2
    )
    client.balancers.set_attributes(targets.arn, {"deregistration_delay.timeout_seconds": "0"})
    balancer = client.balancers.create(NAME)
    client.balancers.listen(NAME, 80, forward(NAME))
    client.groups.create(NAME, NAME, min_size=1, max_size=2, warmup_s=0, target_groups=[targets.arn])
    policy = client.policies.put_steps(NAME, "out", [Step(2, 0.0)], adjustment_type="ExactCapacity")
    client.alarms.put(
        NAME, "GreaterThanThreshold", THRESHOLD, metric=Metric(*METRIC), stat="Maximum", period_s=PERIOD_S,
        missing_data="notBreaching", alarm_actions=[policy.arn],
    )  # fmt: skip
    bench = Bench(client, Clients(f"http://{balancer.address}"))
    until(lambda: bench.clients.first, "the first answer")
    return bench


class Newcomer:
    """The next new member of the group, as its stream and its instance's tell: when each part was done."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._old = {one.number for one in client.groups.members(NAME)}
        self.instance_id = ""
        self.at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for view in self._client.groups.watch(NAME):
            now = time.time()
            for one in view.members:
                if one.number in self._old:
                    continue
                self.at.setdefault("decision", now)
                if one.instance_id and not self.instance_id:
                    self.instance_id = one.instance_id
                    self.at["launch"] = now
                    threading.Thread(target=self._runs, daemon=True).start()
                if one.in_service_time is not None:
                    self.at["in service"] = one.in_service_time.timestamp()
                    return

    def _runs(self) -> None:
        self.at["running"] = until_running(self._client, self.instance_id)


def react(bench: Bench) -> dict[str, float]:
    """Seconds of each part."""
    client, newcomer = bench.client, Newcomer(bench.client)
    before_the_end_of_a_period()
    began = time.time()
    client.metrics.put(*METRIC, 2 * THRESHOLD, resolution_s=1)
    until(lambda: {"running", "in service"} <= newcomer.at.keys(), "an instance in service")
    at = dict(newcomer.at)
    at["seen"] = (began // PERIOD_S + 1) * PERIOD_S
    found = client.alarms.get(NAME)
    assert found is not None and found.changed_time is not None
    at["alarm"] = found.changed_time.timestamp()
    at |= served(bench, newcomer.instance_id)
    order = [began, *(at[part] for part in PARTS)]
    return {part: max(0.0, after - before) for part, before, after in zip(PARTS, order, order[1:], strict=False)}


def by_hand(bench: Bench) -> dict[str, float]:
    """The same instance without a group."""
    client = bench.client
    began = time.time()
    (made,) = client.instances.launch(template=NAME)
    at = {"launch": time.time()}
    at["running"] = until_running(client, made.id)
    client.target_groups.register(NAME, made.id)
    at["in service"] = time.time()
    at |= served(bench, made.id)
    client.target_groups.deregister(NAME, made.id)
    client.instances.terminate(made.id)
    client.instances.wait_until(made.id, "terminated")
    parts = PARTS[PARTS.index("launch") :]
    order = [began, *(at[part] for part in parts)]
    return {part: max(0.0, after - before) for part, before, after in zip(parts, order, order[1:], strict=False)}


def served(bench: Bench, instance_id: str) -> dict[str, float]:
    until(lambda: states(bench.client).get(instance_id) == "healthy", "a healthy target")
    healthy = time.time()
    until(lambda: instance_id in bench.clients.first, "its first answer")
    return {"healthy": healthy, "served": max(healthy, bench.clients.first[instance_id])}


def states(client: Client) -> dict[str, str]:
    return {one.id: one.state for one in client.target_groups.health(NAME)}


def until_running(client: Client, instance_id: str) -> float:
    for change in client.instances.watch([instance_id]):
        if change.state == "running":
            break
    return time.time()


def before_the_end_of_a_period() -> None:
    """LEFT_S before it: how long the rest of a period is, is nobody's merit."""
    now = time.time()
    due = (now // PERIOD_S + 1) * PERIOD_S - LEFT_S
    time.sleep((due if due > now else due + PERIOD_S) - now)


def calm(client: Client) -> None:
    """One instance in service, one target, the alarm at rest."""
    client.groups.set_desired(NAME, 1)

    def is_calm() -> bool:
        client.metrics.put(*METRIC, 0.0, resolution_s=1)
        alarm = client.alarms.get(NAME)
        at_rest = alarm is not None and alarm.state != "ALARM"
        return at_rest and client.groups.get(NAME).stable and list(states(client).values()) == ["healthy"]

    until(is_calm, "one instance, and no alarm", 0.5)


def until(condition: Callable[[], object], what: str, every_s: float = ASK_S) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {WAIT_S_MAX:g} s")
        time.sleep(every_s)


def measure(client: Client, rounds: int) -> dict[str, Any]:
    bench = make(client)
    ours, theirs = [], []
    for number in range(rounds + 1):
        theirs.append(by_hand(bench))
        calm(client)
        ours.append(react(bench))
        calm(client)
        print(
            f"round {number}: {sum(ours[-1].values()):.2f} s, by hand {sum(theirs[-1].values()):.2f} s", file=sys.stderr
        )
    bench.clients.close()
    return {"ours": ours[1:], "by hand": theirs[1:]}  # the first round pays for what is made once


def report(found: dict[str, Any], as_json: bool) -> int:
    medians = {
        side: {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
        for side, rounds in found.items()
    }
    own = sum(seconds for part, seconds in medians["ours"].items() if part not in ("seen", "alarm"))
    hand = sum(medians["by hand"].values())
    result = {
        "rounds": len(found["ours"]),
        "s": medians,
        "total_s": sum(medians["ours"].values()),
        "from_alarm_s": own,
        "by_hand_s": hand,
        "health_interval_s": INTERVAL_S,
    }
    if as_json:
        print(json.dumps(result))
        return 0
    print(f"{'':<12}{'group':>10}{'by hand':>10}   seconds, medians of {len(found['ours'])}")
    for part in PARTS:
        hands = medians["by hand"].get(part)
        print(f"{part:<12}{medians['ours'][part]:>10.3f}{'' if hands is None else f'{hands:.3f}':>10}")
    print(f"{'from ALARM':<12}{own:>10.3f}{hand:>10.3f}   the group costs {own - hand:+.3f} s")
    print(f"{'in all':<12}{result['total_s']:>10.3f}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mc-", dir="/tmp") as folder:
        cloud = OurCloud()
        cloud.start(Path(folder))
        try:
            with Client(cloud.endpoint) as client:
                found = measure(client, args.rounds)
        finally:
            cloud.stop()
    return report(found, args.json)


if __name__ == "__main__":
    sys.exit(main())
