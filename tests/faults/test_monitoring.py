"""SIGKILL of the autoscaler while it is written to: acknowledged logs stay, alarms go on, metrics lose seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from minicloud.client.metric_models import Metric, MetricQuery
from tests.real_cloud import RealCloud, real_cloud, until

pytestmark = [pytest.mark.timeout(480), pytest.mark.ray]

KILLS = 3


@pytest.fixture(scope="module")
def cloud() -> Iterator[RealCloud]:
    with real_cloud("--hosts", "1") as made:
        yield made


def kill_the_autoscaler(cloud: RealCloud) -> None:
    (pid,) = until(lambda: cloud.actor_pids("Autoscaler"), 20, "the autoscaler")
    os.kill(pid, signal.SIGKILL)
    until(lambda: [one for one in cloud.actor_pids("Autoscaler") if one != pid], 20, "another autoscaler")


def test_what_a_log_acknowledged_survives_kills(cloud: RealCloud) -> None:
    with cloud.client() as client:
        client.logs.create_group("/app")
        client.logs.create_stream("/app", "one")
        acknowledged: list[str] = []
        stop = threading.Event()

        def write() -> None:
            number = 0
            with cloud.client() as own:
                while not stop.is_set():
                    batch = [f"line {number + at}" for at in range(5)]
                    own.logs.put("/app", "one", batch)
                    acknowledged.extend(batch)
                    number += len(batch)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(KILLS):
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before + 200, 30, "lines written")  # noqa: B023  it is called at once
            kill_the_autoscaler(cloud)
        before = len(acknowledged)
        until(lambda: len(acknowledged) > before + 50, 30, "lines written after the last kill")
        stop.set()
        writer.join(30)
        found = [event.message for event in client.logs.filter("/app")]
        assert set(acknowledged) <= set(found), "an acknowledged line is lost"
        doubled = len(found) - len(set(found))
        assert doubled <= 5 * (KILLS + 1), "only calls whose answer was lost are made again"
        print(f"{len(acknowledged)} lines acknowledged over {KILLS} kills, {doubled} of them twice")


def test_alarms_and_what_was_on_disk_survive_a_kill(cloud: RealCloud) -> None:
    with cloud.client() as client:
        load = Metric("My/App", "Load")
        client.alarms.put("hot", "GreaterThanThreshold", 1, metric=load, period_s=10)
        client.metrics.put("My/App", "Load", 5.0)
        time.sleep(8)  # longer than a flush (5 s) takes
        client.alarms.set_state("hot", "OK", "by hand")
        kill_the_autoscaler(cloud)
        found = client.alarms.get("hot")
        assert found is not None
        history = [item.kind for item in client.alarms.history("hot")]
        assert {"StateUpdate", "ConfigurationUpdate"} <= set(history)
        (line,) = client.metrics.get([MetricQuery("m", load, "Sum", 60)])
        assert sum(line.values) == 5.0
        client.metrics.put("My/App", "Load", 7.0, resolution_s=1)
        until(lambda: getattr(client.alarms.get("hot"), "state", "") == "ALARM", 40, "the alarm")
